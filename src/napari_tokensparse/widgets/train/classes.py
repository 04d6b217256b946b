"""Names of classes, and which of them is the background."""

from __future__ import annotations

from dataclasses import dataclass, field

from qtpy.QtCore import Signal  # type: ignore[attr-defined]  # renamed by qtpy
from qtpy.QtWidgets import QHBoxLayout, QLabel, QLineEdit, QSpinBox, QVBoxLayout, QWidget

from napari_tokensparse.model.info import HIGHEST_LABEL


@dataclass(frozen=True)
class Classes:
    """What a person says of the labels' values.

    Attributes
    ----------
    names
        By value.
    background
        The value that means background; None where none does but perhaps 0.
    """

    names: dict[int, str] = field(default_factory=dict)
    background: int | None = None


class ClassesEdit(QWidget):
    """A line of names, and the value of the background.

    Parameters
    ----------
    parent
        Qt parent.
    """

    valueChanged = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.names = QLineEdit()
        self.names.setPlaceholderText("1 liver, 2 spleen")
        self.names.setToolTip(
            "Names of classes by label value, separated by commas; those without one keep the name "
            "that the data give"
        )
        self.background = QSpinBox()
        self.background.setRange(0, HIGHEST_LABEL)
        self.background.setSpecialValueText("none")
        self.background.setToolTip(
            "Label value that you painted as background, where 0 means unlabelled;\n"
            "the model learns it as background, not as a class"
        )
        self.background.setAccessibleName("Label value of the background")
        below = QHBoxLayout()
        below.addWidget(QLabel("Background is label"))
        below.addWidget(self.background, stretch=1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.names)
        layout.addLayout(below)
        self.names.textChanged.connect(lambda _: self.valueChanged.emit())
        self.background.valueChanged.connect(lambda _: self.valueChanged.emit())

    def value(self) -> Classes:
        """Return names and background.

        Raises
        ------
        ValueError
            In one plain line, where a part of the line is no value with a name.
        """
        parts = (part.strip() for part in self.names.text().split(","))
        names = dict(_named(part) for part in parts if part)
        return Classes(names, self.background.value() or None)

    def setValue(self, classes: Classes) -> None:
        """Show names and background."""
        self.names.setText(", ".join(f"{value} {name}" for value, name in classes.names.items()))
        self.background.setValue(classes.background or 0)


def _named(part: str) -> tuple[int, str]:
    value, _, name = part.replace("=", " ").partition(" ")
    if not value.isdecimal() or not name.strip():
        raise ValueError(f"class {part!r}: must be a label value and a name, for example 1 liver")
    return int(value), name.strip()
