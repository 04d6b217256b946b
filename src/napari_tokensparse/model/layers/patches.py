"""Patches of some tokens, cut out of maps with a rim and laid back without."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def cut_patches(maps: Tensor, places: Tensor, grid: Sequence[int], step: int) -> Tensor:
    """Cut the patches of some tokens out of maps, with as much round them as the maps have.

    Parameters
    ----------
    maps
        ``(B, C, h + 2 rim, w + 2 rim, d + 2 rim)``; h, w and d are the grid's sides times the step.
    places
        ``(B, k)`` tokens in grid order.
    grid
        Tokens along each axis.
    step
        Edge of a token in voxels of the maps.

    Returns
    -------
    Tensor
        ``(B k, C, step + 2 rim, ...)``, channels last in memory.
    """
    size = maps.shape[2] - (grid[0] - 1) * step
    seen = maps.movedim(1, -1)
    for axis in (1, 2, 3):
        seen = seen.unfold(axis, size, step)  # (B, gh, gw, gd, C, size, size, size)
    cut = seen.permute(0, 1, 2, 3, 5, 6, 7, 4)[_index(places, grid)]
    return cut.contiguous().movedim(-1, 1)


def add_patches(maps: Tensor, patches: Tensor, places: Tensor, grid: Sequence[int]) -> Tensor:
    """Add to maps ``(B, C, h, w, d)`` the patches ``(B k, C, ...)`` of tokens ``(B, k)``."""
    step = patches.shape[2]
    added = torch.zeros_like(maps)
    laid = added.movedim(1, -1)
    for axis in (1, 2, 3):
        laid = laid.unfold(axis, step, step)
    laid.permute(0, 1, 2, 3, 5, 6, 7, 4)[_index(places, grid)] = patches.movedim(1, -1)
    return maps + added


def _index(places: Tensor, grid: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the windows and tokens along each axis, each ``(B k,)``."""
    b, k = places.shape
    _, gw, gd = grid
    flat = places.flatten()
    window = torch.arange(b, device=places.device).repeat_interleave(k)
    rows = flat.div(gd, rounding_mode="floor")
    return window, rows.div(gw, rounding_mode="floor"), rows % gw, flat % gd
