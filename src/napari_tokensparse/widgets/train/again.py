"""What is offered where the model folder holds a run already: start over, or another folder."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal  # type: ignore[attr-defined]  # renamed by qtpy
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

if TYPE_CHECKING:
    from pathlib import Path


class AgainOffer(QWidget):
    """Two buttons, shown when they are of use.

    Parameters
    ----------
    parent
        Qt parent.
    """

    overClicked = Signal()
    """Start over: the run that is there is kept under another name."""
    elsewhereClicked = Signal()
    """Train into the next free folder."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.over = QPushButton("Start over")
        self.elsewhere = QPushButton("Train into another folder")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for button in (self.over, self.elsewhere):
            layout.addWidget(button)
        self.over.clicked.connect(lambda _: self.overClicked.emit())
        self.elsewhere.clicked.connect(lambda _: self.elsewhereClicked.emit())
        self.hide()

    def offer(self, folder: Path) -> str:
        """Offer what can be done about a folder that holds a run; return what to say of it."""
        kept, free = next_free(folder, "before"), next_free(folder)
        self.over.setToolTip(f"Train in {folder.name} anew; what is there becomes {kept.name}")
        self.elsewhere.setText(f"Train into {free.name}")
        self.elsewhere.setToolTip(f"Leave {folder.name} as it is, and write to {free}")
        self.show()
        return (
            f"{folder} holds a run already. Resume goes on with it as it began; to train with the "
            "settings that are chosen now, start over or take another folder."
        )


def next_free(folder: Path, word: str = "") -> Path:
    """Return a folder beside another one that is not there yet: ``name-2``, ``name-before``."""
    stem = f"{folder.name}-{word}" if word else folder.name
    if word and not folder.with_name(stem).exists():
        return folder.with_name(stem)
    return next(free for n in count(2) if not (free := folder.with_name(f"{stem}-{n}")).exists())


def set_aside(folder: Path) -> Path:
    """Rename a folder with a run, and return what it is called now.

    Raises
    ------
    ValueError
        In one line: it cannot be renamed.
    """
    try:
        return folder.rename(next_free(folder, "before"))
    except OSError as error:
        raise ValueError(f"{folder}: cannot be renamed ({error.strerror})") from error
