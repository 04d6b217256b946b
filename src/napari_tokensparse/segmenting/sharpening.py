"""Borders at the scan's own resolution, where the network's grid is coarser.

Where more than one class is likely, the network's interpolated shares are the prior, and the fitted
appearance of the classes in this very scan (`napari_tokensparse.segmenting.appearance`) is the
likelihood. Another class takes a voxel over only where the intensities tell it from the one that
leads: where they do not, labels stay bit for bit. The labels of its neighbours speak too, a little
and once (a Markov field, as in Van Leemput et al.), so that noise does not decide alone.

Such a voxel is noted while labels are made, with the few classes that may win it and how far each
lies behind, so that no logits of all classes are held: about 20 bytes a voxel.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_tokensparse.segmenting.appearance import Samples, fit, places
from napari_tokensparse.volumes.volume import is_lazy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_tokensparse.segmenting.appearance import Appearance
    from napari_tokensparse.volumes.volume import Volume

MARGIN = 4.6
"""Nats that a class may lie behind and still be likely: a hundredth of the best one's share."""
_MOST = 4  # classes that are noted of a voxel
NOTED_BYTES = 8 + 3 * _MOST
"""Memory of a voxel that is noted, of a network of at most 256 classes."""
_JOINED = 2**18  # voxels of a block, about
_SAMPLES = 40_000
_FEWEST_SAMPLES = 200  # below which nothing can be fitted
_AT_ONCE = 2**16
_NEIGHBOUR = 0.25  # nats that one of six neighbours speaks for its own class
_STRONGEST = 3.0  # nats that a voxel's intensity may weigh: no outlier overrules a sure prior


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
        filled = torch.where(filling, -torch.inf, logits) if bool(filling.any()) else logits
        contested = _contested(filled, self.margin) & _once(voxels)
        at, cells = contested.flatten(0, 2).nonzero().unbind(dim=1)
        if not len(at):
            return
        values = filled.flatten(0, 2)[at, :, cells]  # (M, n)
        best, order = values.topk(min(_MOST, values.shape[1]), dim=1)
        behind = best[:, :1] - best
        classes = channels.T[cells].gather(1, order)
        gaps = torch.where(behind < self.margin, behind, torch.inf).half()
        self._loose.append(
            Block(
                voxels.expand(contested.shape).flatten(0, 2)[at, cells].numpy(),
                # A row of each: what is done with them goes along the voxels.
                _filled(classes.T.contiguous().numpy().astype(self._type), 0),
                _filled(gaps.T.contiguous().numpy(), np.inf),
            )
        )
        if sum(map(len, self._loose)) > _JOINED:
            self._join()

    def _join(self) -> None:
        if self._loose:
            self._blocks.append(joined(self._loose))
            self._loose = []


def _contested(logits: Tensor, margin: float) -> Tensor:
    """Tell of ``(m, m, m, n, N)`` where another class lies within a margin of the best one."""
    if logits.shape[-2] == 2:
        one, other = logits.unbind(dim=-2)
        return (one - other).abs_() < margin
    best = logits.amax(dim=-2, keepdim=True)
    return (best - logits < margin).sum(dim=-2, dtype=torch.uint8) > 1


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


def sharpen(
    labels: NDArray[np.unsignedinteger],
    contests: Contests,
    volume: Volume,
    values: Sequence[int],
) -> int:
    """Decide anew, by the scan's intensities, the voxels at which more than one class is likely.

    Parameters
    ----------
    labels
        ``(i, j, k)``, first axis fastest in memory; changed in place.
    contests
        Those voxels; what is noted of them is changed.
    volume
        The scan, of any number of channels.
    values
        Label of each class that excludes the others, background first.

    Returns
    -------
    int
        How many voxels have another label.
    """
    stored = labels.T.reshape(-1)
    samples = _samples(stored, contests, volume, np.asarray(values))
    if len(samples.prior) < _FEWEST_SAMPLES:
        return 0
    appearance, known = fit(samples), np.asarray(values, labels.dtype)
    gains = appearance.gains(volume.shape)

    def renewed(block: Block) -> None:
        unbiased = _seen(volume, block.voxels) / gains.at(block.voxels)
        weigh(block, appearance, unbiased)
        stored[block.voxels] = known[best(block.channels, -block.gaps)]

    def agreed(block: Block) -> tuple[NDArray[np.int64], NDArray[np.unsignedinteger]]:
        block = block.part((block.gaps < 6 * _NEIGHBOUR).sum(axis=0) > 1)
        votes = _NEIGHBOUR * neighbours(stored, known[block.channels], block.voxels, volume)
        votes = (votes - votes[0]) * appearance.trust[block.channels, block.channels[0]]
        return block.voxels, known[best(block.channels, votes - block.gaps)]

    pieces = list(_pieces(contests))
    with ThreadPoolExecutor(torch.get_num_threads()) as side_by_side:
        if is_lazy(volume.array):  # whose own scheduler reads side by side
            list(map(renewed, pieces))
        else:
            list(side_by_side.map(renewed, pieces))
        decided = list(side_by_side.map(agreed, pieces))
    for voxels, labelled in decided:
        stored[voxels] = labelled
    return sum(
        int(np.count_nonzero(stored[block.voxels] != known[block.channels[0]])) for block in pieces
    )


