"""A field for a path, with buttons to choose it."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal  # type: ignore[attr-defined]  # renamed by qtpy
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QPushButton, QWidget


class PathEdit(QWidget):
    """A path to type, or to choose in a dialog.

    Parameters
    ----------
    title
        What the dialog asks for.
    file_filter
        Where a file will do: which ones, in Qt's form.
    folders
        Whether a folder will do.
    """

    valueChanged = Signal()
    edited = Signal()
    """A person, not the program, changed the path."""

    def __init__(self, title: str, file_filter: str = "", *, folders: bool = True) -> None:
        super().__init__()
        self._title, self._filter = title, file_filter
        self.line = QLineEdit()
        self.folder_button = QPushButton("Folder…")
        self.file_button = QPushButton("File…")
        self.folder_button.setVisible(folders)
        self.file_button.setVisible(bool(file_filter))
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.line, stretch=1)
        for button in (self.folder_button, self.file_button):
            layout.addWidget(button)
        self.folder_button.clicked.connect(self._choose_folder)
        self.file_button.clicked.connect(self._choose_file)
        self.line.textChanged.connect(lambda _: self.valueChanged.emit())
        self.line.textEdited.connect(lambda _: self.edited.emit())

    def value(self) -> Path | None:
        """Return the path, ``~`` resolved, or None where nothing is given."""
        text = self.line.text().strip()
        return Path(text).expanduser() if text else None

    def setValue(self, path: Path | None) -> None:
        """Set the path."""
        self.line.setText("" if path is None else str(path))

    def _choose_folder(self) -> None:
        self._take(QFileDialog.getExistingDirectory(self, self._title, self.line.text()))

    def _choose_file(self) -> None:
        self._take(
            QFileDialog.getOpenFileName(self, self._title, self.line.text(), self._filter)[0]
        )

    def _take(self, path: str) -> None:
        if path:
            self.line.setText(path)
            self.edited.emit()
