"""Properties that hold for any grid, stages, keep ratios and variant."""

from itertools import chain
from math import prod
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from napari_tokensparse.model.config import SCDConfig
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD

PATCH = 2
SIDES = st.tuples(*[st.integers(1, 4)] * 3)
RATIOS = st.one_of(st.floats(1e-3, 1.0), st.just(1.0), st.just(1e-6))
FEW = settings(deadline=None, max_examples=25)


@st.composite
def configs(draw: st.DrawFn, completions: tuple[str, ...] = ()) -> SCDConfig:
    """Draw a small network: any grid, any stages, any keep ratios, any variant."""
    depth = draw(st.integers(1, 4))
    prune_after = sorted(draw(st.sets(st.integers(-1, depth - 1))))
    every = ("mta", "mta-no-linear", "mta-mlp", "mask-token")
    completion = draw(st.sampled_from(completions or every))
    return SCDConfig(
        in_channels=draw(st.integers(1, 2)),
        out_channels=draw(st.integers(1, 3)),
        window=tuple(PATCH * n for n in draw(SIDES)),
        patch_size=PATCH,
        embed_dim=12,
        depth=depth,
        num_heads=2,
        prune_after=tuple(prune_after),
        keep_ratio=tuple(draw(RATIOS) for _ in prune_after),
        predictor=draw(st.sampled_from(("mlp", "attention"))),
        share_predictor=draw(st.booleans()),
        perturbation=draw(st.sampled_from(("gumbel", "none"))),
        relaxation=draw(st.sampled_from(("softmax", "threshold"))),
        tau=draw(st.sampled_from((0.1, 1.0, 3.0))),
        completion=completion,
        forgotten_stages=draw(st.integers(0, len(prune_after))) if completion == "mta" else 0,
        completion_dim=12 if completion == "mta-no-linear" else draw(st.sampled_from((6, 12, 18))),
        completion_heads=2,
        decoder="linear",
    )


def network(config: SCDConfig) -> SCD:
    """Make a network in double precision: no two scores are too close to call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SCD(config).double().eval()


def image_of(config: SCDConfig, batch: int = 2, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = (batch, config.in_channels, *config.window)
    return torch.randn(size, generator=generator, dtype=torch.float64)


def live_tokens(config: SCDConfig) -> list[int]:
    live = [prod(config.grid)]
    for ratio in config.keep_ratio:
        live.append(int(live[-1] * ratio))
    return live


@FEW
@given(configs(), st.booleans())
def test_every_token_is_pruned_at_one_stage_or_kept(config: SCDConfig, training: bool) -> None:
    with torch.no_grad():
        out = network(config).train(training)(image_of(config))
    assert out.logits.shape == (2, config.out_channels, *config.window)
    assert torch.isfinite(out.logits).all()
    live, parts = live_tokens(config), (*out.trace.pruned, out.trace.kept)
    assert [s.shape[1] for s in out.trace.scores] == live[:-1]
    assert [p.shape[1] for p in parts] == [a - b for a, b in zip(live, [*live[1:], 0], strict=True)]
    for row in range(2):
        ids = [part[row].tolist() for part in parts]
        assert all(part == sorted(part) for part in ids)
        assert sorted(chain(*ids)) == list(range(live[0]))


def without_gradient(config: SCDConfig, name: str) -> bool:
    """Whether a parameter has no part in the logits: pruned tokens that a mask token replaces."""
    return config.completion == "mask-token" and "pruned_norm" in name


@FEW
@given(configs())
def test_every_parameter_gets_a_finite_gradient(config: SCDConfig) -> None:
    model = network(config).train()
    model(image_of(config)).logits.square().mean().backward()
    for name, parameter in model.named_parameters():
        if without_gradient(config, name):
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name


@FEW
@given(configs(), st.integers(0, 1))
def test_the_entries_of_a_batch_do_not_influence_one_another(config: SCDConfig, row: int) -> None:
    model, image = network(config), image_of(config)
    other = image_of(config, seed=2)
    other[row] = image[row]
    with torch.no_grad():
        one, two, alone = model(image), model(other), model(image[row : row + 1])
    for a, b in ((one, two), (one, alone)):
        at = 0 if b is alone else row
        for x, y in zip(
            (*a.trace.pruned, a.trace.kept), (*b.trace.pruned, b.trace.kept), strict=True
        ):
            assert torch.equal(x[row], y[at])
        assert torch.allclose(a.logits[row], b.logits[at], rtol=0.0, atol=1e-9)


@FEW
@given(configs(("mta-no-linear",)))
def test_encoder_and_completion_put_every_token_back_where_it_came_from(config: SCDConfig) -> None:
    model: Any = network(config).requires_grad_(False)
    model.encoder.norm = model.completion.out_norm = nn.Identity()
    for stage in model.encoder.stages:
        stage.pruned_norm = nn.Identity()
    for mark in model.completion.layer_tokens:
        mark.zero_()
    model.completion.blocks = nn.ModuleList()
    model.completion.position_table.zero_()
    taken: list[torch.Tensor] = []
    model.decoder.register_forward_pre_hook(lambda _, given: taken.append(given[0]))
    image = image_of(config)
    model(image, skip_blocks=True)
    tokens = model.encoder.embed(image)[:, 1:]
    expected = tokens.transpose(1, 2).unflatten(2, config.grid)
    assert torch.equal(taken[0], expected)


VARIANTS: list[dict[str, Any]] = [
    {"predictor": predictor, "share_predictor": shared, "completion": completion}
    for predictor in ("mlp", "attention")
    for shared in (False, True)
    for completion in ("mta", "mta-no-linear", "mta-mlp", "mask-token")
]


@pytest.mark.parametrize("changes", VARIANTS, ids=lambda c: "-".join(map(str, c.values())))
def test_every_variant_learns_with_the_papers_decoder(changes: dict[str, Any]) -> None:
    config = preset("nano", **changes)
    model = SCD(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    image = torch.randn(1, 1, 32, 32, 32)
    target = (image[:, 0] > 0).long()
    losses = []
    for step in range(6):
        logits = model(image, 0.5, torch.Generator().manual_seed(step)).logits
        loss = nn.functional.cross_entropy(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("decoder", ["unetr", "unetr-x8", "unetr-x8-v2"])
def test_the_dense_baseline_learns_and_uses_its_skips(decoder: str) -> None:
    patch = 16 if decoder == "unetr" else 8
    changes = {"prune_after": (), "keep_ratio": (), "completion": "none", "patch_size": patch}
    config = preset("nano", decoder=decoder, window=(4 * patch,) * 3, **changes)
    model = SCD(config).train()
    taken: list[Any] = []
    model.decoder.register_forward_pre_hook(lambda _, given: taken.extend(given))
    out = model(torch.randn(1, 1, *config.window))
    assert out.logits.shape == (1, 2, *config.window)
    assert out.trace.scores == out.trace.pruned == ()
    token_map, _, skips = taken
    assert len(skips) == len(model.decoder.skips) - 1 == len(config.skip_after)
    assert not any(torch.equal(skip, token_map) for skip in skips)
    out.logits.square().mean().backward()
    unused = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == []
