"""Histogram of a stage's importances, with a cut that can be dragged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]  # Signal is renamed by qtpy
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_tokensparse.inspecting.fates import LIVE_COLOUR
from napari_tokensparse.segmenting.tokenmaps import stage_colour
from napari_tokensparse.widgets.plot import LogAxis, clear_background, colour_axes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_tokensparse.inspecting.tokens import StageHistogram

_LOWEST = 1e-45  # of float32: the logarithm of 0 has no place


class ImportanceHistogram(pg.PlotWidget):  # type: ignore[misc]  # pyqtgraph has no types
    """Kept tokens on top of pruned ones for each bin of importance, and the cut between them.

    Parameters
    ----------
    parent
        Qt parent.
    """

    cutDragged = Signal(float)
    """A person moved the cut to this importance."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent, axisItems={"bottom": LogAxis("bottom")})
        clear_background(self)
        self._log = False
        self.pruned, self.kept = (
            pg.BarGraphItem(x0=[], x1=[], y0=[], height=[], pen=None) for _ in range(2)
        )
        self.line = pg.InfiniteLine(angle=90, movable=True)
        self.line.setCursor(Qt.CursorShape.SizeHorCursor)
        for item in (self.pruned, self.kept, self.line):
            self.addItem(item)
        self.line.sigDragged.connect(lambda _: self.cutDragged.emit(self.cut()))
        self.setMouseEnabled(x=False, y=False)
        self.setMenuEnabled(False)
        self.hideButtons()
        self.setLabel("left", "tokens")
        self.setLabel("bottom", "importance")
        self.getAxis("bottom").enableAutoSIPrefix(False)
        self.getPlotItem().layout.setContentsMargins(0, 4, 4, 6)
        self.setMinimumHeight(120)
        self.setMaximumHeight(220)
        # Its own wish is 640 pixels, and the dock would grow to that.
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Expanding)

    def set_foreground(self, colour: str) -> None:
        """Draw axes, their text and the cut in this colour, ``#rrggbb``."""
        colour_axes([self.getPlotItem()], colour)
        self.line.setPen(pg.mkPen(colour, width=3))
        self.line.setHoverPen(pg.mkPen(colour, width=5))

    def show_histogram(self, histogram: StageHistogram, stage: int, *, log: bool) -> None:
        """Draw a stage's histogram, and its cut; ``log`` is the scale that it was made for."""
        self._log = log
        self.getAxis("bottom").setLogMode(log)
        edges = self._along(histogram.edges)
        for bars, counts, below, colour in (
            (self.pruned, histogram.pruned, np.zeros_like(histogram.pruned), stage_colour(stage)),
            (self.kept, histogram.kept, histogram.pruned, LIVE_COLOUR),
        ):
            bars.setOpts(x0=edges[:-1], x1=edges[1:], y0=below, height=counts, brush=colour)
        self.line.setBounds((edges[0], edges[-1]))
        self.setXRange(edges[0], edges[-1], padding=0.02)
        self.setYRange(0, max(int((histogram.kept + histogram.pruned).max()), 1), padding=0)
        self.set_cut(histogram.cut)

    def cut(self) -> float:
        """Return the importance at the line."""
        value = float(self.line.value())
        return 10.0**value if self._log else value

    def set_cut(self, importance: float) -> None:
        """Put the line at an importance, or at the nearer end of what is drawn."""
        self.line.setValue(float(self._along(np.array(importance))))

    def _along(self, importance: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.log10(importance.clip(min=_LOWEST)) if self._log else importance
