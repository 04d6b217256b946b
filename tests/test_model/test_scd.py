from typing import Any

import pytest
import torch
from torch import nn

from napari_tokensparse.model.completion import MultiLayerTokenAssembly
from napari_tokensparse.model.encoder import SparseTokens, TokenTrace
from napari_tokensparse.model.layers.blocks import Block
from napari_tokensparse.model.layers.stage import MlpPredictor
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD, SCDOutput
from napari_tokensparse.model.tokens import take


def network(**changes: Any) -> SCD:
    """Make a nano network whose weights are large enough that tokens differ clearly."""
    model = SCD(preset("nano", **changes)).eval()
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def image_of(model: SCD, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, model.config.in_channels, *model.config.window)


def run(model: SCD, image: torch.Tensor, *arguments: Any, **more: Any) -> SCDOutput:
    with torch.no_grad():
        out: SCDOutput = model(image, *arguments, **more)
    return out


def sizes(trace: TokenTrace) -> tuple[int, ...]:
    return (*(p.shape[1] for p in trace.pruned), trace.kept.shape[1])


def all_ids(trace: TokenTrace) -> torch.Tensor:
    return torch.cat([*trace.pruned, trace.kept], dim=1)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("keep_ratio", [1.0, 0.5, 1 - 0.9, 0.01])
def test_every_grid_token_is_pruned_once_or_kept(keep_ratio: float, training: bool) -> None:
    model = network().train(training)
    trace = run(model, image_of(model, 2), keep_ratio).trace
    for row in all_ids(trace):
        assert row.sort().values.tolist() == list(range(64))
    for ids in (*trace.pruned, trace.kept):
        assert torch.equal(ids, ids.sort(dim=1).values)


def test_keep_ratio_one_prunes_nothing() -> None:
    model = network()
    trace = run(model, image_of(model), 1.0).trace
    assert sizes(trace) == (0, 0, 0, 64)
    assert [s.shape for s in trace.scores] == [(1, 64)] * 3


def test_the_argument_overrides_the_models_default_and_compounds() -> None:
    model = network(keep_ratio=(0.25, 0.5, 1.0))
    image = image_of(model)
    assert sizes(run(model, image).trace) == (48, 8, 0, 8)
    assert sizes(run(model, image, 0.5).trace) == (32, 16, 8, 8)
    assert sizes(run(model, image, (1.0, 0.1, 0.5)).trace) == (0, 58, 3, 3)
    assert [s.shape[1] for s in run(model, image, (1.0, 0.1, 0.5)).trace.scores] == [64, 64, 6]


def test_a_stage_keeps_the_tokens_it_scored_highest() -> None:
    model = network()
    trace = run(model, image_of(model, 2), 0.5).trace
    live = torch.arange(64).expand(2, -1)
    for scores, pruned in zip(trace.scores, trace.pruned, strict=True):
        order = scores.argsort(dim=1, descending=True)
        n = live.shape[1] // 2
        assert torch.equal(pruned, live.gather(1, order[:, n:]).sort(dim=1).values)
        live = live.gather(1, order[:, :n]).sort(dim=1).values
    assert torch.equal(trace.kept, live)
    assert not torch.equal(trace.kept[0], trace.kept[1])


def test_scores_are_log_sigmoids() -> None:
    model = network()
    for scores in run(model, image_of(model)).trace.scores:
        assert scores.dtype == torch.float32
        assert torch.all((scores.exp() > 0) & (scores.exp() < 1))
        assert scores.std() > 0


@pytest.mark.parametrize("keep_ratio", [1.0, 0.5])
def test_the_entries_of_a_batch_do_not_influence_one_another(keep_ratio: float) -> None:
    model = network()
    image = image_of(model, 3)
    together = run(model, image, keep_ratio)
    for row in range(3):
        alone = run(model, image[row : row + 1], keep_ratio)
        assert torch.equal(all_ids(alone.trace)[0], all_ids(together.trace)[row])
        assert (alone.logits[0] - together.logits[row]).abs().max() < 1e-4


