"""The canvas's OpenGL context while layers are taken away, in a real viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtGui import QOpenGLContext

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari


@pytest.mark.parametrize("name", ["Segment", "Token inspector", "Class list", "Batch", "Train"])
def test_a_layer_goes_while_the_canvas_s_context_is_current(
    make_napari_viewer: Callable[[], napari.Viewer], name: str
) -> None:
    viewer = make_napari_viewer(show=True)
    canvas = viewer.window._qt_viewer.canvas.native
    dock, _ = viewer.window.add_plugin_dock_widget("napari-tokensparse", name)
    current = []
    viewer.layers.events.removed.connect(
        lambda _: current.append(QOpenGLContext.currentContext() is canvas.context())
    )

    def remove_a_layer() -> None:
        layer = viewer.add_image(np.zeros((4, 4, 4), np.float32))
        canvas.doneCurrent()
        viewer.layers.remove(layer)

    remove_a_layer()
    viewer.window.remove_dock_widget(dock)
    dock.deleteLater()
    remove_a_layer()

    assert current[0]
