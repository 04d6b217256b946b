"""Weighted stitching of windows, released in slabs of rows along the first model axis.

Only the rows that a window can still change are in memory, and of them only what windows look at.
Channels lie last, as networks give them: what a voxel's class is decided from lies together.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from monai.data.utils import compute_importance_map

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

    from napari_tokensparse.model.crop import TokenBox
    from napari_tokensparse.model.info import Blending
    from napari_tokensparse.volumes.windows import Shape, WindowGrid

_VOXELS_AT_ONCE = 2**20
TINY = float(np.finfo(np.float32).tiny)
"""The weight of a voxel that no window looked at, to divide by."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a volume that no further window changes.

    Attributes
    ----------
    sums
        ``(n, w, d, K)``: weighted logits, added up over windows.
    weights
        ``(n, w, d)``: the weights, added up; 0 where no window looked, and the sums are what is
        there times `TINY`.
    """

    sums: Tensor
    weights: Tensor

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.sums)

    def part(self, first: int | None, end: int | None) -> Rows:
        """Return the rows ``first .. end - 1``, as a slice counts."""
        return Rows(self.sums[first:end], self.weights[first:end])

    def followed_by(self, rows: Rows) -> Rows:
        """Put the next rows after these."""
        joined = [
            torch.cat(pair) for pair in ((self.sums, rows.sums), (self.weights, rows.weights))
        ]
        return Rows(*joined)

    def clone(self) -> Rows:
        """Copy them."""
        return Rows(self.sums.clone(), self.weights.clone())

    def numbers(self, h: Tensor, w: Tensor, d: Tensor) -> Tensor:
        """Return the numbers of the voxels at these places, as they lie in memory."""
        _, width, depth = self.weights.shape
        return (h * width + w) * depth + d


@dataclass(frozen=True, eq=False)
class Frame:
    """The part of a volume in which networks that crop their windows look at anything.

    Attributes
    ----------
    first, end
        Its first voxel of the padded grid and the one after its last, per axis.
    around
        ``(K,)`` logits of what no window looked at.
    """

    first: Shape
    end: Shape
    around: Tensor

    @property
    def shape(self) -> Shape:
        """Voxels along each axis."""
        h, w, d = (e - f for f, e in zip(self.first, self.end, strict=True))
        return h, w, d


def frame_of(
    grid: WindowGrid, looked_at: Iterable[tuple[Shape, TokenBox | None]], around: Tensor
) -> Frame | None:
    """Return the frame round the boxes of windows, given with their starts.

    There is a voxel round it, so that what is interpolated at its edge is between what was looked
    at and what was not. None if there is no window.
    """
    first, end = list(grid.padded), [0, 0, 0]
    for start, box in looked_at:
        for axis, at in enumerate(start):
            inner = slice(0, grid.window[axis]) if box is None else box.voxels[axis]
            first[axis] = max(0, min(first[axis], at + inner.start - 1))
            end[axis] = min(grid.padded[axis], max(end[axis], at + inner.stop + 1))
    (h, w, d), (h_end, w_end, d_end) = first, end
    return Frame((h, w, d), (h_end, w_end, d_end), around) if h < h_end else None


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
    frame
        The part that is stitched: the rows are its own. All of the padded volume, with zeros where
        no window was run, if not given.
    """

    def __init__(
        self,
        grid: WindowGrid,
        channels: int,
        blending: Blending = "gaussian",
        frame: Frame | None = None,
    ) -> None:
        whole = Frame((0, 0, 0), grid.padded, torch.zeros(channels))
        self._grid, self._frame = grid, frame or whole
        height, *across = self._frame.shape
        rows = (min(grid.window[0], height), *across)
        self._lone = len(grid.starts) == 1
        self._first = 0
        self._on_disk = False
        self._at_once = max(1, _VOXELS_AT_ONCE // (rows[1] * rows[2]))
        if self._lone:  # its logits are the means
            self._sums = self._frame.around.expand(*rows, channels)
            self._weights = torch.zeros(rows)
            return
        self._weight = compute_importance_map(grid.window, mode=blending, sigma_scale=0.125)
        # The same for all channels, but a product of arrays of one shape is a third faster.
        self._spread = self._weight[..., None].repeat(1, 1, 1, channels)
        # What nothing is added to is divided by the smallest weight there is.
        self._untouched = self._frame.around * TINY
        # Rings: row r of the frame is row r modulo their length.
        self._sums = self._untouched.expand(*rows, channels).clone()
        self._weights = torch.zeros(rows)

    def add(self, start: Shape, logits: Tensor, box: TokenBox | None = None) -> None:
        """Add a window's logits; starts must not fall behind released rows.

        Parameters
        ----------
        start
            Of the window.
        logits
            ``(K, *window)``, or of the box alone.
        box
            What of the window was looked at, within the frame.
        """
        rows, window = logits.movedim(0, -1), self._grid.window
        inner = tuple(slice(0, n) for n in window) if box is None else box.voxels
        h, w, d = (
            slice(at + span.start - first, at + span.stop - first)
            for at, span, first in zip(start, inner, self._frame.first, strict=True)
        )
        if self._lone:
            if rows.shape[:3] == self._frame.shape:
                self._sums = rows.contiguous()
            else:
                self._sums = self._sums.clone()
                self._sums[h, w, d] = rows
            self._weights = torch.ones(self._sums.shape[:3])
            return
        spread, weight = self._spread[inner], self._weight[inner]
        turn = h.start % len(self._sums)
        some = min(len(rows), len(self._sums) - turn)
        for ring, part in (
            (slice(turn, turn + some), slice(0, some)),
            (slice(0, len(rows) - some), slice(some, len(rows))),
        ):
            self._sums[ring, w, d].addcmul_(rows[part], spread[part])
            self._weights[ring, w, d] += weight[part]

    def move_to_disk(self) -> bool:
        """Keep the sums in a temporary file from now on; it goes when the stitcher does.

        Returns whether they were in memory until now, and there were any.

        Raises
        ------
        OSError
            The disk is full; the sums stay in memory.
        """
        if self._lone or self._on_disk:
            return False
        with tempfile.TemporaryFile() as file:
            for row in self._sums:  # writing them takes the room now, not when a page is needed
                row.numpy().tofile(file)
            file.flush()
            mapped = np.memmap(file, np.float32, "r+", shape=tuple(self._sums.shape))
        self._sums, self._on_disk = torch.from_numpy(mapped), True
        return True

    def release(self, until: int) -> Iterator[Rows]:
        """Yield the frame's rows that lie before the padded row ``until``, a few at once, in order.

        Each is good until the next one is asked for.
        """
        length, height = len(self._sums), self._frame.shape[0]
        until = min(until - self._frame.first[0], height)
        while self._first < until:
            turn = self._first % length
            n = min(until - self._first, length - turn, self._at_once)
            done = Rows(self._sums[turn : turn + n], self._weights[turn : turn + n])
            yield done
            self._first += n
            if self._first + length - n < height:  # for rows to come
                done.sums.copy_(self._untouched)
                done.weights.zero_()
