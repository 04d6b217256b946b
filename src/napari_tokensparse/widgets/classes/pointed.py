"""The class under the pointer, in the window's status bar, whatever layer is selected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QLabel, QMainWindow, QWidget

from napari_tokensparse.volumes.placement import orientation_known, shown_placement
from napari_tokensparse.widgets.canvas.places import position_text
from napari_tokensparse.widgets.inspector.pointer import Pointer, voxel_at
from napari_tokensparse.widgets.results import results_of
from napari_tokensparse.widgets.showing import labels_layer

if TYPE_CHECKING:
    import napari

_LOOK_EVERY_MS = 60


class ClassUnderPointer(QObject):
    """Writes the class under the pointer, and where that is, to the right of the status bar.

    Parameters
    ----------
    viewer
        The viewer with the result.
    widget
        A widget of ours in the viewer's window; the line goes with it.
    """

    def __init__(self, viewer: napari.Viewer, widget: QWidget) -> None:
        super().__init__(widget)
        self._viewer, self._results, self._widget = viewer, results_of(viewer), widget
        self._pointer: Pointer | None = None
        self.line = QLabel()
        self.line.setAccessibleName("Class under the pointer")
        self._looking = QTimer(self)
        self._looking.setSingleShot(True)
        self._looking.setInterval(_LOOK_EVERY_MS)
        self._looking.timeout.connect(self._look)
        moves, moved = viewer.mouse_move_callbacks, self._moved
        moves.append(moved)
        # napari's list holds on to what is there, and the status bar to the line.
        widget.destroyed.connect(lambda: moves.remove(moved))
        widget.destroyed.connect(self.line.deleteLater)

    def text(self) -> str:
        """Return what is written."""
        return self.line.text()

    def _moved(self, _viewer: Any, event: Any) -> None:
        self._pointer = Pointer.of(event)
        if not self._looking.isActive():
            self._looking.start()

    def _look(self) -> None:
        result = self._results.latest
        if result is None or self._pointer is None:
            return
        voxel = voxel_at(self._viewer, result.image, result.volume, self._pointer)
        self._write("" if voxel is None else self._describe(voxel))

    def _describe(self, voxel: tuple[int, int, int]) -> str:
        result = self._results.latest
        layer = None if result is None else labels_layer(self._viewer, result)
        if result is None or layer is None:
            return ""
        volume = result.volume
        shown = shown_placement(volume).to_shown(voxel, volume.shape)
        value = int(layer.data[tuple(np.rint(shown).astype(int))])
        names = dict(zip(layer.features["index"], layer.features["name"], strict=True))
        x, y, z = (volume.affine @ [*voxel, 1.0])[:3].tolist()
        known = orientation_known(result.image.metadata)
        return f"{names.get(value, value)}   {position_text((x, y, z), known)}"

    def _write(self, text: str) -> None:
        window = self._widget.window()
        if self.line.parent() is None and isinstance(window, QMainWindow):
            bar = window.statusBar()
            assert bar is not None
            bar.addPermanentWidget(self.line)
            self.line.show()
        self.line.setText(text)
