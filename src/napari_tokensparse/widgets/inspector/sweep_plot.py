"""Plot of a sweep: Dice against the keep ratio, a line for each scorer; points can be clicked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyqtgraph as pg
from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]  # Signal is renamed by qtpy
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_tokensparse.inspecting.drawing import SCORER_COLOURS, dice_range
from napari_tokensparse.widgets.plot import clear_background, colour_axes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_tokensparse.model.controls import Scorer

    Line = Sequence[tuple[float, float]]

_STYLES = {
    "learned": (Qt.PenStyle.SolidLine, "thick"),
    "random": (Qt.PenStyle.DashLine, "dashed"),
    "intensity": (Qt.PenStyle.DotLine, "dotted"),
    "foreground": (Qt.PenStyle.DashDotLine, "dash-dotted"),
}
_WIDTH, _SIZE = {True: 3.0, False: 1.5}, {True: 12, False: 9}  # learned, and the controls
_RIGHT = 1.04  # the marker at 1 is not cut


class SweepPlot(pg.PlotWidget):  # type: ignore[misc]  # pyqtgraph has no types
    """Dice against the keep ratio, for each scorer.

    Parameters
    ----------
    parent
        Qt parent.
    """

    ratioClicked = Signal(float)
    """A person clicked on a point of this keep ratio."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        clear_background(self)
        self.lines: dict[Scorer, pg.PlotDataItem] = {}
        self.setToolTip("Click on a point to set the Segment slider to its keep ratio")
        self.setMouseEnabled(x=False, y=False)
        self.setMenuEnabled(False)
        self.hideButtons()
        self.showGrid(x=True, y=True, alpha=0.2)
        self.setLabel("bottom", "keep ratio per stage")
        self.setXRange(0.0, _RIGHT, padding=0)
        self.getAxis("left").enableAutoSIPrefix(False)
        self.getAxis("bottom").enableAutoSIPrefix(False)
        self.getPlotItem().layout.setContentsMargins(0, 4, 4, 6)
        self.setMinimumHeight(150)
        # Its own wish is 640 pixels, and the dock would grow to that.
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Expanding)

    def set_foreground(self, colour: str) -> None:
        """Draw axes and their text in this colour, ``#rrggbb``."""
        colour_axes([self.getPlotItem()], colour)

    def show_lines(self, lines: Mapping[Scorer, Line], title: str) -> None:
        """Draw lines of (keep ratio, Dice), the learned one on top; ``title`` is the axis's."""
        for scorer in self.lines.keys() - lines.keys():
            self.removeItem(self.lines.pop(scorer))
        for scorer, line in lines.items():
            drawn = self.lines.get(scorer) or self._add(scorer)
            drawn.setData([ratio for ratio, _ in line], [dice for _, dice in line])
        self.setLabel("left", title)
        low, high = dice_range([dice for line in lines.values() for _, dice in line])
        self.setYRange(low, high, padding=0)

    def _add(self, scorer: Scorer) -> pg.PlotDataItem:
        learned, colour = scorer == "learned", SCORER_COLOURS[scorer]
        line = self.plot(
            pen=pg.mkPen(colour, width=_WIDTH[learned], style=_STYLES[scorer][0]),
            symbol="o",
            symbolSize=_SIZE[learned],
            symbolBrush=colour,
            symbolPen=None,
        )
        line.setZValue(1 if learned else 0)
        line.sigPointsClicked.connect(self._clicked)
        self.lines[scorer] = line
        return line

    def _clicked(self, _line: Any, points: Sequence[Any], _event: Any) -> None:
        self.ratioClicked.emit(float(points[0].pos().x()))


def legend(scorers: Sequence[Scorer]) -> str:
    """Name the scorers, as rich text, each with its line's colour and style."""
    entries = (
        f"<font color='{SCORER_COLOURS[scorer]}'>●</font>&nbsp;{scorer}&nbsp;({_STYLES[scorer][1]})"
        for scorer in scorers
    )
    return " &nbsp; ".join(entries)
