"""The inspector's third pane: how segmentation, time and memory follow the keep ratio."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox
from napari.layers import Labels
from napari.utils.theme import get_theme
from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from napari_tokensparse.widgets.importing import IMPORTING
from napari_tokensparse.widgets.inspector.sweep_plot import BY_IMPORTANCE, SweepPlot, legend
from napari_tokensparse.widgets.layerfiles import suggested_file
from napari_tokensparse.widgets.layers import RESULT_KEY
from napari_tokensparse.widgets.layervolumes import read_layer
from napari_tokensparse.widgets.plot import png_button
from napari_tokensparse.widgets.results import results_of
from napari_tokensparse.widgets.run_control import RunControl
from napari_tokensparse.widgets.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import napari

    from napari_tokensparse.common.tables import Cell
    from napari_tokensparse.inspecting.points import SweepPoint
    from napari_tokensparse.inspecting.progress import RunProgress
    from napari_tokensparse.inspecting.sweep import Sweep
    from napari_tokensparse.model.controls import Scorer
    from napari_tokensparse.volumes.volume import Volume
    from napari_tokensparse.widgets.results import ShownResult

NO_RESULT = "Nothing to sweep yet: segment an image with the Segment widget."
MEAN = "all classes"
REFERENCE = "keep ratio 1.0"
_RATIOS = "0.1, 0.25, 0.5, 0.75"
_HEADERS = ("Scorer", "Keep", "Dice", "Time (s)", "GMACs", "MB", "Kept %")
_SHORTEST_NAME = 8
_OVER_RATIO, _OVER_TOKENS = "keep ratio", "tokens kept"


@dataclass(frozen=True, eq=False)
class SweepRequest:
    """One click on Sweep: everything the runs need, read off the pane once."""

    result: ShownResult
    keep_ratios: tuple[float, ...]
    labels: Volume | None
    scorers: tuple[Scorer, ...]
    by_importance: bool


class CurvePane(QWidget):
    """Sweeps the keep ratio on the image of the latest result, and plots what comes of it.

    Parameters
    ----------
    viewer
        The viewer with the result.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer, self._results = viewer, results_of(viewer)
        self._request: SweepRequest | None = None
        self._sweep: Sweep | None = None
        self._build()
        self._lay_out()
        self.run.startClicked.connect(self._start)
        self.run.received.connect(self._take)
        self.plot.pointClicked.connect(lambda line, place: self._choose(self._lines()[line][place]))
        self.table.rowChosen.connect(self._row_chosen)
        for combo in (self.against, self.of_class, self.over):
            combo.currentIndexChanged.connect(lambda _: self._show())
        events = viewer.layers.events
        for changed in (events.inserted, events.removed, events.renamed):
            changed.connect(self._layers_changed)
        self._results.changed.connect(self._result_changed)
        viewer.events.theme.connect(self._theme_changed)
        self._theme_changed()
        self._result_changed()

    def _build(self) -> None:
        self.ratios = QLineEdit(_RATIOS)
        self.ratios.setToolTip(
            "Keep ratios to run, in (0, 1], with commas between; 1 is always run"
        )
        self.labels = ComboBox(choices=lambda _: [("none", None), *self._label_layers()])
        self.labels.native.setToolTip(
            "True labels on the image's grid, with the model's label values, to compare with too"
        )
        self.controls = QCheckBox("Controls too: random and intensity")
        self.controls.setChecked(True)
        self.controls.setToolTip(
            "Prune the same number of tokens at random, and by brightness, as well: what learned "
            "pruning must beat. Takes three times as long."
        )
        self.by_importance = QCheckBox("By importance too")
        self.by_importance.setToolTip(
            "Prune by importance as well, at thresholds that leave about as many tokens: whether "
            "that is worth more than a share of every window"
        )
        self.run = RunControl("Sweep")
        self.run.button.setToolTip("Segment the image of the latest result at every keep ratio")
        self.against, self.of_class = QComboBox(), QComboBox()
        self.against.setToolTip("What the segmentations are compared with")
        self.of_class.setToolTip("Whose Dice is shown")
        self.over = QComboBox()
        self.over.addItems([_OVER_RATIO, _OVER_TOKENS])
        self.over.setToolTip("What the plot goes over")
        self.plot, self.legend, self.table = SweepPlot(), QLabel(), Table("curve")
        self.legend.setTextFormat(Qt.TextFormat.RichText)
        self.legend.setWordWrap(True)
        self.table.setToolTip(
            "Of each run: scorer, keep ratio, Dice, time, multiply-accumulates, peak memory in MB, "
            "and the share of tokens kept to the end. Click on a row, or press Enter, to set the "
            "Segment slider to its keep ratio."
        )
        columns, rows = self.table.horizontalHeader(), self.table.verticalHeader()
        assert columns is not None and rows is not None
        columns.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        rows.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        for combo in (self.labels.native, self.against, self.of_class, self.over):
            combo.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )
            combo.setMinimumContentsLength(_SHORTEST_NAME)

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.addRow("Keep ratios", self.ratios)
        form.addRow("Labels", self.labels.native)
        form.addRow(self.controls)
        row = QHBoxLayout()
        row.addWidget(self.by_importance)
        row.addStretch()
        row.addWidget(QLabel("Plot over"))
        row.addWidget(self.over)
        form.addRow(row)
        chosen = QHBoxLayout()
        for text, combo in (
            ("Dice with", self.against),
            ("of", self.of_class),
        ):
            chosen.addWidget(QLabel(text))
            chosen.addWidget(combo, stretch=1)
        buttons = QHBoxLayout()
        buttons.addStretch()
        buttons.addWidget(self.table.save_button())
        suggest = partial(suggested_file, self._results)
        legend = self.legend.text
        self.save_plot = png_button(self.plot, "curve", suggest=suggest, legend=legend)
        buttons.addWidget(self.save_plot)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(self.run)
        layout.addLayout(chosen)
        layout.addWidget(self.plot, stretch=3)
        layout.addWidget(self.legend)
        layout.addWidget(self.table, stretch=2)
        layout.addLayout(buttons)

    def _label_layers(self) -> list[tuple[str, Labels]]:
        labels = (layer for layer in self._viewer.layers if isinstance(layer, Labels))
        return [(layer.name, layer) for layer in labels if RESULT_KEY not in layer.metadata]

    def _layers_changed(self, _event: Any = None) -> None:
        self.labels.reset_choices()

    def _result_changed(self) -> None:
        if not self.run.is_busy and self._sweep is None:
            self.run.say("" if self._results.latest else NO_RESULT)

    def _start(self) -> None:
        try:
            self._request = self._read_request()
        except ValueError as error:
            self.run.say(str(error))
            return
        self.run.start(_sweep, self._request)

    def _read_request(self) -> SweepRequest:
        result = self._results.latest
        if result is None:
            raise ValueError(NO_RESULT)
        layer = self.labels.value
        scorers: tuple[Scorer, ...] = ("learned", "random", "intensity")
        return SweepRequest(
            result,
            _ratios(self.ratios.text()),
            None if layer is None else read_layer(layer, like=result.image)[0],
            scorers if self.controls.isChecked() else scorers[:1],
            self.by_importance.isChecked(),
        )

    def _take(self, sweep: Sweep) -> None:
        assert self._request is not None
        self._sweep = sweep
        labels = self._request.labels
        _fill(self.against, [REFERENCE, *([labels.name] if labels else [])])
        _fill(self.of_class, [MEAN, *sweep.classes])
        self._show()
        self.run.say(_done_text(self._request.result, sweep))
        self._results.swept.emit((self._request.result, sweep))

    def _show(self) -> None:
        sweep = self._sweep
        if sweep is None:
            return
        over_tokens = self.over.currentText() == _OVER_TOKENS
        lines = {name: self._line(points, over_tokens) for name, points in self._lines().items()}
        title = f"Dice, {self.of_class.currentText()}"
        self.plot.show_lines(lines, title, over_tokens=over_tokens)
        self.save_plot.setEnabled(any(lines.values()))
        self.legend.setText(legend(list(lines)))
        self.table.show_rows(_HEADERS, [_row(p, self._dice(p)) for p in sweep.points])

    def _lines(self) -> dict[str, list[SweepPoint]]:
        """Return the points that have a Dice, of each scorer and by importance."""
        assert self._sweep is not None
        lines: dict[str, tuple[SweepPoint, ...]] = {
            s: self._sweep.line(s) for s in self._sweep.scorers
        }
        if self._sweep.importance_line:
            lines[BY_IMPORTANCE] = self._sweep.importance_line
        return {
            name: [point for point in points if self._dice(point) is not None]
            for name, points in lines.items()
        }

    def _line(self, points: Sequence[SweepPoint], over_tokens: bool) -> list[tuple[float, float]]:
        known = (
            (100 * p.kept_share if over_tokens else p.keep_ratio, self._dice(p)) for p in points
        )
        return [(at, dice) for at, dice in known if dice is not None]

    def _choose(self, point: SweepPoint) -> None:
        """Let the Segment widget keep what a run of the sweep kept."""
        if point.importance is None:
            self._results.keepRatioChosen.emit(point.keep_ratio)
        else:
            self._results.importanceChosen.emit(point.importance)

    def _dice(self, point: SweepPoint) -> float | None:
        true, name = self.against.currentIndex() > 0, self.of_class.currentText()
        if self.of_class.currentIndex() <= 0:
            return point.mean_labels_dice if true else point.mean_dice
        return ((point.labels_dice or {}) if true else point.dice).get(name)

    def _row_chosen(self, place: int) -> None:
        assert self._sweep is not None
        self._choose(self._sweep.points[place])

    def _theme_changed(self, _event: Any = None) -> None:
        self.plot.set_foreground(get_theme(self._viewer.theme).text.as_hex(format="long"))


