from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_tokensparse.model.layers.stage import (
    AttentionPredictor,
    Live,
    MlpPredictor,
    Stage,
    make_predictor,
)
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.model.tokens import gumbel_like, soft_top_k_mask, split_top_k

DRAWS = 20_000
LOG_SCORES = (-0.1, -0.7, -2.5, -1.2, -0.3, -4.0)
INF = float("inf")


def plackett_luce_inclusion(log_scores: tuple[float, ...], k: int) -> NDArray[np.float64]:
    """Add up the probabilities of all ordered draws of ``k`` that hold each token."""
    weights = np.exp(np.array(log_scores))
    inclusion = np.zeros(len(weights))
    for draw in permutations(range(len(weights)), k):
        probability, left = 1.0, weights.sum()
        for token in draw:
            probability *= weights[token] / left
            left -= weights[token]
        inclusion[list(draw)] += probability
    return inclusion


def check_frequencies(kept: torch.Tensor, expected: NDArray[np.float64]) -> None:
    shares = np.bincount(kept.flatten().numpy(), minlength=len(expected)) / len(kept)
    error = np.sqrt(expected * (1 - expected) / len(kept))
    assert np.all(np.abs(shares - expected) <= 4 * error)


def test_the_expected_inclusions_are_probabilities_that_add_up_to_k() -> None:
    inclusion = plackett_luce_inclusion(LOG_SCORES, 3)
    assert inclusion.sum() == pytest.approx(3.0)
    assert inclusion.argsort().tolist() == np.argsort(LOG_SCORES).tolist()
    assert plackett_luce_inclusion(LOG_SCORES, 1) == pytest.approx(
        np.exp(LOG_SCORES) / np.exp(LOG_SCORES).sum()
    )


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_gumbel_top_k_draws_as_plackett_and_luce_do(k: int) -> None:
    scores = torch.tensor(LOG_SCORES).expand(DRAWS, -1)
    noise = gumbel_like(scores, torch.Generator().manual_seed(k))
    kept, _ = split_top_k(scores + noise, k)
    check_frequencies(kept, plackett_luce_inclusion(LOG_SCORES, k))


@pytest.mark.parametrize("tau", [0.1, 1.0, 5.0])
def test_a_stage_in_training_draws_so_whatever_its_temperature(tau: float) -> None:
    stage = Stage(preset("nano", tau=tau)).train()
    scores = torch.tensor(LOG_SCORES).expand(DRAWS, -1)
    live = Live(torch.zeros(DRAWS, 6, 24), torch.arange(6).expand(DRAWS, -1))
    with torch.no_grad():
        out = stage(live, scores, 3, torch.Generator().manual_seed(7))
    check_frequencies(out.live.ids, plackett_luce_inclusion(LOG_SCORES, 3))
    assert torch.equal(
        torch.cat([out.live.ids, out.pruned_ids], dim=1).sort(dim=1).values, live.ids
    )


SCORES = {
    "all equal": [0.0] * 6,
    "very high": [1e4] * 6,
    "very low": [-1e4] * 6,
    "far apart": [1e4, -1e4, 1e4, -1e4, 0.0, 0.0],
    "some masked": [-INF, -0.5, -INF, -1.0, -0.1, -INF],
    "all masked": [-INF] * 6,
}


@pytest.mark.parametrize("k", [0, 1, 3, 6])
@pytest.mark.parametrize("values", SCORES.values(), ids=SCORES)
@pytest.mark.parametrize("perturbation", ["gumbel", "none"])
def test_a_stage_and_its_gradients_stay_finite_for_any_scores(
    values: list[float], k: int, perturbation: str
) -> None:
    stage = Stage(preset("nano", perturbation=perturbation, tau=0.5)).train()
    scores = torch.tensor([values], requires_grad=True)
    tokens = torch.randn(1, 6, 24, requires_grad=True)
    out = stage(Live(tokens, torch.arange(6)[None]), scores, k, torch.Generator().manual_seed(0))
    assert out.live.ids.shape == (1, k)
    assert out.pruned_ids.shape == (1, 6 - k)
    assert out.live.weight is not None
    assert torch.all(out.live.weight == 1.0)
    (out.live.tokens.square().sum() + out.pruned[..., ::2].sum()).backward()
    for tensor in (out.live.tokens, out.pruned, scores.grad, tokens.grad):
        assert tensor is not None
        assert torch.isfinite(tensor).all()
    assert scores.grad is not None
    assert torch.all(scores.grad[torch.isinf(scores.detach())] == 0.0)


@pytest.mark.parametrize("noise", [False, True])
def test_a_masked_token_is_never_kept_before_a_token_with_a_score(noise: bool) -> None:
    scores = torch.tensor(SCORES["some masked"]).expand(1000, -1)
    if noise:
        scores = scores + gumbel_like(scores, torch.Generator().manual_seed(0))
    kept, pruned = split_top_k(scores, 3)
    assert kept.tolist() == [[1, 3, 4]] * 1000
    assert pruned.tolist() == [[0, 2, 5]] * 1000
    kept, _ = split_top_k(scores, 2)
    assert set(kept.flatten().tolist()) <= {1, 3, 4}
    kept, _ = split_top_k(scores, 4)
    assert kept.tolist() == [[0, 1, 3, 4]] * 1000


