from typing import Any

import pytest
import torch

from napari_tokensparse.benchmarks.macs import gmacs
from napari_tokensparse.model.decoders.pyramids import CoarseToFineDecoder, GatedPyramidDecoder
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.ratios import rule_of
from napari_tokensparse.model.scd import SCD, as_map


def gated(patch_size: int = 4, **changes: Any) -> tuple[GatedPyramidDecoder, torch.Tensor, Any]:
    """Make a gated pyramid with a token map and an image of its window."""
    config = preset(
        "nano",
        out_channels=3,
        window=(4 * patch_size, 6 * patch_size, 4 * patch_size),
        patch_size=patch_size,
        decoder="gated-pyramid",
        **changes,
    )
    decoder = GatedPyramidDecoder(config).eval()
    return decoder, torch.randn(1, 24, *config.grid), torch.randn(1, 1, *config.window)


@pytest.mark.parametrize("patch_size", [2, 4, 8])
def test_a_gated_pyramid_gives_logits_of_the_windows_shape(patch_size: int) -> None:
    decoder, token_map, image = gated(patch_size)
    with torch.inference_mode():
        logits = decoder(token_map, image, gate=torch.ones(1, 1, 4, 6, 4))
        assert logits.shape == (1, 3, *image.shape[2:])
        assert torch.equal(logits, decoder(token_map, image))
        skips = decoder.image_branch(image)
    assert [s.shape[1] for s in skips] == [2 * 2**n for n in range(patch_size.bit_length() - 1)]


def test_where_the_gate_is_shut_the_image_is_seen_by_one_convolution_alone() -> None:
    """Change one voxel: with the gate shut its neighbours' finest skip is all that it changes."""
    decoder, token_map, image = gated()
    other = image.clone()
    other[0, 0, 8, 12, 8] += 5.0
    with torch.inference_mode():
        ours, theirs = decoder.image_branch(image), decoder.image_branch(other)
        shut = torch.zeros(1, 1, 4, 6, 4)
        # The same finest skip: nothing of the coarser ones passes a shut gate.
        mixed = [theirs[0], ours[1]]
        assert torch.equal(
            decoder(token_map, image, theirs, shut), decoder(token_map, image, mixed, shut)
        )
        ajar = shut.clone()
        ajar[0, 0, 2, 3, 2] = 1.0  # the voxel's own token
        changed = decoder(token_map, image, theirs, ajar) != decoder(token_map, image, mixed, ajar)
    assert changed.any()


def test_the_gate_is_where_the_first_stage_kept_a_token() -> None:
    changes = {"window": (16, 24, 16), "patch_size": 4, "decoder": "gated-pyramid"}
    model = SCD(preset("nano", prune_after=(-1, 3), keep_ratio=(0.5, 0.5), **changes)).eval()
    taken: list[torch.Tensor] = []
    model.decoder.register_forward_pre_hook(
        lambda _, args, kwargs: taken.append(kwargs["gate"]), with_kwargs=True
    )
    with torch.inference_mode():
        trace = model(torch.randn(1, 1, 16, 24, 16), 0.25).trace
    gate = taken[0].flatten()
    assert set(gate.tolist()) == {0.0, 1.0}
    assert gate.nonzero()[:, 0].tolist() == sorted(
        [*trace.pruned[1][0].tolist(), *trace.kept[0].tolist()]
    )


def test_the_score_predictor_learns_through_the_gate() -> None:
    changes = {"window": (16, 24, 16), "patch_size": 4, "decoder": "gated-pyramid"}
    model = SCD(
        preset(
            "nano",
            prune_after=(-1,),
            keep_ratio=(0.5,),
            forgotten_stages=1,
            perturbation="none",
            **changes,
        )
    ).train()
    # Only the gate is left for the scores to act by.
    model.decoder.register_forward_pre_hook(
        lambda _, args, kwargs: ((args[0].detach(), *args[1:]), kwargs), with_kwargs=True
    )
    model(torch.randn(1, 1, 16, 24, 16), 0.5).logits.square().mean().backward()
    gradient = model.encoder.stages[0].predictor.head[0].weight.grad
    assert gradient is not None and gradient.abs().max() > 0


def sparse(**changes: Any) -> tuple[CoarseToFineDecoder, torch.Tensor, torch.Tensor]:
    """Make a decoder that computes voxels in kept tokens alone, with a token map and an image."""
    config = preset(
        "nano",
        in_channels=2,
        out_channels=3,
        window=(16, 24, 32),
        patch_size=4,
        decoder="coarse-to-fine",
        **changes,
    )
    decoder = CoarseToFineDecoder(config).eval()
    with torch.no_grad():  # what it adds is 0 to begin with
        decoder.detail.out.weight.normal_()
        decoder.detail.out.bias.normal_()
    return decoder, torch.randn(2, 24, *config.grid), torch.randn(2, 2, *config.window)


