"""The outline of one token in the canvas, as a layer of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels
from napari.utils.transforms import Affine

from napari_tokensparse.volumes.placement import shown_placement
from napari_tokensparse.widgets.layers import RESULT_KEY, placement_kwargs
from napari_tokensparse.widgets.showing import result_layer

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

    from napari_tokensparse.volumes.region import Box
    from napari_tokensparse.volumes.volume import Volume

KIND = "token"
_COLOUR = "yellow"


def show_outline(viewer: napari.Viewer, image: Image, volume: Volume, box: Box) -> None:
    """Outline a box of an image's voxels in the layer ``<image> token``.

    The layer holds nothing: its outline is its bounding box, which napari draws on the slices that
    it spans and as a box in 3-D. So moving it is cheap.

    Parameters
    ----------
    viewer
        Where to draw.
    image
        The image layer.
    volume
        Its voxels, in the file's order.
    box
        On the volume's grid.
    """
    to_shown = shown_placement(volume).to_shown
    last_voxel = [end - 1 for end in box.stop]
    ends = [to_shown(index, volume.shape) for index in (box.start, last_voxel)]
    first, last = np.sort(ends, axis=0).astype(int)
    layer = result_layer(viewer, image.name, KIND) or _new_layer(viewer, image)
    if layer.data.shape != tuple(last - first + 1):
        layer.data = np.zeros(last - first + 1, np.uint8)
    layer.translate = Affine(image.scale, image.translate, rotate=image.rotate, shear=image.shear)(
        first
    )
    layer.bounding_box.visible = True


def hide_outline(viewer: napari.Viewer, image: Image) -> None:
    """Outline nothing of an image."""
    layer = result_layer(viewer, image.name, KIND)
    if layer is not None:
        layer.bounding_box.visible = False


def _new_layer(viewer: napari.Viewer, image: Image) -> Labels:
    """Add the layer where the image is; what is selected stays so."""
    active = viewer.layers.selection.active
    layer = Labels(
        np.zeros((1, 1, 1), np.uint8), name=f"{image.name} {KIND}", **placement_kwargs(image)
    )
    layer.metadata = {**image.metadata, RESULT_KEY: KIND}
    layer.editable = False
    layer.bounding_box.points = False
    layer.bounding_box.line_color = _COLOUR
    layer.bounding_box.line_thickness = 2
    layer.bounding_box.blending = "translucent_no_depth"  # seen through what lies before it
    viewer.add_layer(layer)
    viewer.layers.selection.active = active
    return layer
