"""From logits to labels: what is decided at a voxel, and between which classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True)
class LabelRule:
    """How logits of K channels become labels.

    What is decided of a voxel are its *codes*: the channel that wins, ``(..., 1)``, or which
    channels are positive, ``(..., K)``.

    Attributes
    ----------
    values
        Label value of each channel.
    exclusive
        Whether the largest logit wins, or every positive channel is there.
    paint_order
        Channels in the order in which positive ones are painted over one another; their own if
        empty.
    """

    values: tuple[int, ...]
    exclusive: bool = True
    paint_order: tuple[int, ...] = ()

    @property
    def regions(self) -> int:
        """Number of channels that may overlap; 0 where the largest logit wins."""
        return 0 if self.exclusive else len(self.values)

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """Smallest type that holds every label value."""
        smallest: np.dtype[np.unsignedinteger] = np.min_scalar_type(max(self.values))
        return smallest

    def codes(self, logits: Tensor) -> Tensor:
        """Decide logits ``(..., K)``; the first of equals wins."""
        if self.exclusive:
            return logits.argmax(dim=-1, keepdim=True).to(self._code_type)
        return (logits > 0).to(torch.uint8)  # sigmoid > 0.5

    def labels(self, codes: Tensor) -> NDArray[np.unsignedinteger]:
        """Turn codes into label values ``(...)``."""
        classes, values = codes.numpy(), np.asarray(self.values, self.dtype)
        if self.exclusive:
            return values.take(classes[..., 0])
        labels = np.zeros(classes.shape[:-1], self.dtype)
        for channel in self.paint_order or range(len(values)):
            labels[classes[..., channel] > 0] = values[channel]
        return labels

    def contests(
        self, corners: Tensor, codes: Tensor, slack: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Find which channels can be decided for between the corners of cells.

        A channel that lies below another one at every corner lies below it everywhere between.

        Parameters
        ----------
        corners
            ``(8, N, K)`` logits, or at each corner a multiple of them.
        codes
            ``(N, ...)``, those of any corner.
        slack
            ``(8, N)``: how far below another one a channel may lie and still contend, in the same
            multiples; 0 if not given. Of exclusive classes only.

        Yields
        ------
        cells
            ``(N',)``: numbers of the cells for which up to n channels contend.
        channels
            ``(n, N')``, ascending; where fewer contend, channel 0 fills up and changes nothing.
        """
        _, cells, k = corners.shape
        if not self.exclusive:
            yield torch.arange(cells), torch.arange(k)[:, None].expand(k, cells)
            return
        leader = codes.long()
        lead = corners[0].new_full((cells, k), -torch.inf)
        bars = corners.gather(-1, leader.expand(8, cells, 1))
        if slack is not None:
            bars -= slack[..., None]
        for corner, bar in zip(corners, bars, strict=True):
            torch.maximum(lead, corner - bar, out=lead)
        counts, table = _listed(lead >= 0)
        few = 1
        while few < len(table):
            fewer, few = few, min(2 * few, len(table))
            some = ((counts > fewer) & (counts <= few)).nonzero()[:, 0]
            if len(some):
                yield some, table[:few, some]

    def decide(self, logits: Tensor, channels: Tensor) -> Tensor:
        """Decide between the channels that contend: logits ``(..., n, N)``, channels ``(n, N)``."""
        if not self.exclusive:
            return self.codes(logits.movedim(-2, -1))
        (best, *others), (won, *rivals) = logits.unbind(-2), channels.to(self._code_type)
        for other, rival in zip(others, rivals, strict=True):
            won = torch.where(other > best, rival, won)
            best = torch.maximum(best, other)
        codes: Tensor = won[..., None]
        return codes

    @property
    def _code_type(self) -> torch.dtype:
        return torch.uint8 if len(self.values) <= 256 else torch.int32


def _listed(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Count the chosen columns of each row of ``(N, K)``, and list them in ``(n, N)``; 0 fills."""
    counts = chosen.sum(dim=-1)
    row, column = chosen.nonzero().unbind(dim=1)
    place = torch.arange(len(row)) - (counts.cumsum(dim=0) - counts)[row]
    table = torch.zeros(int(counts.max()), len(chosen), dtype=torch.int64)
    table[place, row] = column
    return counts, table
