"""How warnings look in all widgets: black on amber, legible in the light and the dark theme."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qtpy.QtWidgets import QLabel

_LOOKS = "QLabel { color: black; background: #f2b33d; padding: 4px; border-radius: 3px }"


def make_amber(label: QLabel) -> None:
    """Let a label show warnings; without any it is not seen."""
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setWordWrap(True)
    label.setStyleSheet(_LOOKS)
    label.hide()


def show_warnings(label: QLabel, lines: Iterable[str]) -> None:
    """Show warnings, a line each, or hide the label."""
    text = "\n".join(f"⚠ {line}" for line in lines if line)
    label.setText(text)
    label.setVisible(bool(text))
