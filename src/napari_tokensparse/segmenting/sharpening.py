"""Borders at the scan's own resolution, where the network's grid is coarser.

Where more than one class is likely, the network's interpolated shares are the prior, and the fitted
appearance of the classes in this very scan (`napari_tokensparse.segmenting.appearance`) is the
likelihood. Another class takes a voxel over only where the intensities tell it from the one that
leads: where they do not, labels stay bit for bit.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_tokensparse.segmenting.appearance import Samples, fit
from napari_tokensparse.segmenting.contests import Block, joined
from napari_tokensparse.volumes.volume import is_lazy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_tokensparse.segmenting.appearance import Appearance
    from napari_tokensparse.segmenting.contests import Contests
    from napari_tokensparse.volumes.volume import Volume

_SAMPLES = 40_000
_FEWEST_SAMPLES = 200  # below which nothing can be fitted
_AT_ONCE = 2**16
_STRONGEST = 3.0  # nats that a voxel's intensity may weigh: no outlier overrules a sure prior


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
        Those voxels.
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

    def renewed(block: Block) -> int:
        channels = decide(block, appearance, *_seen(volume, block.voxels))
        others = channels != block.channels[0]
        stored[block.voxels[others]] = known[channels[others]]
        return int(others.sum())

    if is_lazy(volume.array):  # whose own scheduler reads side by side
        return sum(map(renewed, _pieces(contests)))
    with ThreadPoolExecutor(torch.get_num_threads()) as side_by_side:
        return sum(side_by_side.map(renewed, _pieces(contests)))


def decide(
    block: Block,
    appearance: Appearance,
    intensities: NDArray[np.float32],
    places: NDArray[np.float32],
) -> NDArray[np.integer]:
    """Return the class ``(M,)`` of each voxel of a block.

    Parameters
    ----------
    block
        The voxels and their prior.
    appearance
        Of the classes.
    intensities, places
        ``(M, C)`` and ``(M, 3)``, as in `Samples`.
    """
    channels = block.channels
    unbiased = appearance.unbiased(intensities, places)
    nats = appearance.log_likelihoods(unbiased, channels)
    evidence = np.clip(nats - nats[0], -_STRONGEST, _STRONGEST)
    scores = evidence * appearance.trust[channels, channels[0]] - block.gaps
    decided: NDArray[np.integer] = np.take_along_axis(channels, scores.argmax(axis=0)[None], 0)[0]
    return decided


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
    intensities, places = _seen(volume, np.concatenate([some.voxels, sure]))
    return Samples(intensities, places, prior)


def _step(count: int, shape: tuple[int, int, int]) -> int:
    """Return every how manieth voxel is a sample, so that they lie in no regular planes."""
    step = max(1, count // _SAMPLES)
    while math.gcd(step, math.prod(shape)) > 1:
        step += 1
    return step


def _seen(
    volume: Volume, voxels: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the intensities ``(M, C)`` and places ``(M, 3)`` of voxels, numbered as stored."""
    k, j, i = np.unravel_index(voxels, volume.shape[::-1])
    array: Any = volume.array
    # Of a lazy array, each block is read once; its voxels come first.
    found = np.asarray(array.vindex[:, i, j, k]) if is_lazy(array) else array[:, i, j, k].T
    ends = np.maximum(np.array(volume.shape) - 1, 1)
    places = 2 * np.stack([i, j, k], axis=1) / ends - 1
    return found.astype(np.float32), places.astype(np.float32)
