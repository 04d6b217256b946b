"""Voxels at which more than one class is likely: noted while labels are made, then decided anew.

A voxel is noted with the few classes that may win it and how far each lies behind, so that no
logits of all classes are held: about 20 bytes a voxel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

MARGIN = 4.6
"""Nats that a class may lie behind and still be likely: a hundredth of the best one's share."""
_MOST = 4  # classes that are noted of a voxel
NOTED_BYTES = 8 + 3 * _MOST
"""Memory of a voxel that is noted, of a network of at most 256 classes."""
_JOINED = 2**18  # voxels of a block, about


@dataclass(frozen=True, eq=False)
class Block:
    """Some voxels and the classes that are likely there.

    Attributes
    ----------
    voxels
        ``(M,)``: their numbers, as the labels lie in memory.
    channels
        ``(n, M)``: the classes, the likeliest first.
    gaps
        ``(n, M)`` nats by which each lies behind the first; infinite where there are fewer.
    """

    voxels: NDArray[np.int64]
    channels: NDArray[np.integer]
    gaps: NDArray[np.float16]

    def __len__(self) -> int:
        """Count the voxels."""
        return len(self.voxels)

    def part(self, chosen: NDArray[np.bool_] | slice) -> Block:
        """Return some of the voxels."""
        return Block(self.voxels[chosen], self.channels[:, chosen], self.gaps[:, chosen])


def joined(blocks: list[Block]) -> Block:
    """Make one block of several, or of none."""
    if not blocks:
        return Block(
            np.zeros(0, np.int64), np.zeros((_MOST, 0), np.uint8), np.zeros((_MOST, 0), np.float16)
        )
    return Block(
        np.concatenate([each.voxels for each in blocks]),
        np.concatenate([each.channels for each in blocks], axis=1),
        np.concatenate([each.gaps for each in blocks], axis=1),
    )


class Contests:
    """Gathers the voxels at which more than one class is likely.

    Parameters
    ----------
    channels
        Of the network.
    margin
        Nats that a class may lie behind the best one and still be likely.
    """

    def __init__(self, channels: int, margin: float = MARGIN) -> None:
        self.margin = margin
        self._type = np.min_scalar_type(channels - 1)
        self._blocks: list[Block] = []
        self._loose: list[Block] = []

    def __iter__(self) -> Iterator[Block]:
        """Go through what was noted, some voxels at a time."""
        self._join()
        return iter(self._blocks)

    def __len__(self) -> int:
        """Count the voxels."""
        return sum(len(block) for block in (*self._blocks, *self._loose))

    def add(self, voxels: Tensor, channels: Tensor, logits: Tensor) -> None:
        """Note voxels of cells.

        Parameters
        ----------
        voxels
            ``(m, m, m, N)``: numbers of the voxels of each cell; where it has fewer along an axis,
            the first is repeated.
        channels
            ``(n, N)`` that contend in each cell, ascending; 0 fills up.
        logits
            ``(m, m, m, n, N)``.
        """
        filling = channels == 0
        filling[0] = False
        ranked = torch.where(filling, -torch.inf, logits).movedim(-2, 0)  # (n, m, m, m, N)
        best, order = ranked.topk(min(_MOST, len(ranked)), dim=0)
        behind = best[0] - best
        likely = behind < self.margin
        chosen = likely[1:].any(dim=0) & _once(voxels)
        if not bool(chosen.any()):
            return
        classes = channels[:, None, None, None].expand(ranked.shape).gather(0, order)
        gaps = torch.where(likely, behind, torch.inf).half()
        self._loose.append(
            Block(
                voxels.expand(chosen.shape)[chosen].numpy(),
                _filled(classes[:, chosen].numpy().astype(self._type), 0),
                _filled(gaps[:, chosen].numpy(), np.inf),
            )
        )
        if sum(map(len, self._loose)) > _JOINED:
            self._join()

    def _join(self) -> None:
        if self._loose:
            self._blocks.append(joined(self._loose))
            self._loose = []


def _once(voxels: Tensor) -> Tensor:
    """Tell which voxels ``(m, m, m, N)`` are no repetition of a cell's first along an axis."""
    once = torch.ones(voxels.shape, dtype=torch.bool)
    for axis in range(3):
        first, others = voxels.narrow(axis, 0, 1), voxels.shape[axis] - 1
        once.narrow(axis, 1, others).logical_and_(voxels.narrow(axis, 1, others) != first)
    return once


def _filled(values: NDArray[Any], filling: float) -> NDArray[Any]:
    """Fill ``(n, M)`` up to as many classes as are noted of every voxel."""
    return np.pad(values, ((0, _MOST - len(values)), (0, 0)), constant_values=filling)
