"""Pure functions on tokens and their grid indices.

Every tensor of ids holds int64 indices into a sequence or a token grid, one row per batch entry,
ascending within a row. Nothing here indexes with masks: shapes depend on sizes only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_tokensparse.model.noise import exponential

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_tokensparse.model.noise import Noise


def split_top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Split a sequence into its ``k`` best-scored positions and the rest.

    Parameters
    ----------
    scores
        ``(B, L)``. Equal scores are kept lowest position first.
    k
        How many to keep, ``0 <= k <= L``.

    Returns
    -------
    kept, pruned
        Positions ``(B, k)`` and ``(B, L - k)``, ascending.
    """
    order = scores.argsort(dim=1, descending=True, stable=True)
    return order[:, :k].sort(dim=1).values, order[:, k:].sort(dim=1).values


def take(tokens: Tensor, positions: Tensor) -> Tensor:
    """Gather ``(B, n, E)`` tokens of ``(B, L, E)`` at ``(B, n)`` positions."""
    return tokens.gather(1, positions.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def at_places(table: Tensor, ids: Tensor | None) -> Tensor:
    """Pick the rows of a position table ``(1, 1 + L, E)`` for CLS and the grid ids ``(n,)``.

    The whole table, as it is, if there are no ids.
    """
    if ids is None:
        return table
    return torch.cat([table[:, :1], table[:, 1:].index_select(1, ids)], dim=1)


def put_back(tokens: Tensor, ids: Tensor) -> Tensor:
    """Put tokens back into grid order: the inverse of taking them by ``ids``.

    Parameters
    ----------
    tokens
        ``(B, L, E)``, in any order.
    ids
        ``(B, L)``, the grid index of each; in every row the same ones in some order.
    """
    return take(tokens, ids.argsort(dim=1))


def soft_top_k_mask(scores: Tensor, kept: Tensor, tau: float) -> Tensor:
    """Straight-through top-K mask: ones and zeros forward, a softmax backward (section 3.2).

    Parameters
    ----------
    scores
        ``(B, L)`` (perturbed) scores of the live tokens. -inf is a masked one, inf one that is
        pinned: neither gets a gradient.
    kept
        ``(B, k)`` positions that stay.
    tau
        Temperature of the softmax, > 0.

    Returns
    -------
    Tensor
        ``(B, L)``, one at kept positions and zero elsewhere.
    """
    lowest = torch.finfo(scores.dtype).min  # a row of nothing but -inf would become NaN
    free = scores.masked_fill(scores == torch.inf, -torch.inf)
    soft = torch.softmax((free / tau).clamp(min=lowest), dim=1)
    hard = torch.zeros_like(soft).scatter(1, kept, 1.0)
    return hard + (soft - soft.detach())  # the bracket is exactly zero


def soft_threshold_mask(scores: Tensor, kept: Tensor, tau: float) -> Tensor:
    """Straight-through top-K mask whose backward is a sigmoid threshold of mass k.

    The relaxed mask is ``sigmoid((score - theta) / tau)`` with theta such that it sums to the
    number of kept tokens, so every token near the cut gets a gradient, whatever the number of
    tokens; a softmax over them sums to 1 and its gradients vanish as their number grows. It is the
    entropy-regularised projection onto the k-subsets (Amos et al., "The limited multi-label
    projection layer", 2019).

    Parameters
    ----------
    scores, kept, tau
        As in `soft_top_k_mask`; tau is the width of the threshold.

    Returns
    -------
    Tensor
        ``(B, L)``, one at kept positions and zero elsewhere. The gradient is zero where all or none
        are kept.
    """
    k, length = kept.shape[1], scores.shape[1]
    hard = torch.zeros_like(scores).scatter(1, kept, 1.0)
    scaled = (scores / tau).clamp(-1e4, 1e4)  # a masked token is -inf, a pinned one inf
    if k in (0, length):
        return hard + 0.0 * scaled
    cut = _cut(scaled.detach(), k)
    mass = torch.sigmoid(scaled - cut)
    slope = (mass * (1.0 - mass)).sum(dim=1, keepdim=True).detach()
    cut = cut + (mass.sum(dim=1, keepdim=True) - k) / slope.clamp(min=1e-12)  # so it moves along
    soft = torch.sigmoid(scaled - cut)
    return hard + (soft - soft.detach())


def _cut(scaled: Tensor, k: int) -> Tensor:
    """Find by bisection the cut ``(B, 1)`` at which the sigmoids of a row sum to ``k``."""
    low, high = (scaled.amin(1, keepdim=True) - 30.0, scaled.amax(1, keepdim=True) + 30.0)
    for _ in range(60):
        middle = (low + high) / 2
        more = torch.sigmoid(scaled - middle).sum(dim=1, keepdim=True) > k
        low, high = torch.where(more, middle, low), torch.where(more, high, middle)
    return (low + high) / 2


def gumbel_like(scores: Tensor, noise: Noise = None) -> Tensor:
    """Draw standard Gumbel noise shaped like ``scores`` ``(B, L)``."""
    return -exponential(scores, noise).log()


def sincos_table(grid: Sequence[int], width: int) -> Tensor:
    """Make the fixed 3-D sine-cosine position table ``(1, 1 + L, width)`` with a zero row for CLS.

    Parameters
    ----------
    grid
        Token grid ``(gh, gw, gd)``.
    width
        Columns, a multiple of 6: sin h, cos h, sin w, cos w, sin d, cos d.
    """
    columns = width // 6
    omega = 10000.0 ** -(torch.arange(columns, dtype=torch.float64) / columns)
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    angles = [axis.reshape(-1, 1) * omega for axis in axes]
    table = torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)
    return torch.cat([torch.zeros(1, width, dtype=torch.float64), table])[None].float()