def weigh(block: Block, appearance: Appearance, unbiased: NDArray[np.floating]) -> None:
    """Let the intensities of voxels say how far their classes lie behind the best one.

    Parameters
    ----------
    block
        The voxels and their prior; its gaps are changed in place.
    appearance
        Of the classes.
    unbiased
        ``(M, C)`` intensities without the bias.
    """
    channels = block.channels
    nats = appearance.log_likelihoods(unbiased, channels)
    evidence = np.clip(nats - nats[0], -_STRONGEST, _STRONGEST)
    scores = evidence * appearance.trust[channels, channels[0]] - block.gaps
    block.gaps[:] = scores.max(axis=0) - scores


def best(channels: NDArray[np.integer], scores: NDArray[np.floating]) -> NDArray[np.integer]:
    """Return the class ``(M,)`` with the highest of scores ``(n, M)``, of some the first."""
    chosen: NDArray[np.integer] = np.take_along_axis(channels, scores.argmax(axis=0)[None], 0)[0]
    return chosen


def neighbours(
    stored: NDArray[np.unsignedinteger],
    contending: NDArray[np.unsignedinteger],
    voxels: NDArray[np.int64],
    volume: Volume,
) -> NDArray[np.float32]:
    """Count the six neighbours of voxels that have each of some labels; far ones count less.

    Parameters
    ----------
    stored
        Labels of all voxels, the first axis fastest.
    contending
        ``(n, M)`` labels.
    voxels
        ``(M,)``: their numbers.
    volume
        The scan; a neighbour counts by the finest of its spacings over that between both.
    """
    votes = np.zeros(contending.shape, np.float32)
    line, first = np.divmod(voxels, volume.shape[0])
    third, second = np.divmod(line, volume.shape[1])
    stride = 1
    for at, n, apart in zip((first, second, third), volume.shape, volume.spacing, strict=True):
        weight = np.float32(min(volume.spacing) / apart)
        for step, there in ((-1, at > 0), (1, at < n - 1)):
            beside = stored.take(voxels + step * stride, mode="clip")
            votes += weight * ((contending == beside) & there)
        stride *= n
    return votes


def _pieces(contests: Contests) -> Iterator[Block]:
    for block in contests:
        for first in range(0, len(block), _AT_ONCE):
            yield block.part(slice(first, first + _AT_ONCE))


def _samples(
    stored: NDArray[np.unsignedinteger],
    contests: Contests,
    volume: Volume,
    values: NDArray[np.integer],
) -> Samples:
    """Take every n-th voxel of what is labelled or contested."""
    step = _step(max(len(contests), int(np.count_nonzero(stored))), volume.shape)
    some = joined([block.part(block.voxels % step == 0) for block in contests])
    regular = np.arange(0, len(stored), step)
    sure = np.setdiff1d(regular[stored[::step] > 0], some.voxels, assume_unique=True)
    prior = np.zeros((len(some) + len(sure), len(values)), np.float32)
    shares = np.exp(-some.gaps.astype(np.float32))
    for channels, share in zip(some.channels, shares, strict=True):
        prior[np.arange(len(some)), channels] += share
    order = np.argsort(values)
    known = order[np.searchsorted(values, stored[sure], sorter=order)]
    prior[np.arange(len(some), len(prior)), known] = 1
    prior /= prior.sum(axis=1, keepdims=True)
    chosen = np.concatenate([some.voxels, sure])
    return Samples(_seen(volume, chosen), places(chosen, volume.shape), prior)


def _step(count: int, shape: tuple[int, int, int]) -> int:
    """Return every how manieth voxel is a sample, so that they lie in no regular planes."""
    step = max(1, count // _SAMPLES)
    while math.gcd(step, math.prod(shape)) > 1:
        step += 1
    return step


def _seen(volume: Volume, voxels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the intensities ``(M, C)`` of voxels, numbered as stored."""
    array: Any = volume.array
    if not is_lazy(array) and all(channel.T.flags.c_contiguous for channel in array):
        flat = [channel.T.reshape(-1).take(voxels) for channel in array]
        return np.stack(flat, axis=1).astype(np.float32)
    k, j, i = np.unravel_index(voxels, volume.shape[::-1])
    # Of a lazy array, each block is read once; its voxels come first.
    values = np.asarray(array.vindex[:, i, j, k]) if is_lazy(array) else array[:, i, j, k].T
    return values.astype(np.float32)