@pytest.mark.parametrize("training", [False, True])
def test_what_is_begun_once_is_finished_at_any_keep_ratio(training: bool) -> None:
    model = network(drop_path=0.3).train(training)
    image = image_of(model, 2)
    for keep_ratio in (0.1, 0.5, (1.0, 0.25, 0.5)):
        noises = [[torch.Generator().manual_seed(row) for row in (1, 2)] for _ in range(2)]
        whole = run(model, image, keep_ratio, noise=noises[0])
        with torch.no_grad():
            begun = model.begin(image, noises[1])
            finished = model.finish(begun, keep_ratio)
        assert torch.equal(finished.logits, whole.logits)
        assert torch.equal(all_ids(finished.trace), all_ids(whole.trace))
        for one, other in zip(finished.trace.scores, whole.trace.scores, strict=True):
            assert torch.equal(one, other)


def test_finishing_leaves_what_is_begun_as_it_was_and_redoes_none_of_it() -> None:
    model = network(prune_after=(1, 5), keep_ratio=(0.5, 0.5))
    called: list[str] = []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: called.append(name))
    with torch.no_grad():
        begun = model.begin(image_of(model))
        first, _ = list(called), called.clear()
        once, _, again = (model.finish(begun, ratio).logits for ratio in (0.25, 0.75, 0.25))
    assert torch.equal(once, again)
    assert {"encoder.patch_embed", "encoder.blocks.0", "encoder.blocks.1"} <= set(first)
    assert {"encoder.stages.0.predictor", "decoder.skips.0"} <= set(first)
    assert "encoder.blocks.2" not in first
    assert not set(first) & set(called)


def test_controls_are_begun_too() -> None:
    model = network()
    image, scores = image_of(model), torch.rand(1, 64).log()
    whole = run(model, image, 0.5, token_scores=scores, skip_blocks=True)
    with torch.no_grad():
        begun = model.begin(image, token_scores=scores, skip_blocks=True)
        finished = model.finish(begun, 0.5)
    assert torch.equal(finished.logits, whole.logits)
    assert torch.equal(finished.trace.scores[0], scores)


def test_pruning_changes_the_logits() -> None:
    model = network()
    image = image_of(model)
    change = run(model, image, 1.0).logits - run(model, image, 0.1).logits
    assert change.abs().max() > 1e-3


def test_windows_need_not_be_cubic_and_images_may_have_many_channels() -> None:
    model = network(in_channels=3, out_channels=5, window=(32, 64, 48))
    out = run(model, image_of(model, 2), 0.5)
    assert out.logits.shape == (2, 5, 32, 64, 48)
    assert sizes(out.trace) == (96, 48, 24, 24)
    # Token 1 lies one patch further along the last axis.
    one = model.encoder.embed(torch.zeros(1, 3, 32, 64, 48))
    image = torch.zeros(1, 3, 32, 64, 48)
    image[..., 0:8, 8:16, 16:24] = 1.0
    changed = (model.encoder.embed(image) - one).abs().amax(dim=(0, 2)).nonzero().flatten()
    assert changed.tolist() == [1 + (0 * 8 + 1) * 6 + 2]


def test_a_network_without_stages_is_dense() -> None:
    model = network(prune_after=(), keep_ratio=())
    out = run(model, image_of(model))
    assert (out.trace.scores, out.trace.pruned) == ((), ())
    assert out.trace.kept.tolist() == [list(range(64))]


@pytest.mark.parametrize("shape", [(1, 2, 32, 32, 32), (1, 1, 32, 32, 40), (1, 32, 32, 32)])
def test_an_image_that_does_not_fit_is_refused_with_both_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError) as refused:
        network()(torch.zeros(shape))
    assert str(refused.value) == (
        f"image of shape {shape}: this model takes (batch, channels, h, w, d) = (B, 1, 32, 32, 32)"
    )


