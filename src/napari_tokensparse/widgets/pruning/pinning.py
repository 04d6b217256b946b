"""Pins by clicks: voxels added to the layer of tokens that are kept, or to that of dropped ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap

from napari_tokensparse.inspecting.fates import PIN_COLOURS
from napari_tokensparse.model.ratios import DROP, KEEP
from napari_tokensparse.volumes.placement import shown_placement
from napari_tokensparse.widgets.layers import RESULT_KEY, placement_kwargs
from napari_tokensparse.widgets.pruning.masks import image_shape, painted

if TYPE_CHECKING:
    import napari
    from napari.layers import Image
    from numpy.typing import NDArray

    from napari_tokensparse.segmenting.tokenmaps import TokenMaps
    from napari_tokensparse.volumes.region import Box
    from napari_tokensparse.volumes.volume import Volume
    from napari_tokensparse.widgets.results import ShownResult

LAYERS = {KEEP: "keep", DROP: "drop"}
"""What the layer of an image's kept tokens, and that of dropped ones, is called after it."""


def pin_box(viewer: napari.Viewer, image: Image, volume: Volume, box: Box, kind: int) -> Labels:
    """Pin a box of an image's voxels; the rest is as for `pin_mask`."""
    mask = np.zeros(volume.shape, bool)
    mask[box.slices] = True
    return pin_mask(viewer, image, volume, mask, kind)


def pin_mask(
    viewer: napari.Viewer, image: Image, volume: Volume, mask: NDArray[np.bool_], kind: int
) -> Labels:
    """Add voxels of an image to ``<image> keep`` or ``<image> drop``, as the brush would.

    They are taken out of the other of the two layers. Each is one stroke, which napari's undo takes
    back.

    Parameters
    ----------
    viewer
        Where the layer is, or is added; it is the active one then.
    image, volume
        The image layer, and its voxels in the file's order.
    mask
        ``(i, j, k)`` on the volume's grid.
    kind
        1 keeps tokens, -1 drops them.

    Returns
    -------
    Labels
        The layer.

    Raises
    ------
    ValueError
        In one line: a layer of that name lies on another grid than the image, or the image is gone.
    """
    if image not in viewer.layers:
        raise ValueError(f"{image.name} was removed: its tokens cannot be pinned any more")
    where = shown_placement(volume).view(mask).nonzero()
    layer, other = (_pin_layer(viewer, image, each) for each in (kind, -kind))
    if layer is None:
        layer = _new(viewer, image, kind)
    if other is not None and np.asarray(other.data[where]).any():
        other.data_setitem(where, 0)
    layer.data_setitem(where, 1)
    viewer.layers.selection.active = layer
    return layer


def with_neighbours(mask: NDArray[np.bool_], tokens: TokenMaps) -> NDArray[np.bool_]:
    """Return the voxels ``(i, j, k)`` of the tokens under a mask and of all that touch them.

    What a decoder makes of a token depends on those beside it: a lost component whose own token
    alone is kept often stays lost.
    """
    from scipy.ndimage import binary_dilation  # not needed when Segment opens

    from napari_tokensparse.segmenting.pins import tokens_under

    chosen = binary_dilation(tokens_under(mask, tokens.places), np.ones((3, 3, 3)))
    return tokens.on_input_grid(chosen.astype(np.uint8)) > 0


def kept_tokens(result: ShownResult, layer: Labels) -> str | None:
    """Return the numbers of all tokens that a result kept and that a layer of pins marks."""
    from napari_tokensparse.segmenting.pins import read, tokens_under, written

    tokens = result.segmentation.tokens
    mask = shown_placement(result.volume).unview(painted(layer, result.image))
    kept = tokens_under(mask, tokens.places)
    if result.options.pin is not None:
        kept |= read(result.options.pin, kept.shape)
    return written(kept)


def _pin_layer(viewer: napari.Viewer, image: Image, kind: int) -> Labels | None:
    """Return the layer of pins of an image; None if there is none yet."""
    name = f"{image.name} {LAYERS[kind]}"
    layer = next((one for one in viewer.layers if one.name == name), None)
    if not isinstance(layer, Labels) or RESULT_KEY in layer.metadata:
        return None
    painted(layer, image)  # which says where it lies on another grid
    return layer


def _new(viewer: napari.Viewer, image: Image, kind: int) -> Labels:
    layer = Labels(
        np.zeros(image_shape(image), np.uint8),
        name=f"{image.name} {LAYERS[kind]}",
        opacity=0.9,
        **placement_kwargs(image),
    )
    layer.contour = 1  # the labels below are judged by their colours
    colour = [*(part / 255 for part in PIN_COLOURS[kind]), 1.0]
    layer.colormap = DirectLabelColormap(color_dict={None: "transparent", 1: colour})
    viewer.add_layer(layer)
    return layer
