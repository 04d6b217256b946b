"""What npe2 calls to look at CT through a window: the selected images change their limits."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from napari_tokensparse.volumes.ctwindows import WINDOWS, values_of

if TYPE_CHECKING:
    from napari.layers import Image


def _look(window: tuple[float, float] | None) -> None:
    """Set the contrast limits of the selected images; None is the range of their values."""
    import napari
    from napari.layers import Image
    from napari.utils.notifications import show_info

    viewer = napari.current_viewer()
    selected = [] if viewer is None else viewer.layers.selection
    images = [layer for layer in selected if isinstance(layer, Image) and not layer.rgb]
    if not images:
        show_info("Select an image layer to look at it through a CT window.")
    for image in images:
        image.contrast_limits = values_of(_finest(image)) if window is None else window


def widen(event: Any) -> None:
    """Let the slider of an image that opens in a CT window go over all its values."""
    from napari.layers import Image

    layer, window = event.value, WINDOWS["soft tissue"]
    if isinstance(layer, Image) and tuple(layer.contrast_limits_range) == window:
        low, high = values_of(_finest(layer))
        layer.contrast_limits_range = min(low, window[0]), max(high, window[1])


def _finest(image: Image) -> Any:
    """Return the voxels of an image, and of one of several resolutions those of the finest."""
    return image.data[0] if image.multiscale else image.data


soft_tissue = partial(_look, WINDOWS["soft tissue"])
lung = partial(_look, WINDOWS["lung"])
bone = partial(_look, WINDOWS["bone"])
brain = partial(_look, WINDOWS["brain"])
liver = partial(_look, WINDOWS["liver"])
whole_range = partial(_look, None)
