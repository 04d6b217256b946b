"""A button that finds how little can be kept for the labels in view to stay as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal  # type: ignore[attr-defined]  # Signal is renamed by qtpy
from qtpy.QtWidgets import QDoubleSpinBox, QHBoxLayout, QLabel, QPushButton, QWidget

from napari_tokensparse.widgets.fitting import show_whole
from napari_tokensparse.widgets.importing import IMPORTING
from napari_tokensparse.widgets.workers import Worker, in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari_tokensparse.segmenting.autoratio import Trial
    from napari_tokensparse.widgets.pruning.choice import Pruning
    from napari_tokensparse.widgets.segment.preview import Source

    Asked = tuple[Source, tuple[float, float, float], Pruning]

_USUAL, _LEAST = 99.0, 50.0  # per cent
BACKGROUND = "Auto: the window in view is background alone; go to what is to be segmented."


class AutoRatio(QWidget):
    """Tries keep ratios on the window in view, the smallest first, or importances, the largest.

    Parameters
    ----------
    choose
        Returns what is looked at, the voxel there, and the rule and pins that are chosen; a
        ``ValueError`` where nothing is chosen.
    parent
        Qt parent.
    """

    measured = Signal(object)
    """A `Trial` was made."""
    chosen = Signal(object)
    """The first `Trial` that agrees as asked: that which keeps least."""
    said = Signal(str)
    """One plain line on how the search goes or ended."""

    def __init__(self, choose: Callable[[], Asked], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._choose = choose
        self._worker: Worker | None = None
        self._trials: list[Trial] = []
        self._share = 1.0
        self.button = QPushButton("Auto")
        self.button.setToolTip(
            "Set the smallest keep ratio, or the largest importance, whose labels in the window in "
            "view agree with those of keep ratio 1.0 in this share of voxels; click again to cancel"
        )
        self.share = QDoubleSpinBox()
        self.share.setRange(_LEAST, 100.0)
        self.share.setDecimals(1)
        self.share.setValue(_USUAL)
        self.share.setSuffix(" %")
        show_whole(self.share)
        self.share.setAccessibleName("Agreement with keep ratio 1.0")
        self.share.setToolTip("Share of the labelled voxels that must keep their label")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.button)
        layout.addWidget(QLabel("agrees with 1.0 by"))
        layout.addWidget(self.share)
        layout.addStretch()
        self.button.clicked.connect(self._clicked)

    def _clicked(self) -> None:
        if self._worker is not None:
            self._worker.quit()
            return
        try:
            asked = self._choose()
        except ValueError as error:
            self.said.emit(str(error))
            return
        self._trials = []
        self.said.emit("Auto: preparing …")
        self._share = self.share.value() / 100
        self._worker = in_thread(_search, *asked, self._share, failed=self._fail)
        self._worker.yielded.connect(self._receive)
        self._worker.finished.connect(self._finish)
        self.destroyed.connect(self._worker.quit)
        self.button.setText("Cancel")
        self._worker.start()

    def _receive(self, trial: Trial | None) -> None:
        if trial is None or self._worker is None or self._worker.abort_requested:
            return
        self._trials.append(trial)
        self.measured.emit(trial)
        self.said.emit(f"Auto: {_rule(trial)} agrees by {trial.agreement:.1%} …")

    def _fail(self, error: BaseException) -> None:
        self._trials = []
        self.said.emit(str(error) or type(error).__name__)

    def _finish(self) -> None:
        worker, self._worker = self._worker, None
        self.button.setText("Auto")
        if worker is None:
            return
        self.destroyed.disconnect(worker.quit)  # or it would keep every worker
        if worker.abort_requested:
            self.said.emit("Auto: cancelled.")
        elif self._trials and self._trials[-1].agreement >= self._share:
            self.chosen.emit(self._trials[-1])
            self.said.emit(_result_text(self._trials))
        elif self._trials:
            self.said.emit(
                f"Auto: nothing agrees by {self._share:.1%}, for tokens are dropped by hand; "
                f"without pruning it is {self._trials[-1].agreement:.1%}."
            )


def _rule(trial: Trial) -> str:
    return f"{'importance ≥' if trial.by_importance else 'keep ratio'} {trial.value:g}"


def _result_text(trials: list[Trial]) -> str:
    last = trials[-1]
    text = (
        f"Auto: {_rule(last)} leaves {last.agreement:.1%} of the labelled voxels "
        "of the window in view as they are without pruning"
    )
    before = f"; {trials[-2].value:g} leaves {trials[-2].agreement:.1%}" if trials[1:] else ""
    return f"{text}{before}."


def _search(
    source: Source, voxel: Sequence[float], pruning: Pruning, share: float
) -> Iterator[Trial | None]:
    """Try ratios or importances, in the worker's thread; touches no widget."""
    with IMPORTING:
        from napari_tokensparse.segmenting.autoratio import searching
        from napari_tokensparse.segmenting.preview import PreviewSession

    session = PreviewSession(source.volume, source.network(), voxel)
    yield None
    if not session.is_foreground:
        raise ValueError(BACKGROUND)
    rule, pins = pruning.of_session(session)
    yield from searching(session, share, by_importance=rule is not None, pins=pins)
