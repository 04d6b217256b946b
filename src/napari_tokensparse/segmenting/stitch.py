"""Weighted stitching of windows, released in slabs of rows along the first model axis.

Only the rows that a window can still change are in memory. Channels lie last, as networks give
them: what a voxel's class is decided from lies together.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from monai.data.utils import compute_importance_map

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from napari_tokensparse.model.info import Blending
    from napari_tokensparse.volumes.windows import Shape, WindowGrid

_VOXELS_AT_ONCE = 2**20


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a volume that no further window changes.

    Attributes
    ----------
    sums
        ``(n, w, d, K)``: weighted logits, added up over windows.
    weights
        ``(n, w, d)``: the weights, added up; 0 where no window was run, and so are the sums.
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
        rows = (grid.window[0], *grid.padded[1:])
        self._lone = len(grid.starts) == 1
        self._first = 0
        self._on_disk = False
        self._at_once = max(1, _VOXELS_AT_ONCE // (rows[1] * rows[2]))
        if self._lone:  # its logits are the means
            self._sums = torch.zeros(1).expand(*rows, channels)
            self._weights = torch.zeros(rows)
            return
        self._weight = compute_importance_map(grid.window, mode=blending, sigma_scale=0.125)
        # The same for all channels, but a product of arrays of one shape is a third faster.
        self._spread = self._weight[..., None].repeat(1, 1, 1, channels)
        # Rings: row r of the volume is row r modulo the window's rows.
        self._sums = torch.zeros(*rows, channels)
        self._weights = torch.zeros(rows)

    def add(self, start: Shape, logits: Tensor) -> None:
        """Add a window's logits ``(K, *window)``; starts must not fall behind released rows."""
        rows = logits.movedim(0, -1)
        if self._lone:
            self._sums, self._weights = rows.contiguous(), torch.ones(rows.shape[:3])
            return
        _, w, d = (slice(s, s + n) for s, n in zip(start, self._grid.window, strict=True))
        turn = start[0] % len(rows)
        for ring, window in (
            (slice(turn, None), slice(0, len(rows) - turn)),
            (slice(0, turn), slice(len(rows) - turn, None)),
        ):
            self._sums[ring, w, d].addcmul_(rows[window], self._spread[window])
            self._weights[ring, w, d] += self._weight[window]

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
        """Yield the padded rows before ``until``, a few at once and in order.

        Each is good until the next one is asked for.
        """
        while self._first < until:
            turn = self._first % self._grid.window[0]
            n = min(until - self._first, self._grid.window[0] - turn, self._at_once)
            done = Rows(self._sums[turn : turn + n], self._weights[turn : turn + n])
            yield done
            self._first += n
            if self._first + self._grid.window[0] - n < self._grid.padded[0]:  # for rows to come
                done.sums.zero_()
                done.weights.zero_()
