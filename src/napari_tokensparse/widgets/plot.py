"""What plots share: colours of their axes, and saving them as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyqtgraph as pg
from pyqtgraph.exporters import ImageExporter
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QFileDialog,
    QMessageBox,
    QPushButton,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


_PNG_SCALE = 3
_DARK, _LIGHT = "#262930", "#ffffff"


def colour_axes(plots: Iterable[pg.PlotItem], colour: str) -> None:
    """Draw the axes of plots and their text in this colour, ``#rrggbb``."""
    for plot in plots:
        for side in ("left", "bottom"):
            plot.getAxis(side).setPen(colour)
            plot.getAxis(side).setTextPen(colour)


def save_png(plot: pg.GraphicsView, path: Path) -> None:
    """Write a plot as a picture of 3 times its size, on white or dark as its text needs.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    exporter = ImageExporter(plot.scene())
    axes = [x for x in plot.scene().items() if isinstance(x, pg.AxisItem) and x.isVisible()]
    text_is_dark = all(axis.textPen().color().lightness() < 128 for axis in axes)
    exporter.parameters()["width"] = _PNG_SCALE * plot.width()
    exporter.parameters()["background"] = QColor(_LIGHT if text_is_dark else _DARK)
    if not exporter.export(str(path)):
        raise OSError(f"{path}: cannot be written")


def png_button(plot: pg.GraphicsView, name: str) -> QPushButton:
    """Return a button that asks where to save a plot; ``name`` is the file name it suggests."""
    button = QPushButton("Save as PNG…")
    button.setToolTip(f"Save the plot of {name} as a picture")
    button.setAccessibleName(button.toolTip())
    button.clicked.connect(lambda _: _ask_to_save(plot, name))
    return button


def _ask_to_save(plot: pg.GraphicsView, name: str) -> None:
    path, _ = QFileDialog.getSaveFileName(plot, "Save as PNG", f"{name}.png", "Picture (*.png)")
    if not path:
        return
    try:
        save_png(plot, Path(path))
    except OSError as error:
        QMessageBox.warning(plot, "Save as PNG", str(error))
