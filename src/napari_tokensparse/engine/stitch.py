"""Weighted stitching of windows, released in slabs, and finished slabs on the input's grid.

Only the rows of the first model axis that a window can still change are held in memory; a row
behind them is divided by its weight, interpolated to the input's grid, labelled and dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from monai.data.utils import compute_importance_map

from napari_tokensparse.data.region import Box

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_tokensparse.data.preprocess import AxisMap
    from napari_tokensparse.data.windows import Shape, WindowGrid
    from napari_tokensparse.model.info import Blending

_ROWS_AT_ONCE = 8
_OUTSIDE = 0.5  # model voxels: an input voxel further out than this is background


class Stitcher:
    """Adds up weighted windows and hands out rows that are complete.

    Parameters
    ----------
    grid
        The windows.
    channels
        Number of logit channels K.
    blending
        Weight of a voxel in its window: a Gaussian round the middle, or the same everywhere.
    """

    def __init__(self, grid: WindowGrid, channels: int, blending: Blending = "gaussian") -> None:
        self._grid = grid
        self._weight = compute_importance_map(grid.window, mode=blending, sigma_scale=0.125)
        rows = (grid.window[0], *grid.padded[1:])
        self._sum = torch.zeros(channels, *rows)
        self._weights = torch.zeros(rows)
        self._first = 0

    def add(self, start: Shape, logits: Tensor) -> None:
        """Add a window's logits ``(K, *window)``; starts must not fall behind released rows."""
        h, w, d = (slice(s, s + n) for s, n in zip(start, self._grid.window, strict=True))
        h = slice(h.start - self._first, h.stop - self._first)
        self._sum[:, h, w, d] += logits * self._weight
        self._weights[h, w, d] += self._weight

    def release(self, until: int) -> Iterator[Tensor]:
        """Yield the mean logits ``(K, n, w, d)`` of the padded rows before ``until``, in slabs.

        Rows that no window covers are zero. A slab has at most the rows of a window.
        """
        while self._first < until:
            n = min(until - self._first, self._grid.window[0])
            mean = self._sum[:, :n] / self._weights[:n].clamp(min=torch.finfo(torch.float32).tiny)
            self._sum = _shifted(self._sum, n, axis=1)
            self._weights = _shifted(self._weights, n, axis=0)
            self._first += n
            yield mean


class InputGrid:
    """Takes rows of logits in order and fills the labels of the input's grid.

    Parameters
    ----------
    shape
        The input's (i, j, k).
    axes
        Where each input axis lies on the padded model grid.
    extents
        Per model axis, the first voxel of the image on the padded grid and the one after its last:
        labels never come from padding.
    decide
        From logits ``(K, ...)`` to labels ``(...)``.
    dtype
        Of the labels.
    regions
        Number of overlapping regions K, whose masks are kept beside the labels; 0 for exclusive
        classes.
    box
        The part of the input that is labelled: all of it if not given. The rest stays 0.
    """

    def __init__(
        self,
        shape: Shape,
        axes: tuple[AxisMap, AxisMap, AxisMap],
        extents: Sequence[tuple[int, int]],
        decide: Callable[[Tensor], Tensor],
        dtype: np.dtype[np.unsignedinteger],
        regions: int = 0,
        box: Box | None = None,
    ) -> None:
        self.labels: NDArray[np.unsignedinteger] = np.zeros(shape, dtype)
        masks: NDArray[np.bool_] = np.zeros((regions, *shape), bool)
        self.regions = masks if regions else None
        order = sorted(range(3), key=lambda axis: axes[axis].axis)
        # Views whose axes are the model's.
        self._labels = self.labels.transpose(order)
        self._masks = masks.transpose(0, *(axis + 1 for axis in order))
        coordinates = [axes[axis].coordinates(shape[axis]) for axis in order]
        spans = (box or Box((0, 0, 0), shape)).slices
        self._rows, *self._across = (
            _Interpolation(c, first, end, spans[axis])
            for c, (first, end), axis in zip(coordinates, extents, order, strict=True)
        )
        self._decide = decide
        self._pending = list(
            self._rows.inside[np.argsort(self._rows.upper[self._rows.inside], kind="stable")]
        )
        self._held: Tensor | None = None
        self._first = 0

    def add(self, rows: Tensor) -> None:
        """Take the next model rows ``(K, n, w, d)`` and label every input row they complete."""
        self._held = rows if self._held is None else torch.cat([self._held, rows], dim=1)
        end = self._first + self._held.shape[1]
        ready = [row for row in self._pending if self._rows.upper[row] < end]
        for at in range(0, len(ready), _ROWS_AT_ONCE):
            self._label(ready[at : at + _ROWS_AT_ONCE])
        self._pending = self._pending[len(ready) :]
        first = min((int(self._rows.lower[row]) for row in self._pending), default=end)
        self._held = self._held[:, min(first, end) - self._first :]
        self._first = min(first, end)

    def _label(self, rows: list[int]) -> None:
        assert self._held is not None
        slab = self._rows.apply(self._held, 1, rows, self._first)
        for axis, across in enumerate(self._across, start=2):
            slab = across.apply(slab, axis, across.inside)
        where = np.ix_(np.asarray(rows), *(across.inside for across in self._across))
        self._labels[where] = self._decide(slab).numpy()
        for channel, mask in enumerate(self._masks):
            mask[where] = (slab[channel] > 0).numpy()  # sigmoid > 0.5


class _Interpolation:
    """Linear interpolation along one axis at fixed coordinates, clamped to ``first .. end - 1``.

    ``inside`` are the indices of those that lie there and within ``span``.
    """

    def __init__(self, coordinates: NDArray[np.float64], first: int, end: int, span: slice) -> None:
        margin = _OUTSIDE + 1e-6
        inside = (coordinates >= first - margin) & (coordinates <= end - 1 + margin)
        self.inside = span.start + np.flatnonzero(inside[span])
        clamped = coordinates.clip(first, end - 1)
        self.lower = np.floor(clamped).astype(np.int64)
        self.upper = np.minimum(self.lower + 1, end - 1)
        self._share = torch.from_numpy((clamped - self.lower).astype(np.float32))

    def apply(
        self, x: Tensor, axis: int, at: list[int] | NDArray[np.int64], first: int = 0
    ) -> Tensor:
        """Interpolate ``x``, whose axis starts at coordinate ``first``, at the indices ``at``."""
        index = np.asarray(at)
        lower = x.index_select(axis, torch.from_numpy(self.lower[index] - first))
        upper = x.index_select(axis, torch.from_numpy(self.upper[index] - first))
        share = self._share[torch.from_numpy(index)]
        return torch.lerp(lower, upper, share.view(-1, *(1,) * (x.ndim - axis - 1)))


def _shifted(x: Tensor, n: int, axis: int) -> Tensor:
    """Drop the first ``n`` entries of an axis and put zeros at its end."""
    kept = x.narrow(axis, n, x.shape[axis] - n)
    shape = list(x.shape)
    shape[axis] = n
    return torch.cat([kept, x.new_zeros(shape)], dim=axis)
