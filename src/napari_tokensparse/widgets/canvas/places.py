"""Places in the patient: how they are written, and how the viewer goes there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_tokensparse.volumes.placement import shown_placement

if TYPE_CHECKING:
    import napari

    from napari_tokensparse.volumes.windows import Shape
    from napari_tokensparse.widgets.results import ShownResult

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
