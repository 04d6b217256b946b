from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch import Tensor

from napari_tokensparse.model.tokens import (
    gumbel_like,
    put_back,
    sincos_table,
    soft_threshold_mask,
    soft_top_k_mask,
    split_top_k,
    take,
)


def test_the_best_scores_are_kept_and_both_parts_are_in_grid_order() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.3, 0.8], [4.0, 3.0, 2.0, 1.0]])
    kept, pruned = split_top_k(scores, 2)
    assert kept.tolist() == [[1, 3], [0, 1]]
    assert pruned.tolist() == [[0, 2], [2, 3]]


def test_of_equal_scores_the_lowest_index_is_kept() -> None:
    # 100 entries: an unstable sort would shuffle so many equal values.
    kept, pruned = split_top_k(torch.zeros(1, 100), 37)
    assert kept.tolist() == [list(range(37))]
    assert pruned.tolist() == [list(range(37, 100))]
    kept, _ = split_top_k(torch.tensor([[1.0, 2.0, 1.0, 2.0, 1.0]]), 3)
    assert kept.tolist() == [[0, 1, 3]]


@pytest.mark.parametrize(("k", "sizes"), [(0, (0, 5)), (5, (5, 0))])
def test_all_or_none_may_be_kept(k: int, sizes: tuple[int, int]) -> None:
    kept, pruned = split_top_k(torch.rand(2, 5), k)
    assert (kept.shape, pruned.shape) == ((2, sizes[0]), (2, sizes[1]))
    assert torch.cat([kept, pruned], dim=1).tolist() == [list(range(5))] * 2


def test_take_gathers_whole_tokens_row_by_row() -> None:
    tokens = torch.arange(12.0).reshape(2, 3, 2)
    taken = take(tokens, torch.tensor([[2, 0], [1, 1]]))
    assert taken.tolist() == [[[4, 5], [0, 1]], [[8, 9], [8, 9]]]


@settings(deadline=None, max_examples=30)
@given(st.permutations(list(range(7))), st.permutations(list(range(7))))
def test_put_back_undoes_any_permutation(first: list[int], second: list[int]) -> None:
    tokens = torch.arange(2 * 7 * 3.0).reshape(2, 7, 3)
    ids = torch.tensor([first, second])
    assert torch.equal(put_back(take(tokens, ids), ids), tokens)