def _ratios(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError(f"keep ratios {text!r}: give numbers in (0, 1], commas between") from None


def _fill(combo: QComboBox, entries: list[str]) -> None:
    """Offer other entries; the choice stays if it is among them."""
    before = combo.currentText()
    with QSignalBlocker(combo):
        combo.clear()
        combo.addItems(entries)
        combo.setCurrentIndex(max(combo.findText(before), 0))


def _row(point: SweepPoint, dice: float | None) -> list[Cell]:
    kept = 100 * point.tokens_kept / point.tokens if point.tokens else None
    costs = (point.seconds, point.gmacs, point.peak_mb)
    scorer = point.scorer if point.importance is None else f"≥ {point.importance:.3g}"
    return [scorer, point.keep_ratio, dice, *costs, kept]


def _done_text(result: ShownResult, sweep: Sweep) -> str:
    """Say what a curve is of."""
    where = "" if sweep.region is None else f", region {sweep.region}"
    return f"{result.image.name}, {sweep.model} on {sweep.device}{where}. MB: {sweep.memory}."


def _sweep(request: SweepRequest) -> Iterator[RunProgress | Sweep]:
    """Sweep in the worker's thread; touches no widget."""
    with IMPORTING:
        from napari_tokensparse.inspecting.sweep import sweeping

    result = request.result
    yield from sweeping(
        result.volume,
        result.network,
        request.keep_ratios,
        labels=request.labels,
        scorers=request.scorers,
        by_importance=request.by_importance,
        region=result.segmentation.region,
    )
