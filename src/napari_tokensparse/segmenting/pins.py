"""Pins: tokens of a volume that a person keeps, or prunes, whatever their scores.

They are numbers of tokens on the padded volume's token grid, counted with the last axis fastest, so
that a receipt holds them and a run can be repeated without the mask that they were drawn in.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_tokensparse.model.ratios import DROP, KEEP
from napari_tokensparse.segmenting.result import SegmentError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_tokensparse.segmenting.options import Options
    from napari_tokensparse.segmenting.tokenmaps import TokenPlaces
    from napari_tokensparse.volumes.windows import Shape, WindowGrid

_SPAN = re.compile(r"(\d{1,12})(?:-(\d{1,12}))?")


def written(tokens: NDArray[np.bool_]) -> str | None:
    """Write which tokens ``(gh, gw, gd)`` are chosen, as numbers and spans; None if none is.

    Examples
    --------
    >>> written(np.array([[[True, True, True, False, True, False]]]))
    '0-2,4'
    """
    numbers = np.flatnonzero(tokens)
    if not len(numbers):
        return None
    breaks = [0, *(np.flatnonzero(np.diff(numbers) > 1) + 1).tolist(), len(numbers)]
    spans = [(numbers[first], numbers[end - 1]) for first, end in pairwise(breaks)]
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in spans)


def read(text: str, shape: Shape) -> NDArray[np.bool_]:
    """Read what `written` wrote, for a token grid of ``shape``.

    Raises
    ------
    SegmentError
        In one line: it is no list of numbers, or the volume has no such token.
    """
    chosen = np.zeros(shape, bool)
    for part in text.split(","):
        span = _SPAN.fullmatch(part.strip())
        if span is None:
            raise SegmentError(f"pins {text[:40]!r}: must be numbers of tokens, like 0-2,4")
        first, last = int(span[1]), int(span[2] or span[1])
        if not first <= last < chosen.size:
            raise SegmentError(
                f"pins {part.strip()}: must ascend below {chosen.size}, the volume's tokens"
            )
        chosen.reshape(-1)[first : last + 1] = True
    return chosen


def tokens_under(mask: NDArray[np.generic], places: TokenPlaces) -> NDArray[np.bool_]:
    """Return the tokens ``(gh, gw, gd)`` that hold a voxel of a mask.

    Parameters
    ----------
    mask
        ``(i, j, k)`` on the input's grid; what is not 0 is inside.
    places
        Where the input's voxels lie on the token grid.

    Raises
    ------
    SegmentError
        The mask has another shape than the input.
    """
    if mask.shape != places.shape:
        raise SegmentError(f"pins of shape {mask.shape}: must be the scan's {places.shape}")
    chosen = np.zeros(places.grid, bool)
    where: list[NDArray[np.int64]] = [np.zeros(0, np.int64)] * 3
    voxels = mask.nonzero()
    inside = np.ones(len(voxels[0]), bool)
    for axis, numbers in enumerate(voxels):
        index, on_grid = places.indices(axis)
        where[places.axes[axis].axis] = index[numbers]
        inside &= on_grid[numbers]
    h, w, d = (each[inside] for each in where)
    chosen[h, w, d] = True
    return chosen


def pins_of(options: Options, shape: Shape) -> NDArray[np.int8] | None:
    """Return what options say of every token ``(gh, gw, gd)``; None if nothing is pinned.

    A token that is both kept and dropped is kept: what a person wants to see outweighs what they
    want to save.

    Raises
    ------
    SegmentError
        In one line: the options name no tokens of this volume.
    """
    if options.pin is None and options.drop is None:
        return None
    pins = np.zeros(shape, np.int8)
    if options.drop is not None:
        pins[read(options.drop, shape)] = DROP
    if options.pin is not None:
        pins[read(options.pin, shape)] = KEEP
    return pins


def of_window(
    pins: NDArray[np.int8] | None, grid: WindowGrid, start: Shape, device: torch.device
) -> Tensor | None:
    """Return what is pinned of a window's tokens, ``(1, L)``; None if nothing is.

    Parameters
    ----------
    pins
        Of all tokens, or None.
    grid
        The windows.
    start
        Of this one, in padded voxels.
    device
        Where the network is.
    """
    if pins is None:
        return None
    h, w, d = (
        slice(at // grid.patch, (at + n) // grid.patch)
        for at, n in zip(start, grid.window, strict=True)
    )
    window = pins[h, w, d].reshape(1, -1)
    return torch.from_numpy(window).to(device) if window.any() else None
