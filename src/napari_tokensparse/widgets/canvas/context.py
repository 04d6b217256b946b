"""The canvas's own OpenGL context is the current one while layers are taken away.

napari 0.9 deletes the textures and buffers of a removed layer at once, in whichever context is
current. Just after the window was put together that is Qt's, and the next drawing may then end
the process (a segmentation fault in ``glDrawArrays``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QMainWindow

if TYPE_CHECKING:
    import napari
    from qtpy.QtWidgets import QWidget


def hold_context(viewer: napari.Viewer, widget: QWidget) -> None:
    """Make the canvas's context current whenever a layer of a viewer is about to be removed.

    Parameters
    ----------
    viewer
        The viewer.
    widget
        A widget of ours that is docked in its window, or will be; it ends with it.
    """

    def make_current(_event: object = None) -> None:
        main = widget.window()
        central = main.centralWidget() if isinstance(main, QMainWindow) else None
        canvas = None if central is None else central.findChild(QOpenGLWidget)
        if isinstance(canvas, QOpenGLWidget):
            canvas.makeCurrent()

    removing = viewer.layers.events.removing
    removing.connect(make_current)
    widget.destroyed.connect(lambda: removing.disconnect(make_current))
