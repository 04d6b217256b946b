"""A line that says, before a click, how long a run will take and how much memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QLabel, QWidget

from napari_tokensparse.widgets.importing import IMPORTING
from napari_tokensparse.widgets.workers import Worker, in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.segmenting.estimating.estimate import Estimate
    from napari_tokensparse.volumes.region import Box
    from napari_tokensparse.volumes.volume import Volume

ESTIMATING = "Estimating time and memory …"
DELAY_MS = 500
"""How long nothing must have changed before a run is estimated."""


@dataclass(frozen=True, eq=False)
class Question:
    """A run that has not begun.

    Attributes
    ----------
    volume, region, keep_ratio
        What would be segmented, and how.
    network
        Gives the network, in the thread of the estimate.
    """

    volume: Volume
    network: Callable[[], SCD]
    keep_ratio: float
    region: Box | None


class Forecast(QLabel):
    """Estimates a run in a thread, once nothing has changed for a moment.

    The first time for a model the machine is measured, which takes some seconds; a run that begins
    meanwhile stops that.

    Parameters
    ----------
    choose
        Returns what is chosen now; a ``ValueError`` where that is nothing to run.
    parent
        Qt parent.
    """

    def __init__(self, choose: Callable[[], Question], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._choose = choose
        self._worker: Worker | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(DELAY_MS)
        self._timer.timeout.connect(self._begin)
        self.setWordWrap(True)
        self.setToolTip("With this machine to itself; measured here, once for each model")

    def ask(self) -> None:
        """Estimate what is chosen, in a moment."""
        self.stop()
        self._timer.start()

    def stop(self) -> None:
        """Say nothing, and leave the machine to others."""
        self._timer.stop()
        self.clear()
        if self._worker is not None:
            self._worker.quit()

    def _begin(self) -> None:
        if self._worker is not None:  # it is about to stop
            self._timer.start()
            return
        try:
            question = self._choose()
        except ValueError:
            return  # a click says what is missing
        self.setText(ESTIMATING)
        self._worker = in_thread(_answer, question, failed=self._fail)
        self._worker.yielded.connect(self._receive)
        self._worker.finished.connect(self._finish)
        self.destroyed.connect(self._worker.quit)
        self._worker.start()

    def _receive(self, found: Estimate | None) -> None:
        if found is not None and self._worker is not None and not self._worker.abort_requested:
            self.setText(str(found))

    def _fail(self, _error: BaseException) -> None:
        self.clear()  # a run says the same

    def _finish(self) -> None:
        if self._worker is not None:
            self.destroyed.disconnect(self._worker.quit)  # or it would keep every worker
        self._worker = None


def _answer(question: Question) -> Iterator[Estimate | None]:
    """Estimate, in the worker's thread; touches no widget."""
    with IMPORTING:
        from napari_tokensparse.segmenting.estimating.estimate import estimating
        from napari_tokensparse.segmenting.options import options_for

    yield None
    network = question.network()
    options = options_for(network, question.keep_ratio, region=question.region, device=None)
    yield (yield from estimating(question.volume, network, options))
