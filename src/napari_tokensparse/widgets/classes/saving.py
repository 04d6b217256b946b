"""Two buttons of the Class list: the table as CSV, and the surfaces of the classes shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal  # type: ignore[attr-defined]  # Signal is renamed by qtpy
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_tokensparse.outputs.classresults import write_class_results
from napari_tokensparse.widgets.layerfiles import ask_for_file, suggested_path
from napari_tokensparse.widgets.workers import in_thread

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    import napari

    from napari_tokensparse.widgets.classes.counting import Counted

_TABLE = ("Table (*.csv)",)
_MESHES = ("PLY, with colours (*.ply)", "STL (*.stl)")


class SaveClasses(QWidget):
    """Saves what the Class list shows.

    Parameters
    ----------
    viewer
        The viewer with the result.
    parent
        Qt parent.

    Signals
    -------
    said
        A line about what was done.
    """

    said = Signal(str)

    def __init__(self, viewer: napari.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._counted: Counted | None = None
        self._shown: frozenset[int] = frozenset()
        self.table_button = QPushButton("Save as CSV…")
        self.table_button.setToolTip(
            "Save volumes, places, intensities and kept tokens of all classes, unrounded"
        )
        self.table_button.setAccessibleName("Save the classes as CSV")
        self.mesh_button = QPushButton("Save surfaces…")
        self.mesh_button.setToolTip(
            "Save the surfaces of the classes that are ticked, in RAS mm and full resolution, in "
            "one file: PLY with their colours, or STL for a printer"
        )
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for button in (self.table_button, self.mesh_button):
            row.addWidget(button)
        self.table_button.clicked.connect(lambda _: self.ask_for_table())
        self.mesh_button.clicked.connect(lambda _: self.ask_for_meshes())

    def follow(self, counted: Counted | None, shown: Collection[int]) -> None:
        """Take what can be saved now, and the values of the classes that are shown."""
        self._counted, self._shown = counted, frozenset(shown)
        for button in (self.table_button, self.mesh_button):
            button.setEnabled(counted is not None)

    def ask_for_table(self) -> None:
        """Ask where to, and save the table there."""
        counted, path = self._counted, self._ask("Save the classes", "classes.csv", _TABLE)
        if counted is None or path is None:
            return
        info = counted.result.network.info
        assert info is not None
        try:
            write_class_results(path, counted.classes, info.channels)
        except OSError as error:
            self.said.emit(str(error))
            return
        self.said.emit(f"Saved {path.name}.")

    def ask_for_meshes(self) -> None:
        """Ask where to, and save surfaces there; ``said`` tells when they are there."""
        path = self._ask("Save surfaces", "surfaces.ply", _MESHES)
        if self._counted is None or path is None:
            return
        self.said.emit("Making surfaces …")
        worker = in_thread(save_surfaces, path, self._counted, self._shown, failed=self._fail)
        worker.returned.connect(self._tell)
        worker.start()

    def _tell(self, saved: Path) -> None:
        self.said.emit(f"Saved {saved.name}.")

    def _fail(self, error: BaseException) -> None:
        self.said.emit(str(error))

    def _ask(self, title: str, ending: str, formats: Sequence[str]) -> Path | None:
        assert self._counted is not None  # or no button is enabled
        suggested = suggested_path(self._counted.result.image, ending)
        asked = ask_for_file(self, title, suggested, formats, self.said.emit)
        return None if asked is None else asked[0]


def save_surfaces(path: Path, counted: Counted, shown: Collection[int]) -> Path:
    """Write the surfaces of classes as a file, as `write_meshes`; touches no widget.

    Parameters
    ----------
    path
        The file.
    counted
        The labels.
    shown
        Values of the classes.
    """
    from napari_tokensparse.outputs.meshes import class_mesh, write_meshes  # late, for its imports

    info = counted.result.network.info
    colours = {c.value: c.color for c in info.classes}
    boxes = [(c.value, c.box) for c in counted.classes if c.value in shown and c.box is not None]
    affine = counted.result.volume.affine
    meshes = [class_mesh(counted.labels, value, box).in_mm(affine) for value, box in boxes]
    return write_meshes(path, meshes, [colours[value] for value, _ in boxes])
