"""Plot of a sweep: Dice against the keep ratio, a line for each scorer; points can be clicked."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pyqtgraph as pg
from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]  # Signal is renamed by qtpy
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_tokensparse.inspecting.drawing import RULE_COLOURS, SCORER_COLOURS, dice_range
from napari_tokensparse.widgets.plot import clear_background, colour_axes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Line = Sequence[tuple[float, float]]

BY_IMPORTANCE = "by importance"
"""The line of runs that kept tokens by their importance."""
_COLOURS = {str(scorer): colour for scorer, colour in SCORER_COLOURS.items()}
_COLOURS[BY_IMPORTANCE] = RULE_COLOURS["importance"]
_OVER_RATIOS, _OVER_TOKENS = "keep ratio per stage", "tokens kept to the end, %"
_STYLES = {
    BY_IMPORTANCE: (Qt.PenStyle.SolidLine, "thick, green"),
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

    pointClicked = Signal(str, int)
    """A person clicked on a point: its line, and its place there."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        clear_background(self)
        self.lines: dict[str, pg.PlotDataItem] = {}
        self.setToolTip("Click on a point to set the Segment slider to what it kept")
        self.setMouseEnabled(x=False, y=False)
        self.setMenuEnabled(False)
        self.hideButtons()
        self.showGrid(x=True, y=True, alpha=0.2)
        self.setLabel("bottom", _OVER_RATIOS)
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

    def show_lines(
        self, lines: Mapping[str, Line], title: str, *, over_tokens: bool = False
    ) -> None:
        """Draw lines of (keep ratio, Dice), the learned ones on top.

        ``title`` is that of the axis of Dice; the other may be per cent of tokens kept instead.
        """
        self.setLabel("bottom", _OVER_TOKENS if over_tokens else _OVER_RATIOS)
        self.setXRange(0.0, _RIGHT * (100 if over_tokens else 1), padding=0)
        for scorer in self.lines.keys() - lines.keys():
            self.removeItem(self.lines.pop(scorer))
        for scorer, line in lines.items():
            drawn = self.lines.get(scorer) or self._add(scorer)
            drawn.setData([ratio for ratio, _ in line], [dice for _, dice in line])
        self.setLabel("left", title)
        low, high = dice_range([dice for line in lines.values() for _, dice in line])
        self.setYRange(low, high, padding=0)

    def _add(self, scorer: str) -> pg.PlotDataItem:
        learned, colour = scorer in ("learned", BY_IMPORTANCE), _COLOURS[scorer]
        line = self.plot(
            pen=pg.mkPen(colour, width=_WIDTH[learned], style=_STYLES[scorer][0]),
            symbol="o",
            symbolSize=_SIZE[learned],
            symbolBrush=colour,
            symbolPen=None,
        )
        line.setZValue(1 if learned else 0)
        line.sigPointsClicked.connect(partial(self._clicked, scorer))
        self.lines[scorer] = line
        return line

    def _clicked(self, scorer: str, _line: Any, points: Sequence[Any], _event: Any) -> None:
        self.pointClicked.emit(scorer, int(points[0].index()))


def legend(scorers: Sequence[str]) -> str:
    """Name the scorers, as rich text, each with its line's colour and style."""
    entries = (
        f"<font color='{_COLOURS[scorer]}'>●</font>&nbsp;{scorer}&nbsp;({_STYLES[scorer][1]})"
        for scorer in scorers
    )
    return " &nbsp; ".join(entries)
