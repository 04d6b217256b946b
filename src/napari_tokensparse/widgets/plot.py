"""What plots share: colours of their axes, ticks of logarithmic ones, and saving them as PNG."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import pyqtgraph as pg
from pyqtgraph.exporters import ImageExporter
from qtpy.QtCore import QRectF
from qtpy.QtGui import QColor, QImage, QPainter, QPen, QTextDocument
from qtpy.QtWidgets import (
    QGraphicsView,
    QMessageBox,
    QPushButton,
)

from napari_tokensparse.widgets.layerfiles import ask_for_file, suggested_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path


_PNG_SCALE = 3
_DARK, _LIGHT = "#262930", "#ffffff"
_INK = "#000000"
_TICK_PIXELS = 50  # from the middle of a label to the next one's
_SIDES = ("left", "bottom")
_AT_HOME = partial(suggested_path, None)
_ON_WHITE, _AS_SHOWN = "Picture on white (*.png)", "Picture as shown (*.png)"


class LogAxis(pg.AxisItem):  # type: ignore[misc]  # pyqtgraph has no types
    """An axis whose logarithmic ticks are as many as there is room for: no two labels overlap."""

    def tickValues(self, low: float, high: float, size: float) -> list[tuple[float, list[float]]]:
        """Return the ticks between two ends; in the logarithm of base 10, where that is shown."""
        if not self.logMode:
            ticks: list[tuple[float, list[float]]] = super().tickValues(low, high, size)
            return ticks
        return [(1.0, log_ticks(low, high, max(2, int(size / _TICK_PIXELS))))]

    def tickStrings(self, values: Sequence[float], scale: float, spacing: float) -> list[str]:
        """Write ticks as plain numbers."""
        if not self.logMode:
            texts: list[str] = super().tickStrings(values, scale, spacing)
            return texts
        return [f"{10.0**value:.3g}" for value in values]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Choose at most so many ticks between two powers of 10, as powers of 10.

    They are 1, 2 and 5 times each power if these fit, else powers, or every second, third … power.

    Examples
    --------
    >>> [round(10**tick, 3) for tick in log_ticks(-1.1, 0.1, 4)]
    [0.1, 0.2, 0.5, 1.0]
    >>> log_ticks(-8.5, 0.1, 4)
    [-8.0, -5.0, -2.0]
    """
    decades = range(math.floor(low), math.ceil(high) + 1)
    fine = [n + math.log10(m) for n in decades for m in (1, 2, 5)]
    shown = [tick for tick in fine if low <= tick <= high]
    if len(shown) <= most:
        return shown
    whole = [float(n) for n in decades if low <= n <= high]
    return (
        whole[:: math.ceil(len(whole) / most)] if whole else shown[:: math.ceil(len(shown) / most)]
    )


def clear_background(plot: pg.GraphicsView) -> None:
    """Let a plot show what lies behind it: Qt would keep the background of the theme before."""
    plot.setBackground(None)
    plot.setCacheMode(QGraphicsView.CacheModeFlag.CacheNone)


def colour_axes(plots: Iterable[pg.PlotItem], colour: str) -> None:
    """Draw the axes of plots and their text in this colour, ``#rrggbb``."""
    for plot in plots:
        for side in _SIDES:
            plot.getAxis(side).setPen(colour)
            plot.getAxis(side).setTextPen(colour)


def save_png(plot: pg.GraphicsView, path: Path, *, legend: str = "", on_white: bool = True) -> None:
    """Write a plot as a picture of 3 times its size.

    Parameters
    ----------
    plot
        What is drawn.
    path
        The file.
    legend
        Rich text that is written below it.
    on_white
        Black on white, for a page; otherwise in the colours that are shown.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    axes = [x for x in plot.scene().items() if isinstance(x, pg.AxisItem) and x.isVisible()]
    pens = [(axis, axis.pen(), axis.textPen()) for axis in axes]
    curves = [x for x in plot.scene().items() if isinstance(x, pg.PlotCurveItem)]
    lines = [(curve, pg.mkPen(curve.opts["pen"])) for curve in curves]
    text_is_dark = all(text.color().lightness() < 128 for _, _, text in pens)
    page = QColor(_LIGHT if on_white or text_is_dark else _DARK)
    try:
        if on_white:
            for axis in axes:
                axis.setPen(_INK)
                axis.setTextPen(_INK)
        for curve, pen in lines:  # a pen is so many pixels wide, however large the picture is
            curve.setPen(_widened(pen))
        exporter = ImageExporter(plot.scene())
        exporter.parameters()["width"] = _PNG_SCALE * plot.width()
        exporter.parameters()["background"] = page
        picture = exporter.export(toBytes=True)
    finally:
        for axis, pen, text in pens:
            axis.setPen(pen)
            axis.setTextPen(text)
        for curve, pen in lines:
            curve.setPen(pen)
    if legend:
        picture = _with_legend(picture, legend, page)
    if not picture.save(str(path)):
        raise OSError(f"{path}: cannot be written")


def _widened(pen: QPen) -> QPen:
    wide = QPen(pen)
    wide.setWidthF(_PNG_SCALE * pen.widthF())
    return wide


def _with_legend(picture: QImage, legend: str, page: QColor) -> QImage:
    """Return a picture with rich text below."""
    text = QTextDocument()
    ink = _INK if page.lightness() >= 128 else _LIGHT
    text.setHtml(f"<div style='color: {ink}'>{legend}</div>")
    text.setTextWidth(picture.width() / _PNG_SCALE)
    height = math.ceil(_PNG_SCALE * text.size().height())
    whole = QImage(picture.width(), picture.height() + height, QImage.Format.Format_ARGB32)
    whole.fill(page)
    painter = QPainter(whole)
    painter.drawImage(0, 0, picture)
    painter.translate(0, picture.height())
    painter.scale(_PNG_SCALE, _PNG_SCALE)
    text.drawContents(painter, QRectF(0, 0, text.textWidth(), text.size().height()))
    painter.end()
    return whole


def png_button(
    plot: pg.GraphicsView,
    name: str,
    *,
    suggest: Callable[[str], Path] = _AT_HOME,
    legend: Callable[[], str] = str,
) -> QPushButton:
    """Return a button that asks where to save a plot, and whether on white or as it is shown.

    It is off: whoever draws something in the plot switches it on.

    Parameters
    ----------
    plot
        What is saved.
    name
        Of the plot.
    suggest
        Makes the suggested path of the file's ending, such as ``curve.png``.
    legend
        Gives the rich text that belongs to it.
    """
    button = QPushButton("Save as PNG…")
    button.setToolTip(f"Save the plot of {name} as a picture, with its legend")
    button.setAccessibleName(f"Save the plot of {name} as a picture")
    button.setEnabled(False)
    button.clicked.connect(lambda _: _ask_to_save(plot, suggest(f"{name}.png"), legend()))
    return button


def _ask_to_save(plot: pg.GraphicsView, suggested: Path, legend: str) -> None:
    asked = ask_for_file(plot, "Save as PNG", suggested, [_ON_WHITE, _AS_SHOWN])
    if asked is None:
        return
    path, chosen = asked
    try:
        save_png(plot, path, legend=legend, on_white=chosen != _AS_SHOWN)
    except OSError as error:
        QMessageBox.warning(plot, "Save as PNG", str(error))
