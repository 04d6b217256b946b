"""The patient's sides on the screen: how the views are turned, and the marks R, L, A, P, S, I.

Layers lie in LPS, axes (z, y, x) = up, back, left (``volumes/placement.py``). A camera can mirror
that: napari's own default does in 3-D. The rule here never does, and keeps the head at the top.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.components.overlays import TextOverlay
from napari.layers import Image

from napari_tokensparse.volumes.placement import orientation_known

if TYPE_CHECKING:
    from collections.abc import Sequence

    import napari
    from napari.components import Camera, Dims
    from numpy.typing import NDArray

_TOWARDS = "SPL"  # what +z, +y and +x point to, and what their opposites do
_FROM = "IAR"
_EDGES = ("middle_left", "middle_right", "top_center", "bottom_center")
_SHOWN_FROM = 0.35  # a letter is left out where its axis turns further than this from the edge
_BACKWARDS = np.array([0.0, 1.0, 0.0])  # (z, y, x): 3-D opens on the patient's face
_UPWARDS = np.array([1.0, 0.0, 0.0])


def show_patient_sides(viewer: napari.Viewer) -> None:
    """Keep left on its true side in 2-D and 3-D, and mark the sides at the edges of the canvas.

    Both follow the viewer's dims, camera and layers. The marks hide while an image of unknown
    orientation is there. Calling it again changes nothing.
    """
    overlays = viewer.canvas.overlays
    if _key(_EDGES[0]) in overlays:
        return
    for edge in _EDGES:
        overlays[_key(edge)] = TextOverlay(position=edge, font_size=14, gridded=True)
    dims, camera, layers = viewer.dims.events, viewer.scene.camera.events, viewer.layers.events
    dims.order.connect(lambda _: _turn_camera(viewer))
    for signal in (dims.order, dims.ndisplay, camera.angles, camera.orientation):
        signal.connect(lambda _: _update_marks(viewer))
    for signal in (layers.inserted, layers.removed):
        signal.connect(lambda _: _update_marks(viewer))
    _turn_camera(viewer)
    _update_marks(viewer)


def patient_orientation(shown: Sequence[int]) -> tuple[str, str, str]:
    """Return the camera orientation (depth, vertical, horizontal) that mirrors nothing.

    Parameters
    ----------
    shown
        Which of (z, y, x) = 0, 1, 2 lie along the screen's depth, vertical and horizontal.
    """
    upright = shown[1] == 0
    parity = np.linalg.det(np.eye(3)[list(shown)])
    away = (parity > 0) != upright
    return "away" if away else "towards", "up" if upright else "down", "right"


def side_marks(dims: Dims, camera: Camera) -> dict[str, str]:
    """Return what each edge of the canvas shows, for example ``{"middle_left": "R", ...}``."""
    right, up = _screen_axes(len(dims.displayed), camera)
    right, up = _in_patient(right, dims), _in_patient(up, dims)
    return dict(zip(_EDGES, map(_letters, (-right, right, up, -up)), strict=True))


def _turn_camera(viewer: napari.Viewer) -> None:
    shown = [axis - (viewer.dims.ndim - 3) for axis in viewer.dims.order[-3:]]
    if sorted(shown) == [0, 1, 2]:
        camera = viewer.scene.camera
        camera.orientation = patient_orientation(shown)
        camera.set_view_direction(_BACKWARDS[shown], _UPWARDS[shown])


def _update_marks(viewer: napari.Viewer) -> None:
    images = [layer for layer in viewer.layers if isinstance(layer, Image)]
    known = bool(images) and all(orientation_known(layer.metadata) for layer in images)
    for edge, text in side_marks(viewer.dims, viewer.scene.camera).items():
        overlay: Any = viewer.canvas.overlays[_key(edge)]
        overlay.text = text
        overlay.visible = known and bool(text)


def _screen_axes(shown: int, camera: Camera) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the screen's right and up, shape (shown,), in the order of the displayed axes."""
    depth, vertical, horizontal = map(str, camera.orientation)
    sign_right = 1.0 if horizontal == "right" else -1.0
    sign_up = 1.0 if vertical == "up" else -1.0
    if shown == 2:
        return np.array([0.0, sign_right]), np.array([sign_up, 0.0])
    sign = sign_right * sign_up * (1.0 if depth == "away" else -1.0)
    up = np.array(camera.up_direction)
    return sign * np.cross(camera.view_direction, up), up


def _in_patient(direction: NDArray[np.float64], dims: Dims) -> NDArray[np.float64]:
    """Return a direction along the displayed axes as one along the last three, (z, y, x)."""
    world = np.zeros(3 + dims.ndim)
    world[[3 + axis for axis in dims.displayed]] = direction
    return world[-3:]


def _letters(direction: NDArray[np.float64]) -> str:
    by_size = np.argsort(-np.abs(direction), kind="stable")
    return "".join(
        (_TOWARDS if direction[axis] > 0 else _FROM)[axis]
        for axis in by_size
        if abs(direction[axis]) > _SHOWN_FROM
    )


def _key(edge: str) -> str:
    return f"patient_side_{edge}"