def gate_of(places: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
    gate = torch.zeros(len(places), grid[0] * grid[1] * grid[2]).scatter(1, places, 1.0)
    return gate.view(len(places), 1, *grid)


def test_voxels_of_kept_tokens_are_computed_alone_as_beside_all_others() -> None:
    decoder, token_map, image = sparse()
    places = torch.stack([torch.randperm(192)[:50].sort().values for _ in range(2)])
    gate = gate_of(places, (4, 6, 8))
    with torch.inference_mode():
        alone = decoder(token_map, image, gate=gate, places=places)
        beside = decoder(token_map, image, gate=gate)
    torch.testing.assert_close(alone, beside, rtol=0, atol=1e-5)


def test_a_tokens_logits_have_nothing_to_do_with_how_many_others_are_looked_at() -> None:
    """Given the same skips, which the gate changes too."""
    decoder, token_map, image = sparse()
    few = torch.tensor([[3, 77, 150]] * 2)
    more = torch.tensor([[3, 20, 21, 77, 150, 191]] * 2)
    of_all = gate_of(torch.arange(192).expand(2, -1), (4, 6, 8))
    with torch.inference_mode():
        some, others = (decoder(token_map, image, None, of_all, places) for places in (few, more))
        coarse = decoder(token_map, image, None, of_all, few[:, :0])
    same = (some == others).all(dim=1)
    looked_at = gate_of(few, (4, 6, 8)).bool()[:, 0]
    at_all = gate_of(more, (4, 6, 8)).bool()[:, 0]
    voxels, of_more = (
        each.repeat_interleave(4, 1).repeat_interleave(4, 2).repeat_interleave(4, 3)
        for each in (looked_at, at_all)
    )
    assert same[voxels].all() and same[~of_more].all()
    assert (~same[of_more & ~voxels]).float().mean() > 0.99
    assert torch.equal(some.movedim(1, -1)[~voxels], coarse.movedim(1, -1)[~voxels])


def test_the_cost_of_voxels_follows_the_tokens() -> None:
    changes = {"window": (32, 48, 32), "patch_size": 4, "decoder": "coarse-to-fine"}
    config = preset("nano", prune_after=(-1,), keep_ratio=(0.5,), forgotten_stages=1, **changes)
    f, tokens = config.feature_size, 8 * 12 * 8
    by_ratio = [gmacs(config, ratio)["decoder"] * 1e9 for ratio in (0.5, 0.25)]
    each = 27 * 6**3 * (f + 1) * f + 27 * 4**3 * f * f + 4**3 * f * 2 + 8**3 * 2 * f * f
    assert by_ratio[0] - by_ratio[1] == pytest.approx(0.25 * tokens * each)


def test_all_scores_learn_what_a_closer_look_gains() -> None:
    decoder, token_map, image = sparse()
    gate = gate_of(torch.tensor([[3, 77, 150]] * 2), (4, 6, 8)).requires_grad_()
    decoder.train()(
        token_map, image, gate=gate, places=torch.tensor([[3, 77, 150]] * 2)
    ).square().mean().backward()
    assert gate.grad is not None and (gate.grad.abs() > 0).all()


def test_a_network_hands_its_decoder_the_kept_tokens() -> None:
    changes = {"window": (16, 24, 16), "patch_size": 4, "decoder": "coarse-to-fine"}
    model = SCD(preset("nano", prune_after=(-1, 3), keep_ratio=(0.5, 0.5), **changes)).eval()
    with torch.no_grad():
        model.decoder.detail.out.weight.normal_()
    image = torch.randn(2, 1, 16, 24, 16)
    with torch.inference_mode():
        for ratio in (0.25, 1.0):
            begun = model.begin(image)
            out = model.finish(begun, ratio)
            given = [model.encoder.finish(begun.encoder, rule_of(ratio, 2))[0]]
            tokens = model.completion(given[0], out.trace, None)
            gate = as_map(given[0].gate[..., None], model.config.grid)
            again = model.decoder(as_map(tokens, model.config.grid), image, begun.image_skip, gate)
            torch.testing.assert_close(out.logits, again, rtol=0, atol=1e-5)
            assert given[0].places.shape == (2, int(96 * ratio))


def test_a_coarse_to_fine_decoder_needs_a_level_between() -> None:
    with pytest.raises(ValueError) as refused:
        preset("nano", patch_size=2, window=(8, 8, 8), decoder="coarse-to-fine")
    assert (
        "patch_size 2: decoder 'coarse-to-fine' needs a level between tokens and voxels; "
        "give at least 4" in str(refused.value)
    )
