"""The cut of a stage: its histogram of importances, and what another keep ratio would do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import (  # type: ignore[attr-defined]  # Signal is renamed by qtpy
    QSignalBlocker,
    Signal,
)
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_tokensparse.inspecting.fates import LIVE_COLOUR
from napari_tokensparse.inspecting.tokens import (
    cut_for_keep_ratio,
    keep_ratio_for_cut,
    stage_histogram,
)
from napari_tokensparse.model.ratios import describe_keep_ratio
from napari_tokensparse.segmenting.tokenmaps import stage_colour
from napari_tokensparse.widgets.fitting import show_whole
from napari_tokensparse.widgets.inspector.histogram import ImportanceHistogram
from napari_tokensparse.widgets.layers import hex_colour
from napari_tokensparse.widgets.plot import png_button
from napari_tokensparse.widgets.pruning.sliders import SMALLEST_KEEP_RATIO

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_tokensparse.inspecting.tokens import StageHistogram
    from napari_tokensparse.model.info import Colour
    from napari_tokensparse.segmenting.infer import Segmentation


class CutControl(QWidget):
    """A stage's histogram whose cut can be dragged, or set as the stage's keep ratio.

    Parameters
    ----------
    suggest
        Makes the suggested path of a picture of its ending, such as ``importances.png``.
    parent
        Qt parent.
    """

    ratiosPreviewed = Signal(tuple)
    """A person moved a cut: the keep ratio of every stage, with the cuts moved so far."""

    def __init__(
        self, suggest: Callable[[str], Path] = Path, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._suggest = suggest
        self._result: Segmentation | None = None
        self._stage = 1
        self._ratios: list[float] = []
        self._build()
        self.histogram.cutDragged.connect(self._dragged)
        self.ratio.valueChanged.connect(self._ratio_changed)
        self.log.toggled.connect(lambda _: self._draw())
        self.reset.clicked.connect(lambda _: self._reset())

    def _build(self) -> None:
        self.histogram = ImportanceHistogram()
        self.histogram.setToolTip(
            "Importances of the tokens that reached this stage. Drag the line to try another cut: "
            "tokens left of it would be pruned."
        )
        self.legend, self.meaning = QLabel(), QLabel()
        for label in (self.legend, self.meaning):
            label.setWordWrap(True)
        self.log = QCheckBox("Log scale")
        self.log.setToolTip("Importances on a logarithmic axis, over the range that occurs")
        self.log.setChecked(True)
        self.ratio = QDoubleSpinBox()
        self.ratio.setRange(SMALLEST_KEEP_RATIO, 1.0)
        self.ratio.setSingleStep(0.05)
        self.ratio.setDecimals(3)
        show_whole(self.ratio)
        self.ratio.setToolTip("Share of the live tokens that this stage would keep, 0.05 to 1")
        self.reset = QPushButton("Reset")
        self.reset.setToolTip("Put the cuts of all stages back to those of the run")
        above, below = QHBoxLayout(), QHBoxLayout()
        above.addWidget(self.log)
        above.addStretch()
        self.save_plot = png_button(
            self.histogram, "importances", suggest=self._suggest, legend=self.legend.text
        )
        above.addWidget(self.save_plot)
        below.addWidget(QLabel("Keep ratio of this stage"))
        below.addWidget(self.ratio, stretch=1)
        below.addWidget(self.reset)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(above)
        layout.addWidget(self.legend)
        layout.addWidget(self.histogram, stretch=1)
        layout.addLayout(below)
        layout.addWidget(self.meaning)

    def value(self) -> tuple[float, ...]:
        """Return the keep ratio of every stage, with the cuts that were moved."""
        return tuple(self._ratios)

    def show_result(self, result: Segmentation | None) -> None:
        """Show a run, its own cuts first; None shows nothing."""
        self._result = result
        self._ratios = [] if result is None else list(result.stats.kept_shares)
        self.setEnabled(result is not None)
        self._draw()

    def set_stage(self, stage: int) -> None:
        """Show another stage, counted from 1; moved cuts stay."""
        self._stage = stage
        self._draw()

    def _draw(self) -> None:
        if self._result is None:
            return
        tokens, log = self._result.tokens, self.log.isChecked()
        histogram = stage_histogram(tokens, self._stage, log=log)
        self.histogram.show_histogram(histogram, self._stage, log=log)
        self.save_plot.setEnabled(True)
        self.legend.setText(legend(histogram, self._stage, self._result.stats.windows))
        if self._is_moved():
            ratio = self._ratios[self._stage - 1]
            self.histogram.set_cut(cut_for_keep_ratio(tokens, self._stage, ratio))
        self._describe()

    def _is_moved(self) -> bool:
        assert self._result is not None
        own = self._result.stats.kept_shares
        return self._ratios[self._stage - 1] != own[self._stage - 1]

    def _dragged(self, cut: float) -> None:
        if self._result is not None:
            ratio = keep_ratio_for_cut(self._result.tokens, self._stage, cut)
            self._try(max(ratio, SMALLEST_KEEP_RATIO))

    def _ratio_changed(self, ratio: float) -> None:
        if self._result is not None:
            self.histogram.set_cut(cut_for_keep_ratio(self._result.tokens, self._stage, ratio))
            self._try(ratio)

    def _try(self, ratio: float) -> None:
        self._ratios[self._stage - 1] = ratio
        self._describe()
        self.ratiosPreviewed.emit(self.value())

    def _reset(self) -> None:
        self.show_result(self._result)
        self.ratiosPreviewed.emit(self.value())

    def _describe(self) -> None:
        with QSignalBlocker(self.ratio):
            self.ratio.setValue(self._ratios[self._stage - 1])
        self.meaning.setText(describe_keep_ratio(self._ratios))


def legend(histogram: StageHistogram, stage: int, windows: int) -> str:
    """Say what a stage's histogram shows, as rich text."""
    kept, pruned = int(histogram.kept.sum()), int(histogram.pruned.sum())
    text = (
        f"{_square(LIVE_COLOUR)} kept {kept} &nbsp; "
        f"{_square(stage_colour(stage))} pruned {pruned} &nbsp; "
    )
    if windows <= 1:
        return f"{text}cut at {histogram.cut:.3g}"
    return (
        f"{text}<br>each of {windows} windows has its own cut: lowest kept "
        f"{histogram.lowest_kept:.3g}, highest pruned {histogram.highest_pruned:.3g}"
    )


def _square(colour: Colour) -> str:
    return f"<font color='{hex_colour(colour)}'>■</font>"
