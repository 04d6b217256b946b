"""A box of voxels: the part of a volume that a run is limited to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_tokensparse.volumes.preprocess import AxisMap
    from napari_tokensparse.volumes.windows import Shape, WindowGrid

_AXES = "ijk"


class RegionError(ValueError):
    """A box that holds no voxel of its volume; one plain line says why."""


@dataclass(frozen=True)
class Box:
    """Voxels ``start <= (i, j, k) < stop`` on the grid of a file.

    Attributes
    ----------
    start, stop
        First voxel along each axis, and the one after the last.

    Raises
    ------
    RegionError
        The box starts before voxel 0, or holds no voxel.
    """

    start: Shape
    stop: Shape

    def __post_init__(self) -> None:
        """Refuse a box without voxels."""
        for axis, first, end in zip(_AXES, self.start, self.stop, strict=True):
            if not 0 <= first < end:
                raise RegionError(f"region {self}: is empty along {axis}; give 0 <= start < stop")

    def __str__(self) -> str:
        """Write the box as `parse_box` reads it."""
        return ",".join(f"{a}:{b}" for a, b in zip(self.start, self.stop, strict=True))

    @property
    def shape(self) -> Shape:
        """Voxels along (i, j, k)."""
        i, j, k = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return i, j, k

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """What cuts the box out of an array ``(i, j, k)``."""
        i, j, k = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return i, j, k

    def check(self, shape: Shape, name: str) -> None:
        """Check that the box lies within a volume.

        Raises
        ------
        RegionError
            It reaches beyond the volume's voxels.
        """
        for axis, end, length in zip(_AXES, self.stop, shape, strict=True):
            if end > length:
                raise RegionError(f"region {self}: {name} has {length} voxels along {axis}")


def parse_box(text: str, shape: Shape, name: str) -> Box:
    """Read a box of a volume.

    Parameters
    ----------
    text
        ``i0:i1,j0:j1,k0:k1``; an end that is left out is the volume's.
    shape
        The volume's (i, j, k).
    name
        What to call the volume in an error.

    Raises
    ------
    RegionError
        The text is not of that form, or the box is empty or not within the volume.

    Examples
    --------
    >>> parse_box("10:20,:,5:", (40, 50, 60), "scan")
    Box(start=(10, 0, 5), stop=(20, 50, 60))
    """
    parts = [part.split(":") for part in text.split(",")]
    try:
        (a, b), (c, d), (e, f) = (
            (int(first or 0), int(end or length))
            for (first, end), length in zip(parts, shape, strict=True)
        )
    except ValueError:
        raise RegionError(
            f"region {text!r}: must be i0:i1,j0:j1,k0:k1 in voxels of {name}"
        ) from None
    box = Box((a, c, e), (b, d, f))
    box.check(shape, name)
    return box


def windows_over(
    box: Box, axes: Sequence[AxisMap], grid: WindowGrid, starts: Sequence[Shape]
) -> list[bool]:
    """Tell which windows decide a label of the box, or own one of its tokens.

    Parameters
    ----------
    box
        On the input's grid.
    axes
        Where each input axis lies on the padded model grid.
    grid
        The windows.
    starts
        Some of their starts.

    Returns
    -------
    list of bool
        One per start. A label is interpolated between two model voxels along each axis, and each of
        those is a mean over all windows that cover it; a token's owner covers the token.
    """
    first, last = [0, 0, 0], [0, 0, 0]
    for axis, a, b in zip(axes, box.start, box.stop, strict=True):
        inside = axis.coordinates(b)[a:]
        first[axis.axis] = int(np.floor(inside.min()))
        last[axis.axis] = int(np.floor(inside.max())) + 1
    return [
        all(
            at <= end and begin < at + length
            for at, length, begin, end in zip(start, grid.window, first, last, strict=True)
        )
        for start in starts
    ]
