"""From finished rows of the model's grid to labels on the input's.

Logits are interpolated linearly. Where the model voxels round an input voxel agree on a class, so
does every mean of them: only cells on a border are computed, and of those only the channels that
can win there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_tokensparse.segmenting.stitch import TINY
from napari_tokensparse.volumes.region import Box

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_tokensparse.segmenting.labelrule import LabelRule
    from napari_tokensparse.segmenting.sharpening import Contests
    from napari_tokensparse.segmenting.stitch import Rows
    from napari_tokensparse.volumes.preprocess import AxisMap
    from napari_tokensparse.volumes.windows import Shape

_OUTSIDE = 0.5  # model voxels: an input voxel further out than this is background
_ON_A_VOXEL = 1e-4  # of each other: model and input voxels that lie on one another
REACH = _OUTSIDE + _ON_A_VOXEL
"""Model voxels: an input voxel further out than this is background."""
_CELLS_AT_ONCE = 2**14


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
    rule
        How logits become labels.
    box
        The part of the input that is labelled: all of it if not given. The rest stays 0.
    contests
        Notes the voxels at which more than one class is likely, if they are to be decided anew.

    Attributes
    ----------
    labels
        ``(i, j, k)`` unsigned.
    regions
        ``(K, i, j, k)`` masks of channels that may overlap; None for exclusive classes.
    """

    def __init__(
        self,
        shape: Shape,
        axes: tuple[AxisMap, AxisMap, AxisMap],
        extents: Sequence[tuple[int, int]],
        rule: LabelRule,
        box: Box | None = None,
        contests: Contests | None = None,
    ) -> None:
        self._rule, self._contests = rule, contests
        # In memory the first axis is the fastest, as in a file: to write them is a plain copy.
        self._stored: NDArray[np.unsignedinteger] = np.zeros(shape[::-1], rule.dtype)
        self._masks: NDArray[np.bool_] = np.zeros((rule.regions, *shape[::-1]), bool)
        self.labels = self._stored.T
        self.regions = self._masks.transpose(0, 3, 2, 1) if rule.regions else None
        self._storage = [where.axis for where in reversed(axes)]
        order = sorted(range(3), key=lambda axis: axes[axis].axis)
        spans = (box or Box((0, 0, 0), shape)).slices
        self._cells = [
            _cells(
                axes[axis].coordinates(shape[axis]),
                first,
                end,
                spans[axis],
                self.labels.strides[axis] // self.labels.itemsize,
            )
            for axis, (first, end) in zip(order, extents, strict=True)
        ]
        self._last: Rows | None = None
        self._first = 0  # of the rows that come next
        self._labelled = 0  # cells along the first axis

    def add(self, rows: Rows) -> None:
        """Take the next model rows and label every input row they complete."""
        if self._last is not None:
            self._label(self._last.followed_by(rows.part(0, 1)), self._first - 1)
        self._label(rows, self._first)
        self._first += len(rows)
        self._last = rows.part(-1, None).clone()

    def _label(self, rows: Rows, first: int) -> None:
        """Label the input voxels of every cell that rows from ``first`` on complete."""
        along, *across = self._cells
        ready = int(torch.searchsorted(along.upper, first + len(rows)))
        if ready > self._labelled:
            cells = (along.part(self._labelled, ready, first), *across)
            mixed, codes = self._copy(rows, cells)
            for at in range(0, len(mixed), _CELLS_AT_ONCE):
                some = slice(at, at + _CELLS_AT_ONCE)
                self._interpolate(rows, cells, mixed[some], codes[some])
        self._labelled = ready

    def _copy(self, rows: Rows, cells: Sequence[_Cells]) -> tuple[Tensor, Tensor]:
        """Label as if every cell had one class.

        Returns the numbers ``(N, 3)`` of those that have more, and the codes at a corner of each.
        """
        reach = tuple(c.reach for c in cells)
        lowest = highest = self._rule.codes(rows.sums[reach])
        close = self._close(rows.sums[reach], rows.weights[reach])
        for axis, c in enumerate(cells):
            ends = [end - c.reach.start for end in (c.lower, c.upper)[: 1 + c.wide]]
            lowest = torch.minimum(*_at_both(lowest, axis, ends))
            highest = torch.maximum(*_at_both(highest, axis, ends))
            close = torch.maximum(*_at_both(close, axis, ends))
        codes = lowest.permute(*self._storage, 3)
        for axis, model_axis in enumerate(self._storage):
            codes = codes.index_select(axis, cells[model_axis].cell_of)
        self._fill(tuple(cells[axis].span for axis in self._storage), codes)
        mixed = self._mixed(lowest, highest, close)
        return mixed, lowest[mixed.unbind(dim=1)]

    def _close(self, sums: Tensor, weights: Tensor) -> Tensor:
        """Tell at which model voxels ``(h, w, d)`` another class is likely, if that is noted."""
        if self._contests is None or sums.shape[-1] < 2:
            return torch.zeros(weights.shape, dtype=torch.bool)
        best, second = sums.topk(2, dim=-1).values.unbind(dim=-1)
        return best - second < self._contests.margin * weights

    @staticmethod
    def _mixed(lowest: Tensor, highest: Tensor, close: Tensor) -> Tensor:
        """Return the numbers ``(N, 3)`` of the cells that not all corners agree on for sure."""
        return ((lowest != highest).any(dim=-1) | close).nonzero()

    def _interpolate(
        self, rows: Rows, cells: Sequence[_Cells], mixed: Tensor, codes: Tensor
    ) -> None:
        """Label the input voxels in the cells of these numbers ``(N, 3)``."""
        h, w, d = (
            torch.stack([c.lower[n], c.upper[n]])
            for c, n in zip(cells, mixed.unbind(dim=1), strict=True)
        )
        corners = rows.numbers(h[:, None, None], w[:, None], d).flatten(0, 2)  # (8, N)
        sums = rows.sums.flatten(0, 2).index_select(0, corners.flatten()).view(*corners.shape, -1)
        slack = None
        if self._contests is not None:
            slack = self._contests.margin * rows.weights.flatten()[corners]
        for some, channels in self._rule.contests(sums, codes, slack):
            chosen = some * sums.shape[-1] + channels  # (n, N), as all below: N of these cells
            weights = rows.weights.flatten()[corners[:, some]].clamp(min=TINY)
            logits = sums.flatten(1).index_select(1, chosen.flatten()).view(8, *chosen.shape)
            logits = (logits / weights[:, None]).view(2, 2, 2, *chosen.shape)
            voxels = torch.zeros(1, dtype=torch.int64)
            for axis, (c, at) in enumerate(zip(cells, mixed[some].unbind(dim=1), strict=True)):
                logits = _between(logits, axis, c.share[:, at])
                voxels = voxels + _spread(c.voxels[:, at], axis, 4)
            if self._contests is not None:
                self._contests.add(voxels, channels, logits)
            self._fill_at(voxels.numpy(), self._rule.decide(logits, channels))

    def _fill_at(self, voxels: NDArray[np.int64], codes: Tensor) -> None:
        """Fill voxels, numbered as they are stored."""
        self._stored.reshape(-1)[voxels] = self._rule.labels(codes)
        for channel, mask in enumerate(self._masks):
            mask.reshape(-1)[voxels] = codes[..., channel].numpy()

    def _fill(self, where: tuple[slice, ...], codes: Tensor) -> None:
        """Fill a part of the arrays as they are stored, from codes ``(k, j, i, ...)``."""
        self._stored[where] = self._rule.labels(codes)
        for channel, mask in enumerate(self._masks):
            mask[where] = codes[..., channel].numpy()


