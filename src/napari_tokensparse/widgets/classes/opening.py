"""The Class list comes up by itself with a result, in the place of napari's layer controls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QDockWidget, QMainWindow

from napari_tokensparse.widgets.classes.widget import ClassListWidget
from napari_tokensparse.widgets.fitting import dock_of, soon

if TYPE_CHECKING:
    import napari
    from qtpy.QtWidgets import QWidget

NAME = "Class list"
_BESIDE = "layer controls"


def open_class_list(viewer: napari.Viewer, near: QWidget) -> None:
    """Open the Class list, or show it where it is hidden, as a tab beside napari's layer controls.

    Parameters
    ----------
    viewer
        The viewer.
    near
        A widget of ours in its window; nothing is opened for one that is in no window.
    """
    main = near.window()
    if not isinstance(main, QMainWindow):
        return
    there = main.findChild(ClassListWidget)
    if isinstance(there, ClassListWidget):
        dock = dock_of(there)
        if dock is not None:
            dock.show()  # it may be hidden by its eye
        return
    viewer = getattr(viewer, "__wrapped__", viewer)  # a plugin's proxy does not last
    widget = ClassListWidget(viewer)
    animated = main.isAnimated()
    main.setAnimated(False)  # a tab that is still on its way is not raised
    viewer.window.add_dock_widget(widget, name=NAME, area="left", add_vertical_stretch=False)
    docks = {dock.windowTitle(): dock for dock in main.findChildren(QDockWidget)}
    if _BESIDE in docks:
        main.tabifyDockWidget(docks[_BESIDE], docks[NAME])
    main.setAnimated(animated)
    soon(docks[NAME], docks[NAME].raise_)  # the tab is there only then
