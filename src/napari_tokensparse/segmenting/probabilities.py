"""How sure the network is, voxel by voxel on the input's grid, and the share of single classes.

Logits are interpolated linearly, as for the labels, but of all classes: one class after another and
some rows at a time, so that no more than the asked-for classes are held.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_tokensparse.segmenting.inputgrid import REACH
from napari_tokensparse.segmenting.stitch import TINY
from napari_tokensparse.volumes.region import Box

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_tokensparse.segmenting.stitch import Rows
    from napari_tokensparse.volumes.preprocess import AxisMap
    from napari_tokensparse.volumes.windows import Shape

FULL = 255
"""What stands for a probability of 1: whole numbers from 0 to it are stored."""

_VOXELS_AT_ONCE = 2**20


class ProbabilityGrid:
    """Takes finished rows of logits in order and fills probabilities on the input's grid.

    Parameters
    ----------
    shape
        The input's (i, j, k).
    axes
        Where each input axis lies on the padded model grid.
    extents
        Per model axis, the first voxel of the image on the padded grid and the one after its last.
    exclusive
        Whether classes exclude one another (softmax) or are overlapping regions (sigmoid).
    channels
        The logits' channels whose probability is kept.
    confidence
        Whether that of the winner is kept.
    box
        The part of the input that is looked at: all of it if not given. The rest stays 0.

    Attributes
    ----------
    confidence
        ``(i, j, k)`` uint8, 0 to `FULL`: the winner's probability; of overlapping regions, that of
        the decision that is least sure. Background that no window looked at is sure. None if it is
        not kept.
    classes
        ``(n, i, j, k)`` uint8, 0 to `FULL`: probability of each of the channels.
    """

    def __init__(
        self,
        shape: Shape,
        axes: tuple[AxisMap, AxisMap, AxisMap],
        extents: Sequence[tuple[int, int]],
        *,
        exclusive: bool,
        channels: Sequence[int] = (),
        confidence: bool = False,
        box: Box | None = None,
    ) -> None:
        self._exclusive, self._channels = exclusive, tuple(channels)
        spans = (box or Box((0, 0, 0), shape)).slices
        # In memory the first axis is the fastest, as in a file: to write them is a plain copy.
        self._sure: NDArray[np.uint8] | None = None
        if confidence:
            self._sure = np.zeros(shape[::-1], np.uint8)
            self._sure[spans[::-1]] = FULL
        self._maps: NDArray[np.uint8] = np.zeros((len(channels), *shape[::-1]), np.uint8)
        for number, channel in enumerate(channels):
            if exclusive and channel == 0:  # of background
                self._maps[(number, *spans[::-1])] = FULL
        self.confidence = None if self._sure is None else self._sure.T
        self.classes = self._maps.transpose(0, 3, 2, 1)
        self._storage = [where.axis for where in reversed(axes)]
        order = sorted(range(3), key=lambda axis: axes[axis].axis)
        self._lines = [
            _line(axes[axis].coordinates(shape[axis]), first, end, spans[axis])
            for axis, (first, end) in zip(order, extents, strict=True)
        ]
        self._last: Rows | None = None
        self._first = 0  # of the rows that come next
        self._done = 0  # voxels along the first model axis

    def add(self, rows: Rows) -> None:
        """Take the next model rows and fill every input row that they complete."""
        joined = rows if self._last is None else self._last.followed_by(rows)
        origin = self._first - (self._last is not None)
        self._first += len(rows)
        along = self._lines[0]
        ready = int(torch.searchsorted(along.upper, self._first))
        for part in self._parts(self._done, ready):
            self._fill(joined, along.part(part.start, part.stop, origin))
        self._done = ready
        self._last = rows.part(-1, None).clone()

    def _parts(self, first: int, end: int) -> Iterator[slice]:
        _, *across = self._lines
        rows = max(1, _VOXELS_AT_ONCE // max(1, len(across[0]) * len(across[1])))
        for at in range(first, end, rows):
            yield slice(at, min(end, at + rows))

    def _fill(self, rows: Rows, along: _Line) -> None:
        """Fill the input voxels of a line's part along the first model axis, and all across."""
        lines = (along, *self._lines[1:])
        if not all(map(len, lines)):
            return
        reach = slice(int(along.lower.min()), int(along.upper.max()) + 1)
        some = rows.part(reach.start, reach.stop)
        local = (along.part(0, len(along), reach.start), *lines[1:])
        # Classes lie last in rows: to read them one by one, each must lie together.
        by_class = (
            some.sums.div(some.weights.clamp(min=TINY)[..., None]).movedim(-1, 0).contiguous()
        )
        each = (_interpolated(logits, local) for logits in by_class)
        shares = _softmax if self._exclusive else _sigmoid
        sure, kept = shares(each, self._channels)
        where = tuple(lines[axis].span for axis in self._storage)
        turned = [axis for axis in range(3) if lines[axis].reversed]
        if self._sure is not None:
            self._sure[where] = self._stored(sure, turned)
        for target, values in zip(self._maps, kept, strict=True):
            target[where] = self._stored(values, turned)

    def _stored(self, shares: Tensor, turned: list[int]) -> NDArray[np.uint8]:
        """Return shares ``(h, w, d)`` as they are stored, ``(k, j, i)``."""
        whole = shares.mul(FULL).round_().clamp_(0, FULL).to(torch.uint8)
        stored: NDArray[np.uint8] = whole.flip(turned).permute(*self._storage).numpy()
        return stored