def test_where_every_token_is_masked_the_first_are_kept_and_none_has_a_gradient() -> None:
    scores = torch.full((1, 5), -INF, requires_grad=True)
    kept, _ = split_top_k(scores.detach(), 2)
    mask = soft_top_k_mask(scores, kept, tau=0.01)
    (mask * torch.arange(5.0)).sum().backward()
    assert mask.tolist() == [[1.0, 1.0, 0.0, 0.0, 0.0]]
    assert scores.grad is not None
    assert scores.grad.tolist() == [[0.0] * 5]


@pytest.mark.parametrize("predictor", ["mlp", "attention"])
@pytest.mark.parametrize("relaxation", ["softmax", "threshold"])
@pytest.mark.parametrize("completion", ["mta", "mask-token"])
@pytest.mark.parametrize(("keep_ratio", "left"), [(1e-3, 0), (1.0, 64), ((1.0, 1e-3, 1.0), 0)])
def test_all_or_no_tokens_may_be_kept_through_the_whole_network(
    keep_ratio: float | tuple[float, ...],
    left: int,
    completion: str,
    relaxation: str,
    predictor: str,
) -> None:
    changes = {"completion": completion, "relaxation": relaxation, "predictor": predictor}
    model = SCD(preset("nano", **changes)).train()
    out = model(torch.randn(2, 1, 32, 32, 32), keep_ratio)
    assert out.trace.kept.shape == (2, left)
    assert torch.isfinite(out.logits).all()
    out.logits.square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
    with torch.inference_mode():
        assert torch.isfinite(model.eval()(torch.randn(1, 1, 32, 32, 32), keep_ratio).logits).all()


NAMES: Any = ["mlp", "attention"]


def inputs(tokens: int = 7, batch: int = 2, **how: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(batch, tokens, 24, **how), torch.randn(batch, 1, 24, **how)


def test_a_config_names_its_predictor() -> None:
    assert isinstance(make_predictor("mlp", 24), MlpPredictor)
    assert isinstance(make_predictor("attention", 24), AttentionPredictor)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tokens", [0, 1, 7])
def test_every_live_token_has_a_log_sigmoid_score(name: Any, tokens: int) -> None:
    scores = make_predictor(name, 24)(*inputs(tokens))
    assert scores.shape == (2, tokens)
    assert scores.dtype == torch.float32
    assert torch.all((scores.exp() > 0) & (scores.exp() < 1))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [0.0, 1e4])
def test_scores_and_gradients_are_finite_for_extreme_tokens(name: Any, size: float) -> None:
    predictor = make_predictor(name, 24)
    tokens, cls = inputs()
    scores = predictor(size * tokens, size * cls)
    scores.sum().backward()
    assert torch.isfinite(scores).all()
    assert all(torch.isfinite(p.grad).all() for p in predictor.parameters() if p.grad is not None)
    assert all(p.grad is not None for p in predictor.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_the_entries_of_a_batch_are_scored_apart(name: Any) -> None:
    predictor, (tokens, cls) = make_predictor(name, 24), inputs()
    together = predictor(tokens, cls)
    for row in range(2):
        alone = predictor(tokens[row : row + 1], cls[row : row + 1])[0]
        assert alone.detach().numpy() == pytest.approx(together[row].detach().numpy(), abs=1e-6)


def test_the_attention_predictor_scores_a_token_by_its_product_with_cls() -> None:
    predictor, (tokens, cls) = AttentionPredictor(24).requires_grad_(False), inputs()
    predictor.scale.fill_(0.25)
    weight, bias = predictor.linear.weight, predictor.linear.bias
    assert weight.shape == (4, 24)
    for row in range(2):
        query = weight @ cls[row, 0] + bias
        for n in range(7):
            product = 0.25 * torch.dot(weight @ tokens[row, n] + bias, query)
            score = predictor(tokens, cls)[row, n]
            assert score.item() == pytest.approx(torch.sigmoid(product).log().item(), abs=1e-5)


def test_the_attention_predictor_looks_at_no_other_token() -> None:
    predictor, (tokens, cls) = AttentionPredictor(24), inputs()
    before = predictor(tokens, cls)
    tokens[:, 3] += 1.0
    gap = (predictor(tokens, cls) - before).abs()
    assert torch.all(gap[:, [0, 1, 2, 4, 5, 6]] == 0)
    assert torch.all(gap[:, 3] > 0)


@pytest.mark.parametrize("name", NAMES)
def test_a_shared_predictor_is_the_first_stages_and_scores_at_every_stage(name: Any) -> None:
    own = SCD(preset("nano", predictor=name)).eval()
    shared = SCD(preset("nano", predictor=name, share_predictor=True)).eval()
    weights = own.state_dict()
    for key in list(weights):  # what the shared one lacks
        if key not in shared.state_dict():
            assert key.startswith(("encoder.stages.1.predictor", "encoder.stages.2.predictor"))
            weights[key] = weights[
                key.replace("stages.1", "stages.0").replace("stages.2", "stages.0")
            ]
    own.load_state_dict(weights)
    shared.load_state_dict({k: v for k, v in weights.items() if k in shared.state_dict()})
    image = torch.randn(1, 1, 32, 32, 32)
    with torch.inference_mode():
        one, other = own(image), shared(image)
    assert torch.equal(one.logits, other.logits)
    for a, b in zip(one.trace.scores, other.trace.scores, strict=True):
        assert torch.equal(a, b)
