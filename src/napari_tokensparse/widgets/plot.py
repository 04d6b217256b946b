"""The live plot of a training run: loss, Dice of each class and step size against the step."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING

import pyqtgraph as pg
from qtpy.QtWidgets import QVBoxLayout, QWidget

if TYPE_CHECKING:
    from napari_tokensparse.widgets.runlog import Curves

_HUES = 9


class TrainingPlot(QWidget):
    """Three plots over one another with a common axis of steps.

    Parameters
    ----------
    foreground
        Colour of axes and text, ``#rrggbb``.
    parent
        Qt parent.
    """

    def __init__(self, foreground: str = "#808080", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.graphics = pg.GraphicsLayoutWidget()
        self.graphics.setBackground(None)
        self.graphics.ci.layout.setSpacing(2)
        self.loss = self._add_plot("loss")
        self.dice = self._add_plot("Dice")
        self.dice.setYRange(0.0, 1.0)
        self.lr = self._add_plot("lr")
        self.lr.setLabel("bottom", "step")
        for plot in (self.dice, self.lr):
            plot.setXLink(self.loss)
        self.legend = self.dice.addLegend(offset=(-4, 4), colCount=2, verSpacing=-6)
        self.loss_curve = self.loss.plot(pen=pg.mkPen("#ff9f40"))
        self.lr_curve = self.lr.plot(pen=pg.mkPen("#40a0ff"))
        self.dice_curves: dict[str, pg.PlotDataItem] = {}
        self.set_foreground(foreground)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.graphics)
        self.setMinimumHeight(240)

    def set_foreground(self, colour: str) -> None:
        """Draw axes and text in this colour."""
        for plot in (self.loss, self.dice, self.lr):
            for side in ("left", "bottom"):
                plot.getAxis(side).setPen(colour)
                plot.getAxis(side).setTextPen(colour)
        self.legend.setLabelTextColor(colour)

    def show_curves(self, curves: Curves) -> None:
        """Draw a run as it stands."""
        self.loss_curve.setData(curves.steps, curves.loss)
        self.lr_curve.setData(curves.steps, curves.lr)
        for name in self.dice_curves.keys() - curves.dice.keys():
            self.dice.removeItem(self.dice_curves.pop(name))
        for name, values in curves.dice.items():
            known = [(n, v) for n, v in zip(curves.validated, values, strict=True) if not isnan(v)]
            self._dice_of(name).setData([n for n, _ in known], [v for _, v in known])

    def _add_plot(self, name: str) -> pg.PlotItem:
        plot = self.graphics.addPlot(row=len(self.graphics.ci.items), col=0)
        plot.setLabel("left", name)
        plot.getAxis("left").setWidth(52)
        plot.getAxis("left").enableAutoSIPrefix(False)
        plot.showGrid(x=True, y=True, alpha=0.2)
        plot.setDownsampling(auto=True, mode="peak")
        plot.setClipToView(True)
        plot.setMenuEnabled(False)
        return plot

    def _dice_of(self, name: str) -> pg.PlotDataItem:
        if name not in self.dice_curves:
            colour = pg.intColor(len(self.dice_curves), hues=_HUES)
            self.dice_curves[name] = self.dice.plot(
                pen=pg.mkPen(colour, width=1.5),
                symbol="o",
                symbolSize=5,
                symbolBrush=colour,
                symbolPen=None,
                name=name,
            )
        return self.dice_curves[name]
