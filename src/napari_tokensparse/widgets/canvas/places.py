"""Places in the patient: how they are written, and how the viewer goes there."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from napari_tokensparse.volumes.placement import shown_placement

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari
    from napari.layers import Image
    from numpy.typing import NDArray

    from napari_tokensparse.common.tables import Cell
    from napari_tokensparse.volumes.windows import Shape
    from napari_tokensparse.widgets.results import ShownResult

_DARK = 0.05
"""Share of the contrast that air and its noise have at most."""
_FILLED = 0.95
"""Share of the canvas that is filled, as napari itself does."""
_LOOKED_AT = 64
"""Voxels along each axis: an object is seen in that many too."""

SIDES = ("LR", "PA", "IS")
"""Of x, y and z in RAS mm: the letter below 0, and the one from 0 on."""


def side_text(mm: float | None, axis: int) -> str:
    """Say how far a point is along one of the patient's axes: 0 is x, 1 is y, 2 is z.

    Examples
    --------
    >>> side_text(-9.5, 0), side_text(None, 0)
    ('L 9.5', '–')
    """
    return "–" if mm is None else f"{SIDES[axis][mm > 0]} {abs(mm):.1f}"


def place_texts(first: int) -> dict[int, Callable[[Cell], str]]:
    """Return how a `Table` writes x, y and z in RAS mm, from this column on, as `side_text`."""

    def text(cell: Cell, axis: int) -> str:
        return side_text(cell if isinstance(cell, float) else None, axis)

    return {first + axis: partial(text, axis=axis) for axis in range(3)}


def position_text(centre_mm: tuple[float, float, float], known: bool) -> str:
    """Say where a point (x, y, z) in RAS mm is.

    Examples
    --------
    >>> position_text((-9.5, 27.0, 16.25), True)
    'L 9.5, A 27.0, S 16.2 mm'
    """
    if not known:
        return f"{', '.join(f'{mm:.1f}' for mm in centre_mm)} mm; orientation unknown"
    return ", ".join(side_text(mm, axis) for axis, mm in enumerate(centre_mm)) + " mm"


def go_to(viewer: napari.Viewer, result: ShownResult, voxel: Shape) -> None:
    """Move the slices and the camera to a voxel (i, j, k) of a result."""
    volume = result.volume
    shown = shown_placement(volume).to_shown(voxel, volume.shape)
    world = result.image.data_to_world(shown)
    dims, camera = viewer.dims, viewer.scene.camera
    for axis, value in enumerate(world, start=dims.ndim - len(world)):
        dims.set_point(axis, value)
    centre = [dims.point[axis] for axis in dims.displayed]
    camera.center = (*camera.center[: 3 - len(centre)], *centre)


def fit_to_object(viewer: napari.Viewer, image: Image) -> None:
    """Let what an image shows fill the canvas, or each cell of its grid, without the air around.

    Where all of it is dark, or its voxels lie on several levels, the whole image does.
    """
    viewer.fit_to_view()
    ends = None if image.multiscale or image.rgb else _object_ends(image)
    if ends is None:
        return
    dims, camera = viewer.dims, viewer.scene.camera
    shown = [axis - dims.ndim + image.ndim for axis in dims.displayed]
    if min(shown) < 0:
        return
    low, high = ends[:, shown]
    size = np.maximum(high - low, np.finfo(float).tiny)
    if dims.ndisplay == 2:
        camera.zoom = _FILLED * float(np.min(viewer.canvas.viewbox_size(viewer.layers) / size))
    else:  # seen from anywhere: by no more than the axis that has least air
        whole = viewer.layers.extent.world[:, list(dims.displayed)]
        camera.zoom *= float(np.min((whole[1] - whole[0]) / size))
    camera.center = (*camera.center[: 3 - len(shown)], *((low + high) / 2))


def _object_ends(image: Image) -> NDArray[np.float64] | None:
    """Return the ends ``(2, D)``, in the world, of what is brighter than air, if anything is."""
    shape = np.array(image.data.shape)
    steps = np.maximum(shape // _LOOKED_AT, 1)
    voxels = np.asarray(image.data[tuple(slice(None, None, step) for step in steps)])
    low, high = image.contrast_limits
    bright = np.argwhere(voxels > low + _DARK * (high - low))
    if not len(bright):
        return None
    ends = np.array([bright.min(axis=0) - 1, bright.max(axis=0) + 1]) * steps
    ends = np.clip(ends, 0, shape - 1)
    world = np.array([image.data_to_world(corner) for corner in product(*ends.T)])
    return np.array([world.min(axis=0), world.max(axis=0)])