@dataclass(frozen=True, eq=False)
class _Line:
    """Input voxels along one model axis, by ascending model coordinate.

    Attributes
    ----------
    lower, upper, share
        ``(n,)``: the model voxels on either side, and how far each is on the way between them.
    span
        Which input voxels.
    reversed
        Whether they run the other way in the input.
    """

    lower: Tensor
    upper: Tensor
    share: Tensor
    span: slice
    reversed: bool

    def __len__(self) -> int:
        return len(self.lower)

    def part(self, first: int, end: int, origin: int) -> _Line:
        """Return some of the voxels, model voxels counted from ``origin``."""
        start, stop = self.span.start + first, self.span.start + end
        if self.reversed:
            start, stop = self.span.stop - end, self.span.stop - first
        return _Line(
            self.lower[first:end] - origin,
            self.upper[first:end] - origin,
            self.share[first:end],
            slice(start, stop),
            self.reversed,
        )


def _line(coordinates: NDArray[np.float64], first: int, end: int, within: slice) -> _Line:
    inside = (coordinates >= first - REACH) & (coordinates <= end - 1 + REACH)
    voxels = within.start + np.flatnonzero(inside[within])
    span = slice(int(voxels[0]), int(voxels[-1]) + 1) if len(voxels) else slice(0, 0)
    backwards = len(voxels) > 1 and bool(coordinates[voxels[0]] > coordinates[voxels[-1]])
    at = coordinates[voxels[::-1] if backwards else voxels].clip(first, end - 1)
    lower = np.floor(at).astype(np.int64)
    share = (at - lower).astype(np.float32)
    return _Line(
        torch.from_numpy(lower),
        torch.from_numpy(lower + (share > 0)),
        torch.from_numpy(share),
        span,
        backwards,
    )


def _interpolated(values: Tensor, lines: Sequence[_Line]) -> Tensor:
    """Interpolate ``(h, w, d)`` at the voxels of three lines, the last axis first.

    So whole rows and planes are copied where there is most to copy.
    """
    for axis, line in reversed([*enumerate(lines)]):
        lower, upper = (values.index_select(axis, at) for at in (line.lower, line.upper))
        shape = [1, 1, 1]
        shape[axis] = len(line)
        values = lower.lerp_(upper, line.share.view(shape))
    return values


def _softmax(logits: Iterator[Tensor], channels: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
    """Return the largest share of classes, and those of some."""
    total = best = next(logits)
    kept = {0: best.clone()} if 0 in channels else {}
    for channel, values in enumerate(logits, start=1):
        total, best = torch.logaddexp(total, values), torch.maximum(best, values)
        if channel in channels:
            kept[channel] = values
    return (best - total).exp_(), [kept[channel].sub_(total).exp_() for channel in channels]


def _sigmoid(logits: Iterator[Tensor], channels: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
    """Return how sure the least sure decision is, and the probabilities of some channels."""
    sure: Tensor | None = None
    kept: dict[int, Tensor] = {}
    for channel, values in enumerate(logits):
        shares = values.sigmoid_()
        decided = torch.maximum(shares, 1 - shares)
        sure = decided if sure is None else torch.minimum(sure, decided)
        if channel in channels:
            kept[channel] = shares
    assert sure is not None  # there is a channel
    return sure, [kept[channel] for channel in channels]