@pytest.mark.parametrize("masked", [soft_top_k_mask, soft_threshold_mask])
@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32), st.integers(1, 40), st.floats(0.01, 100))
def test_the_straight_through_mask_is_exactly_zeros_and_ones(
    masked: Callable[[Tensor, Tensor, float], Tensor], seed: int, length: int, tau: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(2, length, generator=generator)
    kept, pruned = split_top_k(scores, length // 2)
    mask = masked(scores, kept, tau)
    assert torch.all(mask.gather(1, kept) == 1.0)
    assert torch.all(mask.gather(1, pruned) == 0.0)


def test_the_mask_has_the_gradient_of_the_softmax() -> None:
    scores = torch.tensor([[0.5, -1.0, 2.0]], requires_grad=True)
    weights = torch.tensor([[1.0, 10.0, 100.0]])
    (soft_top_k_mask(scores, torch.tensor([[2]]), tau=2.0) * weights).sum().backward()
    soft = np.exp(np.array([0.25, -0.5, 1.0]))
    soft /= soft.sum()
    w = weights[0].numpy()
    assert scores.grad is not None
    assert scores.grad[0].numpy() == pytest.approx(soft * (w - soft @ w) / 2.0, rel=1e-5)


def test_the_threshold_has_the_gradient_of_sigmoids_that_sum_to_k() -> None:
    # Of three tokens two are kept; the cut lies so that the sigmoids sum to 2 and moves along.
    tau, weights = 2.0, np.array([1.0, 10.0, 100.0])
    scores = torch.tensor([[0.5, -1.0, 2.0]], requires_grad=True)
    mask = soft_threshold_mask(scores, torch.tensor([[0, 2]]), tau)
    (mask * torch.tensor(weights, dtype=torch.float32)).sum().backward()

    def relaxed(values: np.ndarray) -> np.ndarray:
        def mass(cut: float) -> float:
            return float((1 / (1 + np.exp(cut - values / tau))).sum()) - 2

        return np.asarray(1 / (1 + np.exp(brentq(mass, -50, 50, xtol=1e-14) - values / tau)))

    at, step = np.array([0.5, -1.0, 2.0]), 1e-5
    expected = [
        (relaxed(at + step * unit) - relaxed(at - step * unit)) @ weights / (2 * step)
        for unit in np.eye(3)
    ]
    assert scores.grad is not None
    assert scores.grad[0].numpy() == pytest.approx(expected, rel=1e-3)
    assert scores.grad.sum().item() == pytest.approx(0.0, abs=1e-4)  # a shift changes nothing


@pytest.mark.parametrize("kept", [[], [0, 1, 2]])
def test_the_threshold_has_no_gradient_where_there_is_no_choice(kept: list[int]) -> None:
    scores = torch.tensor([[0.5, -1.0, 2.0]], requires_grad=True)
    mask = soft_threshold_mask(scores, torch.tensor([kept], dtype=torch.int64), 1.0)
    assert mask.tolist() == [[float(n in kept) for n in range(3)]]
    mask.sum().backward()
    assert scores.grad is not None and scores.grad.tolist() == [[0.0] * 3]


@pytest.mark.parametrize("masked", [soft_top_k_mask, soft_threshold_mask])
def test_a_pinned_token_gets_no_gradient_and_takes_nobodys(
    masked: Callable[[Tensor, Tensor, float], Tensor],
) -> None:
    scores = torch.tensor([[0.5, -1.0, 2.0, 0.7]])
    weights, free = torch.tensor([[1.0, 10.0, 5.0, 100.0]]), [0, 1, 3]

    def gradient(of: Tensor, kept: list[int], weights: Tensor) -> Tensor:
        leaf = of.clone().requires_grad_()
        mask = masked(leaf, torch.tensor([kept]), 1.0)
        assert mask[0].tolist() == [float(n in kept) for n in range(len(of[0]))]
        (mask * weights).sum().backward()
        assert leaf.grad is not None
        return leaf.grad

    pinned = gradient(scores.index_fill(1, torch.tensor([2]), torch.inf), [2, 3], weights)
    without = gradient(scores[:, free], [2], weights[:, free])
    assert pinned[0, 2] == 0
    assert torch.allclose(pinned[:, free], without, atol=1e-5)


def test_the_gradient_of_the_threshold_does_not_vanish_among_many_tokens() -> None:
    scores = torch.randn(1, 4096, generator=torch.Generator().manual_seed(0)).requires_grad_()
    kept, _ = split_top_k(scores.detach(), 1024)
    size = {}
    for masked in (soft_top_k_mask, soft_threshold_mask):
        (gradient,) = torch.autograd.grad(masked(scores, kept, 1.0)[0, 0], scores)
        size[masked] = float(gradient.abs().max())
    assert size[soft_top_k_mask] < 1e-2
    assert size[soft_threshold_mask] > 0.05


@pytest.mark.parametrize("masked", [soft_top_k_mask, soft_threshold_mask])
@pytest.mark.parametrize(
    "values", [[0.0] * 6, [1e4] * 6, [-1e4] * 6, [1e4, -1e4, 1e4, -1e4, 0.0, 0.0]]
)
def test_the_mask_and_its_gradient_stay_finite_for_extreme_scores(
    values: list[float], masked: Callable[[Tensor, Tensor, float], Tensor]
) -> None:
    scores = torch.tensor([values], requires_grad=True)
    kept, _ = split_top_k(scores.detach(), 3)
    mask = masked(scores, kept, 0.01)
    (mask * torch.arange(6.0)).sum().backward()
    assert scores.grad is not None
    assert torch.isfinite(mask).all()
    assert torch.isfinite(scores.grad).all()
    assert mask.sum() == 3


def test_gumbel_noise_is_keyed_by_its_generator() -> None:
    def noise(seed: int) -> torch.Tensor:
        return gumbel_like(torch.zeros(3, 5), torch.Generator().manual_seed(seed))

    before = torch.get_rng_state()
    assert torch.equal(noise(1), noise(1))
    assert not torch.equal(noise(1), noise(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_gumbel_noise_has_the_moments_of_a_standard_gumbel() -> None:
    noise = gumbel_like(torch.zeros(200_000), torch.Generator().manual_seed(0))
    assert noise.mean().item() == pytest.approx(np.euler_gamma, abs=0.01)
    assert noise.var().item() == pytest.approx(np.pi**2 / 6, rel=0.02)


def test_the_position_table_has_sines_and_cosines_of_h_then_w_then_d() -> None:
    table = sincos_table((2, 3, 4), 12)
    assert table.shape == (1, 1 + 24, 12)
    assert table.dtype == torch.float32
    assert torch.all(table[0, 0] == 0.0)
    h, w, d = 1, 2, 3
    omega = np.array([1.0, 10000.0**-0.5])
    expected = [f(omega * n) for n in (h, w, d) for f in (np.sin, np.cos)]
    row = 1 + (h * 3 + w) * 4 + d
    assert table[0, row].numpy() == pytest.approx(np.concatenate(expected), abs=1e-7)