def test_a_keep_ratio_out_of_range_is_refused() -> None:
    model = network()
    with pytest.raises(ValueError, match=r"^keep ratio 1\.4: must be in \(0, 1\]$"):
        model(image_of(model), 1.4)


def test_training_noise_is_keyed_by_the_generator_alone() -> None:
    model = network(drop_path=0.5).train()
    image = image_of(model)

    def logits(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return run(model, image, 0.5, noise=generator).logits

    before = torch.get_rng_state()
    assert torch.equal(logits(1), logits(1))
    assert not torch.equal(logits(1), logits(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_gumbel_noise_changes_which_tokens_are_kept_in_training_only() -> None:
    model = network()
    image = image_of(model)

    def kept(seed: int) -> torch.Tensor:
        return run(model, image, 0.5, noise=torch.Generator().manual_seed(seed)).trace.kept

    assert torch.equal(kept(1), kept(2))
    model.train()
    assert not torch.equal(kept(1), kept(2))


def test_without_noise_training_and_evaluation_agree() -> None:
    model = network(perturbation="none")
    image = image_of(model)
    evaluated, trained = run(model, image, 0.5), run(model.train(), image, 0.5)
    assert torch.equal(all_ids(evaluated.trace), all_ids(trained.trace))
    assert torch.equal(evaluated.logits, trained.logits)


def test_drop_path_leaves_out_whole_branches_and_keeps_the_mean() -> None:
    block = Block(24, 4, drop_path=0.25).train()
    x = torch.ones(4000, 1, 24)
    out = block._drop(x, torch.Generator().manual_seed(0))
    rows = out[:, 0, 0]
    assert sorted(set(rows.tolist())) == pytest.approx([0.0, 1 / 0.75])
    assert torch.equal(out, rows[:, None, None].expand_as(out))
    assert rows.mean().item() == pytest.approx(1.0, abs=0.03)
    assert torch.equal(block.eval()._drop(x, None), x)


def test_drop_path_grows_with_depth() -> None:
    rates = [block.drop_path for block in network(drop_path=0.1).encoder.blocks]
    assert rates == pytest.approx([0.1 * n / 11 for n in range(12)])


def test_gradients_reach_every_parameter() -> None:
    model = network().train()
    model(image_of(model), 0.5).logits.square().mean().backward()
    without = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().max() > 0
    ]
    assert without == []


@pytest.mark.parametrize("part", ["kept", "pruned"])
def test_kept_tokens_carry_the_mask_and_pruned_ones_its_complement(part: str) -> None:
    model = network(perturbation="none", tau=2.0, prune_after=(11,), keep_ratio=(0.5,)).train()
    model.encoder.stages[0].pruned_norm = nn.Identity()
    model.encoder.norm = nn.Identity()  # type: ignore[assignment]
    taken: list[Any] = []
    model.completion.register_forward_pre_hook(lambda _, arguments: taken.extend(arguments))
    trace = model(image_of(model)).trace
    sparse, scores = taken[0], trace.scores[0]
    # Both masks are one, so that these are the tokens as the last block left them.
    tokens, ids, sign = (
        (sparse.final[0, 1:], trace.kept[0], 1.0)
        if part == "kept"
        else (sparse.pruned[0][0], trace.pruned[0][0], -1.0)
    )
    (gradient,) = torch.autograd.grad(tokens.sum(), scores)
    soft = torch.softmax(scores.detach()[0] / 2.0, dim=0)
    pull = torch.zeros(64).scatter(0, ids, sign * tokens.detach().sum(dim=1))
    expected = soft * (pull - (soft * pull).sum()) / 2.0
    assert gradient[0].numpy() == pytest.approx(expected.numpy(), rel=1e-3, abs=1e-5)
    assert expected.abs().max() > 1e-2


def test_the_predictor_sees_every_live_token() -> None:
    predictor = MlpPredictor(24).requires_grad_(False)
    tokens, cls = torch.randn(1, 5, 24), torch.randn(1, 1, 24)
    changed = tokens.clone()
    changed[0, 4] += torch.randn(24)
    gap = (predictor(changed, cls) - predictor(tokens, cls))[0].abs()
    assert torch.all(gap > 0)
    order = torch.tensor([4, 2, 0, 1, 3])
    permuted = predictor(tokens[:, order], cls)[0]
    assert permuted == pytest.approx(predictor(tokens, cls)[0, order], abs=1e-6)


def test_predictors_stay_in_float32_under_autocast() -> None:
    model = network()
    image = image_of(model)
    plain = run(model, image)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = run(model, image)
    assert mixed.trace.scores[0].dtype == torch.float32
    predictor = model.encoder.stages[0].predictor
    tokens, cls = torch.randn(1, 6, 24), torch.randn(1, 1, 24)
    with torch.autocast("cpu", torch.bfloat16):
        same = predictor(tokens, cls)
    assert torch.equal(same, predictor(tokens, cls))
    assert plain.trace.scores[0] == pytest.approx(mixed.trace.scores[0], abs=0.1)


def identity_assembly() -> MultiLayerTokenAssembly:
    assembly = MultiLayerTokenAssembly(preset("nano"))
    assembly.source_linears = nn.ModuleList(nn.Identity() for _ in range(4))
    for token in assembly.layer_tokens:
        nn.init.zeros_(token)
    return assembly


@pytest.mark.parametrize("counts", [(32, 16, 8, 8), (0, 0, 0, 64), (58, 5, 1, 0)])
def test_completion_puts_every_token_back_where_it_came_from(counts: tuple[int, ...]) -> None:
    dense = torch.randn(2, 65, 24)
    order = torch.stack([torch.randperm(64), torch.randperm(64)])
    ids = [part.sort(dim=1).values for part in order.split(list(counts), dim=1)]
    pieces = [take(dense[:, 1:], part) for part in ids]
    sparse = SparseTokens(tuple(pieces[:-1]), torch.cat([dense[:, :1], pieces[-1]], dim=1))
    trace = TokenTrace((), tuple(ids[:-1]), ids[-1])
    assert torch.equal(identity_assembly().assemble(sparse, trace), dense)


def test_completion_marks_each_token_with_its_source() -> None:
    assembly = identity_assembly()
    with torch.no_grad():
        for n, token in enumerate(assembly.layer_tokens):
            token.fill_(10.0**n)
    ids = torch.arange(64)[None].split([16, 16, 16, 16], dim=1)
    sparse = SparseTokens((torch.zeros(1, 16, 24),) * 3, torch.zeros(1, 17, 24))
    marks = assembly.assemble(sparse, TokenTrace((), ids[:-1], ids[-1]))[0, :, 0]
    assert marks.tolist() == [1000.0, *[1.0] * 16, *[10.0] * 16, *[100.0] * 16, *[1000.0] * 16]


def test_the_completed_map_is_laid_out_as_the_grid() -> None:
    assembly = MultiLayerTokenAssembly(preset("nano", window=(32, 48, 64)))
    assembly.blocks = nn.ModuleList()
    assembly.out_norm = nn.Identity()
    assembly.out_linear = nn.Identity()
    assembly.source_linears = nn.ModuleList(nn.Identity() for _ in range(4))
    tokens = torch.zeros(1, 1 + 192, 24)
    empty, nothing = torch.zeros(1, 0, 24), torch.zeros(1, 0, dtype=torch.int64)
    with torch.no_grad():
        assembly.layer_tokens[3].zero_()
        completed = assembly(
            SparseTokens((empty,) * 3, tokens),
            TokenTrace((), (nothing,) * 3, torch.arange(192)[None]),
        )
    token_map = completed.transpose(1, 2).unflatten(2, (4, 6, 8))
    # Column 0 is sin h, column 8 sin w, column 16 sin d, at the highest frequency.
    h, w, d = 3, 4, 7
    point = token_map[0, :, h, w, d]
    expected = torch.tensor([h, w, d], dtype=torch.float64).sin().float()
    assert point[[0, 8, 16]] == pytest.approx(expected, abs=1e-6)