@dataclass(frozen=True, eq=False)
class _Cells:
    """Cells along one model axis: two neighbouring model voxels and the input voxels between.

    Attributes
    ----------
    lower, upper
        ``(U,)``: the model voxels of each cell that holds input voxels, ascending.
    voxels, share
        ``(m, U)``: its input voxels as places in the array of labels, the first repeated where it
        has fewer than m, and how far each is on the way from lower to upper.
    span
        The input voxels of all cells.
    cell_of
        ``(V,)``: the cell of each of them.
    """

    lower: Tensor
    upper: Tensor
    voxels: Tensor
    share: Tensor
    span: slice
    cell_of: Tensor

    @property
    def reach(self) -> slice:
        """Model voxels from the first lower to the last upper one."""
        return (
            slice(int(self.lower[0]), int(self.upper[-1]) + 1) if len(self.lower) else slice(0, 0)
        )

    @property
    def wide(self) -> bool:
        """Whether there is anything between two model voxels."""
        return bool((self.lower != self.upper).any())

    def part(self, first: int, end: int, origin: int) -> _Cells:
        """Return the cells ``first .. end - 1``, model voxels counted from ``origin``."""
        inside = ((self.cell_of >= first) & (self.cell_of < end)).nonzero()
        start, stop = int(inside[0]), int(inside[-1]) + 1
        return _Cells(
            self.lower[first:end] - origin,
            self.upper[first:end] - origin,
            self.voxels[:, first:end],
            self.share[:, first:end],
            slice(self.span.start + start, self.span.start + stop),
            self.cell_of[start:stop] - first,
        )


