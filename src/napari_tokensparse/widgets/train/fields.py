"""Form fields of the Train widget with ``value()``, ``setValue()`` and ``valueChanged``."""

from __future__ import annotations

from dataclasses import dataclass

from qtpy.QtCore import Signal  # type: ignore[attr-defined]  # renamed by qtpy
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QWidget,
)


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
