"""A run in its thread, with the button that cancels it, its bar and its line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]  # Signal is renamed by qtpy
from qtpy.QtWidgets import QProgressBar, QPushButton

from napari_tokensparse.segmenting.result import Progress
from napari_tokensparse.widgets.segment.texts import progress_text
from napari_tokensparse.widgets.workers import Worker, in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qtpy.QtWidgets import QLabel, QWidget

SEGMENT, CANCEL = "Segment", "Cancel"


class Running(QObject):
    """Runs one generator at a time, shows how far it is, and passes on what else it yields.

    Parameters
    ----------
    message
        Says how far the run is.
    parent
        Qt parent.
    """

    received = Signal(object)
    """The run yielded this; progress is shown here and not passed on."""
    finished = Signal()
    """Nothing runs any more."""

    def __init__(self, message: QLabel, parent: QWidget) -> None:
        super().__init__(parent)
        self._message = message
        self.button, self.progress = QPushButton(SEGMENT), QProgressBar()
        self.button.setToolTip("Segment the image, or the region of it; click again to cancel")
        self.progress.setToolTip("Windows of the image that are segmented")
        self.progress.hide()
        self.worker: Worker | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a run goes on."""
        return self.worker is not None

    def start(self, work: Callable[..., Iterator[Any]], *arguments: Any) -> None:
        """Run a generator of progress and results; it may touch no widget."""
        self.worker = in_thread(work, *arguments, failed=self._failed)
        self.worker.yielded.connect(self._receive)
        self.worker.finished.connect(self._finished)
        self.destroyed.connect(self.worker.quit)
        self.button.setText(CANCEL)
        self._message.setText("Loading the model …")
        self.progress.setRange(0, 0)  # busy: no window is done yet
        self.progress.show()
        self.worker.start()

    def cancel(self) -> None:
        """End the run after the window that it is at."""
        if self.worker is not None:
            self.worker.quit()
            self.button.setEnabled(False)
            self._message.setText("Cancelling after this window …")

    def _receive(self, event: Any) -> None:
        if self.worker is None or self.worker.abort_requested:
            return
        if isinstance(event, Progress):
            self._show_progress(event)
        else:
            self.received.emit(event)

    def _show_progress(self, event: Progress) -> None:
        self._message.setText(progress_text(event))
        if event.done:
            self.progress.setRange(0, event.total)
            self.progress.setValue(event.done)

    def _failed(self, error: BaseException) -> None:
        self._message.setText(str(error) or type(error).__name__)

    def _finished(self) -> None:
        if self.worker is not None:
            self.destroyed.disconnect(self.worker.quit)  # or it would keep every worker
            if self.worker.abort_requested:
                self._message.setText("Cancelled.")
        self.worker = None
        self.button.setText(SEGMENT)
        self.progress.hide()
        self.finished.emit()
