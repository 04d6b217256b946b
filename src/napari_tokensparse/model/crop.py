"""Cropping of a window to the box of its tokens that hold anything: nothing is computed on air."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from napari_tokensparse.model.config import SCDConfig

Grid = tuple[int, int, int]


@dataclass(frozen=True)
class TokenBox:
    """A box of tokens within a window's token grid.

    Attributes
    ----------
    first, end
        Its first token and the one after its last, per axis.
    grid
        Token grid of the whole window.
    patch
        Token edge in voxels.
    """

    first: Grid
    end: Grid
    grid: Grid
    patch: int

    @property
    def size(self) -> Grid:
        """Tokens along each axis."""
        h, w, d = (e - f for f, e in zip(self.first, self.end, strict=True))
        return h, w, d

    @property
    def voxels(self) -> tuple[slice, slice, slice]:
        """The box in voxels of the window."""
        h, w, d = (
            slice(f * self.patch, e * self.patch) for f, e in zip(self.first, self.end, strict=True)
        )
        return h, w, d

    def ids(self, device: torch.device) -> Tensor:
        """Grid ids ``(L,)`` of its tokens, ascending."""
        gh, gw, gd = self.grid
        h, w, d = (slice(f, e) for f, e in zip(self.first, self.end, strict=True))
        return torch.arange(gh * gw * gd, device=device).view(gh, gw, gd)[h, w, d].flatten()

    def cut(self, window: Tensor) -> Tensor:
        """Cut the box out of maps ``(..., h, w, d)`` of the window."""
        return window[(..., *self.voxels)]

    def put_back(self, maps: Tensor, around: Tensor) -> Tensor:
        """Lay maps ``(B, K, ...)`` of the box into the window, with ``around`` ``(K,)`` outside."""
        h, w, d = (n * self.patch for n in self.grid)
        laid = around.to(maps).expand(len(maps), h, w, d, -1).clone()
        laid[(slice(None), *self.voxels)] = maps.movedim(1, -1)
        return laid.movedim(-1, 1)  # channels last in memory, as networks give them


def whole_box(config: SCDConfig) -> TokenBox:
    """Return the box that is the whole window."""
    return corner_box(config, config.grid)


def corner_box(config: SCDConfig, size: Grid | None) -> TokenBox:
    """Return the box of a size at the window's corner; the whole window without a size."""
    return TokenBox((0, 0, 0), size or config.grid, config.grid, config.patch_size)


def content_box(image: Tensor, config: SCDConfig) -> TokenBox | None:
    """Find the box of the tokens that hold anything, in any window of a batch.

    Parameters
    ----------
    image
        ``(B, C, h, w, d)`` of the config's window.
    config
        ``crop_value`` is what emptiness holds.

    Returns
    -------
    TokenBox or None
        None where windows are not cropped, or everything or nothing is empty.
    """
    if config.crop_value is None:
        return None
    held = (image != config.crop_value).flatten(0, 1).any(dim=0)
    (gh, gw, gd), patch = config.grid, config.patch_size
    tokens = held.view(gh, patch, gw, patch, gd, patch).any(dim=5).any(dim=3).any(dim=1)
    return box_of_tokens(tokens, patch)


def box_of_tokens(held: Tensor, patch: int) -> TokenBox | None:
    """Find the box of some tokens ``(gh, gw, gd)`` of a window; None if it is all or nothing.

    On the meta device, where nothing is known, it is all.
    """
    if held.is_meta:
        return None
    first, end = [], []
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        where = held.any(dim=others[1]).any(dim=others[0]).nonzero()[:, 0].tolist()
        if not where:
            return None
        first.append(where[0])
        end.append(where[-1] + 1)
    box = TokenBox(_grid(first), _grid(end), _grid(list(held.shape)), patch)
    return None if box.size == box.grid else box


def _grid(values: list[int]) -> Grid:
    h, w, d = values
    return h, w, d
