"""Form fields of the Train widget with ``value()``, ``setValue()`` and ``valueChanged``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qtpy.QtCore import Signal  # type: ignore[attr-defined]  # renamed by qtpy
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QWidget,
)


class PathEdit(QWidget):
    """A path to type, or to choose in a dialog.

    Parameters
    ----------
    title
        What the dialog asks for.
    file_filter
        Where a file will do as well as a folder: which ones, in Qt's form.
    parent
        Qt parent.
    """

    valueChanged = Signal()
    edited = Signal()
    """A person, not the program, changed the path."""

    def __init__(self, title: str, file_filter: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._title, self._filter = title, file_filter
        self.line = QLineEdit()
        self.folder_button = QPushButton("Folder…")
        self.file_button = QPushButton("File…")
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


@dataclass(frozen=True)
class Length:
    """How long to train; neither is as long as the recipe says."""

    epochs: int | None = None
    minutes: float | None = None


class LengthEdit(QWidget):
    """Epochs, minutes, or what the recipe says.

    Parameters
    ----------
    parent
        Qt parent.
    """

    valueChanged = Signal()
    RECIPE, EPOCHS, MINUTES = "as the recipe says", "epochs", "minutes"

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.unit = QComboBox()
        self.unit.addItems([self.RECIPE, self.EPOCHS, self.MINUTES])
        self.number = QDoubleSpinBox()
        self.number.setRange(1, 1_000_000)
        self.number.setValue(10)
        self.unit.setToolTip(
            "How long to train: passes over all cases, minutes, or what the recipe holds for right"
        )
        self.number.setToolTip(
            "The step size falls to 0 at the end, so a run planned short is better than one stopped"
        )
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.number)
        layout.addWidget(self.unit, stretch=1)
        self.unit.currentTextChanged.connect(self._unit_changed)
        self.number.valueChanged.connect(lambda _: self.valueChanged.emit())
        self._unit_changed(self.RECIPE)

    def value(self) -> Length:
        """Return how long to train."""
        unit, number = self.unit.currentText(), self.number.value()
        return Length(
            epochs=round(number) if unit == self.EPOCHS else None,
            minutes=number if unit == self.MINUTES else None,
        )

    def setValue(self, length: Length) -> None:
        """Set how long to train; where both are given, the minutes."""
        number = length.minutes or length.epochs
        unit = self.MINUTES if length.minutes else self.EPOCHS if length.epochs else self.RECIPE
        self.unit.setCurrentText(unit)
        if number is not None:
            self.number.setValue(number)

    def _unit_changed(self, unit: str) -> None:
        self.number.setVisible(unit != self.RECIPE)
        self.number.setDecimals(1 if unit == self.MINUTES else 0)
        self.number.setMinimum(0.1 if unit == self.MINUTES else 1)
        self.valueChanged.emit()
