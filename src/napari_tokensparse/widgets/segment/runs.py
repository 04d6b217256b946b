"""What becomes of runs: shown, listed, laid beside one another, brought back and taken back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal  # type: ignore[attr-defined]  # renamed by qtpy
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_tokensparse.widgets.fitting import soon
from napari_tokensparse.widgets.history.history import history_of
from napari_tokensparse.widgets.history.record import Run, reference_of
from napari_tokensparse.widgets.history.table import HEADERS, RunTable
from napari_tokensparse.widgets.history.view import bring_back, labels_of, run_labels
from napari_tokensparse.widgets.layers import LABELS, RUN_KEY, result_layers, warned
from napari_tokensparse.widgets.results import ShownResult, results_of
from napari_tokensparse.widgets.segment.alongside import mark
from napari_tokensparse.widgets.showing import (
    KEPT_KEY,
    PUT_LABELS_KEY,
    Change,
    show_layers,
    undo,
)

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

    from napari_tokensparse.segmenting.options import Options
    from napari_tokensparse.widgets.segment.alongside import Alongside
    from napari_tokensparse.widgets.segment.run import AgainRequest, Result, SegmentRequest

PRUNING_KEY = "tokensparse_pruning"
"""In the metadata of the labels of a run: its keep ratios or importance, and pins."""
_ROWS = 4  # that are seen without scrolling


class RunList(QWidget):
    """Shows results in the viewer and lists the runs that gave them.

    Parameters
    ----------
    viewer
        Whose runs.
    alongside
        What shows layers side by side.
    parent
        Qt parent.

    Signals
    -------
    said
        A line about what was done.
    """

    said = Signal(str)

    def __init__(
        self, viewer: napari.Viewer, alongside: Alongside, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer, self._alongside = viewer, alongside
        self._results, self._history = results_of(viewer), history_of(viewer)
        self._last: tuple[list[Change], ShownResult | None] = ([], None)
        self._hidden: list[Layer] = []  # by the last run
        self._shown_to_compare: list[Layer] = []
        self._build()
        self.undo.clicked.connect(lambda _: self._undo())
        self.show_button.clicked.connect(lambda _: self._show_chosen())
        self.compare_button.toggled.connect(self._compare_toggled)
        alongside.ended.connect(self._end_compare)
        alongside.began.connect(self._began_alongside)
        self.table.doubleClicked.connect(lambda _: self._show_chosen())
        self._history.changed.connect(self._follow)
        viewer.layers.events.removed.connect(self._removed)
        self._follow()

    def take(self, request: SegmentRequest | AgainRequest, result: Result) -> list[str]:
        """Show what a run gave, and list it; return what a person should know of the layers."""
        scan, info, number = request.scan, result.network.info, self._history.next_number()
        name = str(scan.layer.name)
        place = warned(request.placement, result.warnings)
        *maps, labels = result_layers(name, place, scan.volume, result.segmentation, info)
        metadata = {**labels.kwargs["metadata"], RUN_KEY: number, **_pruning(result.options)}
        labels = replace(labels, kwargs={**labels.kwargs, "metadata": metadata})
        keep = self.keep_edits.isChecked()
        changes = show_layers(self._viewer, [*maps, labels], keep_edits=keep)
        self._last = (changes, self._results.latest)
        self.undo.setEnabled(True)
        layer = changes[-1].layer
        kept = layer.metadata.get(KEPT_KEY, ())
        shown = ShownResult(
            scan.layer,
            scan.volume,
            result.network,
            result.options,
            result.segmentation,
            scan.layers,
            kept,
            number,
        )
        put = layer.metadata[PUT_LABELS_KEY]
        run = Run.of(number, shown, put, place)
        self._history.add(run)
        self._hidden = self._show_alone(layer, run)
        self._results.show(shown)
        where = (
            [] if layer.name == f"{name} {LABELS}" else [f"labels are in the layer {layer.name}"]
        )
        hidden = [f"{other.name} stays as it is, hidden" for other in self._hidden]
        return [*kept, *where, *hidden]

    def chosen(self) -> Run | None:
        """Return the run whose row is selected."""
        row = self.table.currentIndex().row()
        return self._model.run(row) if row >= 0 else None

    def _build(self) -> None:
        self.keep_edits = QCheckBox("Keep my edits")
        self.keep_edits.setToolTip(
            "Let the next run go into labels that you edited, all but the edited voxels; otherwise "
            "it gets a layer of its own. Locked classes stay either way"
        )
        self.undo = QPushButton("Undo run")
        self.undo.setToolTip(
            "Take the layers of the last run back, and bring those it updated to what they were; "
            "labels edited since stay"
        )
        self.undo.setEnabled(False)
        self._model = RunTable(self._history, self)
        self.table = QTableView()
        self.table.setModel(self._model)
        self.table.setAccessibleName("List of runs")
        self.table.setToolTip("The runs in this window, the latest first; a double click shows one")
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        rows, columns = self.table.verticalHeader(), self.table.horizontalHeader()
        assert rows is not None and columns is not None
        rows.hide()
        self.table.setWordWrap(False)
        columns.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        columns.setSectionResizeMode(HEADERS.index("Model"), QHeaderView.ResizeMode.Stretch)
        height = columns.sizeHint().height() + _ROWS * rows.defaultSectionSize()
        self.table.setFixedHeight(height + 2 * self.table.frameWidth())
        self.show_button = QPushButton("Show run")
        self.show_button.setToolTip(
            "Bring the chosen run back into view: labels that no layer holds any more get one, "
            "named after what was kept; the token inspector follows"
        )
        self.compare_button = QPushButton("Compare")
        self.compare_button.setCheckable(True)
        self.compare_button.setToolTip(
            "Lay the labels of the chosen run beside those that are shown, or beside the run that "
            "it is compared with"
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(_row(self.undo, self.keep_edits))
        self.box = QWidget()
        inside = QVBoxLayout(self.box)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.addWidget(self.table)
        inside.addLayout(_row(self.show_button, self.compare_button))
        layout.addWidget(self.box)

    def _follow(self) -> None:
        """Choose the latest run where none is chosen; before the first there is no list."""
        self.box.setVisible(bool(self._history.runs))
        if self._history.runs and self.chosen() is None:
            self.table.selectRow(0)

    def _removed(self, _event: Any = None) -> None:
        """Offer no way back for a run of which no layer is left."""
        left = any(change.layer in self._viewer.layers for change in self._last[0])
        self.undo.setEnabled(self.undo.isEnabled() and left)

    def _show_chosen(self) -> None:
        run = self.chosen()
        assert run is not None  # one is chosen whenever there is a list
        labels = bring_back(self._viewer, run)
        self._show_alone(labels, run)
        self._viewer.layers.selection.active = labels
        self.said.emit(f"Run {run.number} is shown: keep {run.keep}, layer {labels.name}.")

    def _show_alone(self, labels: Layer, run: Run) -> list[Layer]:
        """Hide the other labels of a run's image, whose colours would mix; return what was seen."""
        others = [one for one in labels_of(self._viewer, run.image[0]) if one is not labels]
        hidden = [one for one in others if one.visible]
        self._shown_to_compare = []
        for one in hidden:
            one.visible = False
        return hidden

    def _compare_toggled(self, compare: bool) -> None:
        if not compare:
            self._alongside.hide()
            self.said.emit("")
            return
        try:
            self._compare_chosen()
        except ValueError as error:
            mark(self.compare_button, False)
            self.said.emit(str(error))

    def _compare_chosen(self) -> None:
        run = self.chosen()
        assert run is not None  # one is chosen whenever there is a list
        shown = run.shown()
        if shown is None:
            raise ValueError(f"{run.image[1]} was removed: its runs can be shown, not compared.")
        self._hide_compared()
        seen = {one for one in labels_of(self._viewer, run.image[0]) if one.visible}
        if not self._has_others_in_view(run):
            other = reference_of(run, self._history.runs)
            if other is None:
                raise ValueError("There is one run only; segment with another keep ratio first.")
            run_labels(self._viewer, other)
        self._alongside.show(shown.image, run_labels(self._viewer, run))
        now = labels_of(self._viewer, run.image[0])
        self._shown_to_compare = [one for one in now if one.visible and one not in seen]
        self.said.emit(f"On the right: run {run.number}, keep {run.keep}.")

    def _began_alongside(self, tokens: bool) -> None:
        mark(self.compare_button, not tokens)
        if tokens:
            self._hide_compared()

    def _end_compare(self) -> None:
        mark(self.compare_button, False)
        soon(self, self._hide_compared)  # napari may be about to remove a layer

    def _hide_compared(self) -> None:
        """Hide labels that were shown to be compared: in one cell their colours would mix."""
        for layer in self._shown_to_compare:
            layer.visible = False
        self._shown_to_compare = []

    def _has_others_in_view(self, run: Run) -> bool:
        layers = labels_of(self._viewer, run.image[0])
        return any(one.visible and one.metadata[RUN_KEY] != run.number for one in layers)

    def _undo(self) -> None:
        """Take the last run back; it stays in the list."""
        changes, earlier = self._last
        kept = undo(self._viewer, changes)
        self._last = ([], None)
        for other in self._hidden:
            other.visible = True
        self._hidden = []
        self.undo.setEnabled(False)
        if earlier is not None:
            self._results.show(earlier)
        said = [f"{name} was edited since, so it stays." for name in kept]
        self.said.emit("\n".join(["The last run was taken back.", *said]))


def _pruning(options: Options) -> dict[str, Any]:
    """Return what decided about tokens, as a layer's metadata."""
    return {PRUNING_KEY: options.model_dump(include={"keep_ratio", "importance", "pin", "drop"})}


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    return row
