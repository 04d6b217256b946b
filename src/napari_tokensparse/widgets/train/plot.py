"""The live plot of a training run: loss, Dice of each class and step size."""

from __future__ import annotations

from html import escape
from math import isnan
from typing import TYPE_CHECKING

import pyqtgraph as pg
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_tokensparse.widgets.plot import clear_background, colour_axes, png_button

if TYPE_CHECKING:
    from napari_tokensparse.widgets.train.runlog import Curves

_CLASS_COLOURS = (
    *("#56b4e9", "#e69f00", "#2fc48d", "#f0e442", "#cc79a7"),
    *("#d55e00", "#4d7fff", "#b0b0b0", "#9acd32", "#ff8fab"),
)
_AXIS_WIDTH = 66
_LEGEND_LINES = 3
_LEAST_HEIGHT = 240  # pixels: three plots over one another


class TrainingPlot(QWidget):
    """Three plots over one another with a common axis of steps, and the classes' last Dice.

    Parameters
    ----------
    parent
        Qt parent.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.graphics = pg.GraphicsLayoutWidget()
        clear_background(self.graphics)
        # Its own wish is 640 pixels, and the dock would grow to that.
        self.graphics.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Expanding)
        self.graphics.setMinimumHeight(_LEAST_HEIGHT)
        self.graphics.ci.layout.setSpacing(4)
        self.graphics.ci.layout.setContentsMargins(0, 4, 4, 6)
        self.loss, self.dice, self.lr = (self._add_plot(name) for name in ("loss", "Dice", "lr"))
        self.dice.setYRange(0.0, 1.0)
        for plot in (self.loss, self.dice):
            plot.setXLink(self.lr)
            plot.getAxis("bottom").setStyle(showValues=False)
        self.lr.setLabel("bottom", "step")
        self.loss_curve = self.loss.plot(pen=pg.mkPen("#ff9f40"))
        self.lr_curve = self.lr.plot(pen=pg.mkPen("#ff9f40"))
        self.dice_curves: dict[str, pg.PlotDataItem] = {}
        self.legend = QLabel()
        self.legend.setWordWrap(True)
        self.legend.setTextFormat(Qt.TextFormat.RichText)
        self.legend.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.entries = QScrollArea()  # a model may have a hundred classes
        self.entries.setWidget(self.legend)
        self.entries.setWidgetResizable(True)
        self.entries.setFrameShape(QFrame.Shape.NoFrame)
        self.entries.setFixedHeight(_LEGEND_LINES * self.fontMetrics().lineSpacing() + 4)
        below = QHBoxLayout()
        below.addWidget(self.entries, stretch=1)
        self.save_plot = png_button(self.graphics, "training", legend=self.legend.text)
        below.addWidget(self.save_plot)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.graphics, stretch=1)
        layout.addLayout(below)

    def set_foreground(self, colour: str) -> None:
        """Draw axes and their text in this colour, ``#rrggbb``."""
        colour_axes((self.loss, self.dice, self.lr), colour)

    def show_curves(self, curves: Curves) -> None:
        """Draw a run as it stands."""
        self.save_plot.setEnabled(len(curves.steps) > 0)
        self.loss_curve.setData(curves.steps, curves.loss)
        self.lr_curve.setData(curves.steps, curves.lr)
        for name in self.dice_curves.keys() - curves.dice.keys():
            self.dice.removeItem(self.dice_curves.pop(name))
        entries = []
        for number, (name, values) in enumerate(curves.dice.items()):
            colour = _CLASS_COLOURS[number % len(_CLASS_COLOURS)]
            known = [(n, v) for n, v in zip(curves.validated, values, strict=True) if not isnan(v)]
            self._draw_dice(name, known, colour)
            text = escape(f"{name} {known[-1][1]:.2f}").replace(" ", "&nbsp;")
            entries.append(f"<font color='{colour}'>●</font>&nbsp;{text}")
        self.legend.setText(" &nbsp; ".join(entries))

    def _add_plot(self, name: str) -> pg.PlotItem:
        plot = self.graphics.addPlot(row=len(self.graphics.ci.items), col=0)
        axis = plot.getAxis("left")
        plot.setLabel("left", name)
        axis.setWidth(_AXIS_WIDTH)
        axis.enableAutoSIPrefix(False)
        plot.showGrid(x=True, y=True, alpha=0.2)
        plot.setDownsampling(auto=True, mode="peak")
        plot.setClipToView(True)
        plot.setMenuEnabled(False)
        plot.hideButtons()
        return plot

    def _draw_dice(self, name: str, points: list[tuple[int, float]], colour: str) -> None:
        if name not in self.dice_curves:
            self.dice_curves[name] = self.dice.plot(symbol="o", symbolSize=5, symbolPen=None)
        curve = self.dice_curves[name]
        curve.setPen(pg.mkPen(colour, width=1.5))
        curve.setSymbolBrush(colour)
        curve.setData([step for step, _ in points], [dice for _, dice in points])
