from itertools import permutations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_tokensparse.model.layers.stage import Live, Stage
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
    found = np.bincount(kept.flatten().numpy(), minlength=len(expected)) / len(kept)
    error = np.sqrt(expected * (1 - expected) / len(kept))
    assert np.all(np.abs(found - expected) <= 4 * error)


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
