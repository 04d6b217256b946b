"""Windows on one token grid: where they start, how they blend, which one owns a token."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class WindowGrid:
    """Windows that cover a volume, all on one token grid.

    Attributes
    ----------
    shape
        The volume's (h, w, d).
    window
        Window size in voxels.
    patch
        Token edge in voxels: the padded shape, and every start, is a multiple of it.
    before
        Voxels of padding in front, per axis.
    padded
        Shape with the padding.
    axis_starts
        Per axis, the starts of its windows in padded voxels, ascending.
    """

    shape: Shape
    window: Shape
    patch: int
    before: Shape
    padded: Shape
    axis_starts: tuple[tuple[int, ...], ...]

    @property
    def starts(self) -> tuple[Shape, ...]:
        """Start of every window in padded voxels, first axis slowest."""
        return tuple((h, w, d) for h, w, d in product(*self.axis_starts))

    @property
    def tokens(self) -> Shape:
        """Token grid of the padded volume."""
        h, w, d = (n // self.patch for n in self.padded)
        return h, w, d

    @property
    def extents(self) -> tuple[tuple[int, int], ...]:
        """Per axis, the volume's first voxel within the padding and the one after its last."""
        return tuple((b, b + n) for b, n in zip(self.before, self.shape, strict=True))

    def pad(self, image: Tensor, value: float) -> Tensor:
        """Pad ``(C, h, w, d)`` to the padded shape with a constant; as it is if it has that."""
        if self.padded == self.shape:
            return image
        pads: list[int] = []
        for n, before, padded in zip(self.shape, self.before, self.padded, strict=True):
            pads = [before, padded - n - before, *pads]
        return F.pad(image, pads, value=value)

    def cut(self, padded_image: Tensor, start: Shape) -> Tensor:
        """Cut one window ``(C, *window)`` out of a padded image."""
        h, w, d = (slice(s, s + n) for s, n in zip(start, self.window, strict=True))
        return padded_image[:, h, w, d]

    def owned(self, start: Shape) -> tuple[slice, slice, slice]:
        """Tokens of the padded volume's grid whose nearest window centre is this window's."""
        h, w, d = (
            _owned(starts, s, n, padded, self.patch)
            for starts, s, n, padded in zip(
                self.axis_starts, start, self.window, self.padded, strict=True
            )
        )
        return h, w, d


def window_grid(shape: Sequence[int], window: Shape, patch: int, overlap: float) -> WindowGrid:
    """Lay windows over a volume.

    Parameters
    ----------
    shape
        The volume's (h, w, d).
    window
        Window size, a multiple of the patch.
    patch
        Token edge in voxels.
    overlap
        Share of a window that the next one covers at least, in [0, 1).
    """
    padded = [max(w, -(-n // patch) * patch) for n, w in zip(shape, window, strict=True)]
    starts = [_starts(p, w, patch, overlap) for p, w in zip(padded, window, strict=True)]
    before = [(p - n) // 2 for p, n in zip(padded, shape, strict=True)]
    return WindowGrid(_shape(shape), window, patch, _shape(before), _shape(padded), tuple(starts))


def _starts(padded: int, window: int, patch: int, overlap: float) -> tuple[int, ...]:
    step = max(patch, int(window * (1 - overlap)) // patch * patch)
    last = padded - window
    return tuple(dict.fromkeys([*range(0, last, step), last]))


@lru_cache(maxsize=1024)
def _owned(starts: tuple[int, ...], start: int, window: int, padded: int, patch: int) -> slice:
    centres: NDArray[np.float64] = np.asarray(starts) + window / 2
    tokens = np.arange(0, padded, patch) + patch / 2
    owners = np.abs(tokens[:, None] - centres).argmin(axis=1)
    mine = np.flatnonzero(owners == starts.index(start))
    return slice(int(mine[0]), int(mine[-1]) + 1)


def _shape(values: Sequence[int]) -> Shape:
    h, w, d = map(int, values)
    return h, w, d
