"""The inspector's last pane: where the network is least sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_tokensparse.widgets.canvas.places import go_to, place_texts
from napari_tokensparse.widgets.fitting import show_whole
from napari_tokensparse.widgets.importing import IMPORTING
from napari_tokensparse.widgets.outline import show_component
from napari_tokensparse.widgets.results import results_of
from napari_tokensparse.widgets.table import Table
from napari_tokensparse.widgets.workers import Worker, in_thread

if TYPE_CHECKING:
    import napari

    from napari_tokensparse.common.tables import Cell
    from napari_tokensparse.inspecting.doubt import Doubt
    from napari_tokensparse.widgets.results import ShownResult

NO_RESULT = "Nothing to list yet: tick Confidence in the Segment widget, and segment an image."
_HEADERS = ("Class", "mm³", "Sure %", "R/L", "A/P", "S/I")
_BELOW, _SMALLEST = 50.0, 27.0  # per cent; mm³, a voxel of 3 mm
_MOST_ROWS = 500


@dataclass(frozen=True, eq=False)
class Question:
    """A result, the probability in per cent that is low, and the least volume in mm³."""

    result: ShownResult
    below: float
    smallest: float


class DoubtPane(QWidget):
    """Lists connected places of low probability of the latest result, and goes to them.

    Parameters
    ----------
    viewer
        The viewer with the result.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer, self._results = viewer, results_of(viewer)
        self._worker: Worker | None = None
        self._listed: tuple[Question, tuple[Doubt, ...]] | None = None
        self.below, self.smallest = QDoubleSpinBox(), QDoubleSpinBox()
        self.button = QPushButton("List")
        self.said = QLabel()
        self.table = Table("least sure")
        self._build()
        self.button.clicked.connect(self._start)
        self.table.rowChosen.connect(self._row_chosen)
        self._results.changed.connect(self._result_changed)
        self._result_changed()

    def _build(self) -> None:
        self.below.setRange(1.0, 100.0)
        self.below.setValue(_BELOW)
        self.below.setSuffix(" %")
        self.below.setToolTip("Voxels whose class is less probable than this are listed")
        self.smallest.setRange(0.0, 1e6)
        self.smallest.setValue(_SMALLEST)
        self.smallest.setSuffix(" mm³")
        show_whole(self.below)
        show_whole(self.smallest)
        self.smallest.setToolTip("Places smaller than this are left out")
        self.button.setToolTip("List the places where the network was least sure, largest first")
        self.said.setWordWrap(True)
        self.table.setToolTip(
            "Connected places of one class where its probability is low: volume in mm³, mean "
            "probability, and the centre in the patient, mm. Click on a row, or press Enter, to go "
            "there and mark it."
        )
        self.table.let_names_wrap()
        form = QFormLayout()
        form.addRow("Less probable than", self.below)
        form.addRow("At least", self.smallest)
        row = QHBoxLayout()
        row.addStretch()
        row.addWidget(self.table.save_button())
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(self.button)
        layout.addWidget(self.said)
        layout.addWidget(self.table, stretch=1)
        layout.addLayout(row)

    def _result_changed(self) -> None:
        result = self._results.latest
        kept = result is not None and result.segmentation.confidence is not None
        self.button.setEnabled(kept)
        if not kept:
            self.said.setText(NO_RESULT)
        elif self._listed is None or self._listed[0].result is not result:
            self.said.setText("")

    def _start(self) -> None:
        result = self._results.latest
        if result is None or self._worker is not None:
            return
        self.button.setEnabled(False)
        self.said.setText("Looking for places …")
        question = Question(result, self.below.value(), self.smallest.value())
        self._worker = in_thread(_list, question, failed=self._fail)
        self._worker.returned.connect(self._take)
        self._worker.finished.connect(self._finish)
        self._worker.start()

    def _take(self, listed: tuple[Question, tuple[Doubt, ...]]) -> None:
        self._listed = listed
        asked, doubts = listed
        rows = [_row(doubt) for doubt in doubts[:_MOST_ROWS]]
        self.table.show_rows(_HEADERS, rows, place_texts(_HEADERS.index("R/L")))
        more = f", the {_MOST_ROWS} largest listed" if len(doubts) > _MOST_ROWS else ""
        number = f"{len(doubts)} place{'s' * (len(doubts) != 1)}"
        self.said.setText(f"{asked.result.image.name}: {number}{more}.")

    def _fail(self, error: BaseException) -> None:
        self.said.setText(str(error) or type(error).__name__)

    def _finish(self) -> None:
        self._worker = None
        result = self._results.latest
        self.button.setEnabled(result is not None and result.segmentation.confidence is not None)

    def _row_chosen(self, place: int) -> None:
        """Go to a place, and mark it."""
        from napari_tokensparse.inspecting.doubt import place_of

        assert self._listed is not None
        asked, doubts = self._listed
        result, doubt, info = asked.result, doubts[place], asked.result.network.info
        assert info is not None  # or there would be no list
        box, mask = place_of(result.segmentation, info, doubt, asked.below / 100)
        if result.image in self._viewer.layers:
            show_component(self._viewer, result.image, result.volume, box, mask)
        go_to(self._viewer, result, doubt.voxel)


def _row(doubt: Doubt) -> list[Cell]:
    return [doubt.name, doubt.mm3, 100 * doubt.confidence, *doubt.centre_mm]


def _list(question: Question) -> tuple[Question, tuple[Doubt, ...]]:
    """List places, in the worker's thread; touches no widget."""
    with IMPORTING:
        from napari_tokensparse.inspecting.doubt import least_sure

    result = question.result
    places = least_sure(
        result.segmentation,
        result.volume,
        result.network.info,
        question.below / 100,
        question.smallest,
    )
    return question, places
