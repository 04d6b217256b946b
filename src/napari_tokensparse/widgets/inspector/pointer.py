"""Which voxel of a volume the pointer is on, in 2-D and 3-D."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels

from napari_tokensparse.volumes.placement import shown_placement
from napari_tokensparse.widgets.canvas.solids import box_middle
from napari_tokensparse.widgets.canvas.surfaces import stood_for
from napari_tokensparse.widgets.layers import KEPT_BOXES, RESULT_KEY

if TYPE_CHECKING:
    import napari
    from napari.layers import Image
    from numpy.typing import NDArray

    from napari_tokensparse.volumes.volume import Volume
    from napari_tokensparse.volumes.windows import Shape

_STEPS_PER_VOXEL = 2


@dataclass(frozen=True, eq=False)
class Pointer:
    """Where the pointer was, as napari's mouse event says.

    Attributes
    ----------
    position, direction
        In world coordinates; the direction is None in 2-D.
    displayed
        The viewer's displayed axes.
    """

    position: NDArray[np.float64]
    direction: NDArray[np.float64] | None
    displayed: tuple[int, ...]

    @classmethod
    def of(cls, event: Any) -> Pointer:
        """Copy what a mouse event says; napari changes it with the next one."""
        direction = event.view_direction
        return cls(
            np.array(event.position),
            None if direction is None else np.array(direction),
            tuple(event.dims_displayed),
        )


def voxel_at(viewer: napari.Viewer, image: Image, volume: Volume, pointer: Pointer) -> Shape | None:
    """Return the voxel (i, j, k) of a volume under the pointer.

    In 3-D it is the middle of the box of a kept token, where boxes are shown and one is met; else
    the first one along the line of sight that a visible layer of a result colours: a label, which
    a surface may stand for, or a token of a stage.

    Parameters
    ----------
    viewer
        Whose layers are looked through.
    image
        The image layer.
    volume
        Its voxels, in the file's order.
    pointer
        Where the pointer is.

    Returns
    -------
    tuple of int or None
        None where the pointer is beside the volume or, in 3-D, meets nothing.
    """
    placement = shown_placement(volume)
    if len(pointer.displayed) == 3:
        met = _first_box(viewer, pointer)
        if met is not None:
            return met
        shown = _first_coloured(viewer, image, pointer)
    else:
        shown = np.rint(image.world_to_data(pointer.position)[-3:])
    if shown is None:
        return None
    i, j, k = map(int, placement.to_file(shown.tolist(), volume.shape))
    inside = all(0 <= n < length for n, length in zip((i, j, k), volume.shape, strict=True))
    return (i, j, k) if inside else None


def _first_box(viewer: napari.Viewer, pointer: Pointer) -> Shape | None:
    """Return the middle (i, j, k) of the first box of a kept token that is met."""
    for layer in viewer.layers:
        if layer.metadata.get(RESULT_KEY) == KEPT_BOXES and layer.visible:
            _, triangle = layer.get_value(
                pointer.position,
                view_direction=pointer.direction,
                dims_displayed=list(pointer.displayed),
                world=True,
            ) or (None, None)
            if triangle is not None:
                return box_middle(layer, int(triangle))
    return None


def _first_coloured(
    viewer: napari.Viewer, image: Image, pointer: Pointer
) -> NDArray[np.float64] | None:
    start, end = image.get_ray_intersections(
        pointer.position, pointer.direction, list(pointer.displayed)
    )
    if start is None or end is None:
        return None
    steps = 1 + math.ceil(_STEPS_PER_VOXEL * float(np.abs(end - start).max()))
    ends = [image.data_to_world(point) for point in (start, end)]
    coloured = np.zeros(steps, bool)
    for layer in viewer.layers:
        seen = layer.visible or layer in stood_for(viewer)
        if isinstance(layer, Labels) and seen and RESULT_KEY in layer.metadata:
            first, last = (layer.world_to_data(end) for end in ends)
            coloured |= _coloured(layer, np.linspace(first, last, steps))
    ray: NDArray[np.float64] = np.rint(np.linspace(start, end, steps))
    return ray[coloured.argmax()] if coloured.any() else None


def _coloured(layer: Labels, ray: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which points of a ray, in a layer's voxels, the layer colours."""
    index, shape = np.rint(ray).astype(int), np.array(layer.data.shape)
    values = layer.data[tuple(index.clip(0, shape - 1).T)]
    coloured: NDArray[np.bool_] = layer.colormap.map(values)[:, 3] > 0
    coloured &= ((index >= 0) & (index < shape)).all(axis=1)
    return coloured
