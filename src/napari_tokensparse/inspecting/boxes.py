"""Tokens as boxes in space: where each lies, what it was worth and where it was pruned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_tokensparse.segmenting.tokenmaps import NOT_PROCESSED
from napari_tokensparse.volumes.background import border_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_tokensparse.segmenting.infer import Segmentation
    from napari_tokensparse.segmenting.tokenmaps import TokenMaps
    from napari_tokensparse.volumes.volume import Volume

_CONTENT = 0.01
"""A token holds something from this share of its voxels on: less is noise, or an image's rim."""
_ROWS_AT_ONCE = 16
_SAMPLES = 2**20


@dataclass(frozen=True, eq=False)
class TokenBoxes:
    """Tokens that were processed and hold more than background.

    Attributes
    ----------
    lower, upper
        ``(n, 3)`` edges in voxels ``(i, j, k)`` of the input, cut off where the input ends; voxel m
        reaches from m - 0.5 to m + 0.5.
    positions
        Where they lie on the token grid: three arrays of n, as `numpy.nonzero` gives them.
    tokens
        The maps of the run.
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    positions: tuple[NDArray[np.int64], ...]
    tokens: TokenMaps

    @property
    def pruned_at(self) -> NDArray[np.uint8]:
        """Return ``(n,)``: 1..S pruned at that stage, S + 1 kept to the end."""
        return self.tokens.pruned_at[self.positions]

    def importance(self, stage: int) -> NDArray[np.float32]:
        """Return ``(n,)`` importances at a stage, counted from 1; NaN where it was not reached."""
        return self.tokens.importance[stage - 1][self.positions]

    def rank(self, stage: int) -> NDArray[np.float32]:
        """Return ``(n,)`` ranks, 0 least to 1 most important, as `importance`."""
        return self.tokens.rank[stage - 1][self.positions]


def token_boxes(result: Segmentation, volume: Volume) -> TokenBoxes:
    """Lay the tokens of a run out in space, without those that hold background alone.

    Background is the value of the volume's border where it has one; otherwise what lies below the
    threshold between dark and bright (Otsu 1979), as the air round a CT.

    Parameters
    ----------
    result
        A run on ``volume``.
    volume
        What was segmented.
    """
    tokens = result.tokens
    where = np.nonzero((tokens.pruned_at != NOT_PROCESSED) & holding_content(tokens, volume))
    lower, upper = tokens.edges(where)
    ends = np.array(volume.shape) - 0.5
    return TokenBoxes(lower.clip(-0.5, ends), upper.clip(-0.5, ends), where, tokens)


def holding_content(tokens: TokenMaps, volume: Volume) -> NDArray[np.bool_]:
    """Return which tokens ``(gh, gw, gd)`` hold more than background, in any channel."""
    length = tokens.pruned_at.size
    numbers = np.arange(1, length + 1).reshape(tokens.pruned_at.shape)
    tests = [_content_test(channel) for channel in volume.array]
    voxels = np.zeros(1 + length, np.int64)  # the first: of voxels outside the token grid
    content = np.zeros((len(tests), 1 + length), np.int64)
    for first in range(0, volume.shape[0], _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        of_token = tokens.on_input_grid(numbers, rows)
        voxels += np.bincount(of_token.ravel(), minlength=1 + length)
        for counts, channel, has_content in zip(content, volume.array, tests, strict=True):
            inside = of_token[has_content(np.asarray(channel[rows]))]
            counts += np.bincount(inside, minlength=1 + length)
    holds: NDArray[np.bool_] = np.any(content > _CONTENT * voxels, axis=0)
    return holds[1:].reshape(tokens.pruned_at.shape)


def _content_test(
    channel: NDArray[np.generic],
) -> Callable[[NDArray[np.generic]], NDArray[np.bool_]]:
    border = border_value(channel)
    if border is not None:
        return lambda values: values != border
    step = max(1, round((channel.size / _SAMPLES) ** (1 / 3)))
    from skimage.filters import threshold_otsu  # late: it imports half of SciPy

    threshold = threshold_otsu(np.asarray(channel[::step, ::step, ::step]).ravel())
    return lambda values: values > threshold
