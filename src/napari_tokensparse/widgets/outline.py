"""One token outlined, or one component marked, in the canvas, as a layer of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap
from napari.utils.transforms import Affine

from napari_tokensparse.volumes.placement import shown_placement
from napari_tokensparse.widgets.layers import RESULT_KEY, placement_kwargs
from napari_tokensparse.widgets.showing import result_layer

if TYPE_CHECKING:
    import napari
    from napari.layers import Image
    from numpy.typing import NDArray

    from napari_tokensparse.volumes.region import Box
    from napari_tokensparse.volumes.volume import Volume

KIND, COMPONENT = "token", "component"
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
    layer = result_layer(viewer, image.name, KIND) or _new_layer(viewer, image, KIND)
    shape, layer_start = _shown_box(image, volume, box)
    if layer.data.shape != shape:
        layer.data = np.zeros(shape, np.uint8)
    layer.translate = layer_start
    layer.bounding_box.visible = True


def show_component(
    viewer: napari.Viewer, image: Image, volume: Volume, box: Box, mask: NDArray[np.bool_]
) -> None:
    """Mark a component in the layer ``<image> component``: its voxels, and a box round them.

    Parameters
    ----------
    viewer, image, volume, box
        As for `show_outline`; the box is that of the component.
    mask
        Of the component within the box.
    """
    layer = result_layer(viewer, image.name, COMPONENT) or _new_layer(viewer, image, COMPONENT)
    layer.data = shown_placement(volume).view(mask.astype(np.uint8))
    _, layer.translate = _shown_box(image, volume, box)
    layer.visible = layer.bounding_box.visible = True


def _shown_box(image: Image, volume: Volume, box: Box) -> tuple[tuple[int, ...], NDArray[Any]]:
    """Return how many voxels a box shows along (z, y, x), and where the first of them lies."""
    to_shown = shown_placement(volume).to_shown
    last_voxel = [end - 1 for end in box.stop]
    ends = [to_shown(index, volume.shape) for index in (box.start, last_voxel)]
    first, last = np.sort(ends, axis=0).astype(int)
    place = Affine(image.scale, image.translate, rotate=image.rotate, shear=image.shear)
    return tuple((last - first + 1).tolist()), place(first)


def hide_outline(viewer: napari.Viewer, image: Image) -> None:
    """Outline nothing of an image."""
    layer = result_layer(viewer, image.name, KIND)
    if layer is not None:
        layer.bounding_box.visible = False


def _new_layer(viewer: napari.Viewer, image: Image, kind: str) -> Labels:
    """Add the layer where the image is; what is selected stays so."""
    active = viewer.layers.selection.active
    layer = Labels(
        np.zeros((1, 1, 1), np.uint8), name=f"{image.name} {kind}", **placement_kwargs(image)
    )
    layer.metadata = {**image.metadata, RESULT_KEY: kind}
    layer.colormap = DirectLabelColormap(color_dict={None: "transparent", 1: _COLOUR})
    layer.editable = False
    layer.bounding_box.points = False
    layer.bounding_box.line_color = _COLOUR
    layer.bounding_box.line_thickness = 2
    layer.bounding_box.blending = "translucent_no_depth"  # seen through what lies before it
    viewer.add_layer(layer)
    viewer.layers.selection.active = active
    return layer