def _cells(
    coordinates: NDArray[np.float64], first: int, end: int, within: slice, stride: int
) -> _Cells:
    """Sort input voxels into cells.

    Coordinates are clamped to ``first .. end - 1``; voxels further out, and those not ``within``,
    are in none. Voxels on model voxels have a cell of their own if all others are, too, and those
    that were clamped always.
    """
    inside = (coordinates >= first - REACH) & (coordinates <= end - 1 + REACH)
    voxels = within.start + np.flatnonzero(inside[within])
    nearest = np.round(coordinates[voxels])
    on_voxel = np.abs(coordinates[voxels] - nearest) < _ON_A_VOXEL
    snapped = np.where(on_voxel, nearest, coordinates[voxels])
    clamped = snapped.clip(first, end - 1)
    share = (clamped - np.floor(clamped)).astype(np.float32)
    between = (clamped == snapped) & share.any()
    cells, cell_of, counts = np.unique(
        2 * np.floor(clamped).astype(np.int64) + between, return_inverse=True, return_counts=True
    )
    lower = cells // 2
    slots, starts = np.arange(counts.max(initial=1))[:, None], counts.cumsum() - counts
    table = np.argsort(cell_of, kind="stable")[starts + np.where(slots < counts, slots, 0)]
    return _Cells(
        lower=torch.from_numpy(lower),
        upper=torch.from_numpy(np.minimum(lower + cells % 2, end - 1)),
        voxels=torch.from_numpy(stride * voxels[table]),
        share=torch.from_numpy(share[table]),
        span=slice(int(voxels[0]), int(voxels[-1]) + 1) if len(voxels) else slice(0, 0),
        cell_of=torch.from_numpy(cell_of),
    )


def _at_both(x: Tensor, axis: int, ends: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Take ``x`` at the first and the last of one or two lists of places along an axis."""
    taken = [x.index_select(axis, at) for at in ends]
    return taken[0], taken[-1]


def _between(corners: Tensor, axis: int, share: Tensor) -> Tensor:
    """Interpolate an axis of two, of ``(.., n, N)``, at the shares ``(m, N)`` of each cell."""
    lower, upper = (corners.narrow(axis, end, 1) for end in (0, 1))
    return torch.lerp(lower, upper, _spread(share, axis, corners.ndim))


def _spread(values: Tensor, axis: int, ndim: int) -> Tensor:
    """View ``(m, N)`` so that m is axis ``axis`` and N the last of ``ndim``."""
    shape = [1] * ndim
    shape[axis], shape[-1] = values.shape
    return values.view(shape)
