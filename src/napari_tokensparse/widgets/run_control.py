"""A button that starts long work and cancels it, with a bar and a line on how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal  # type: ignore[attr-defined]  # Signal is renamed by qtpy
from qtpy.QtWidgets import QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_tokensparse.common.durations import duration
from napari_tokensparse.inspecting.progress import RunProgress
from napari_tokensparse.widgets.fitting import StatusLine
from napari_tokensparse.widgets.workers import Worker, in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_STEPS = 1000


class RunControl(QWidget):
    """Runs a generator in a thread, one at a time, and passes on what it yields.

    Parameters
    ----------
    verb
        What the button says: ``Sweep``. While work goes on it says ``Cancel``.
    parent
        Qt parent.
    """

    startClicked = Signal()
    """A person clicked on the button while nothing was going on."""
    received = Signal(object)
    """The work yielded this; progress is shown here and not passed on."""

    def __init__(self, verb: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._verb = verb
        self._worker: Worker | None = None
        self.button = QPushButton(verb)
        self.progress = QProgressBar()
        self.progress.setRange(0, _STEPS)
        self.progress.hide()
        self.message = StatusLine()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.button, self.progress, self.message):
            layout.addWidget(widget)
        self.button.clicked.connect(self._clicked)

    @property
    def is_busy(self) -> bool:
        """Whether work goes on."""
        return self._worker is not None

    def say(self, text: str) -> None:
        """Show a line below the button."""
        self.message.setText(text)

    def start(self, work: Callable[..., Iterator[Any]], *arguments: Any) -> None:
        """Run a generator of progress and results; it may touch no widget."""
        self._worker = in_thread(work, *arguments, failed=self._failed)
        self._worker.yielded.connect(self._receive)
        self._worker.finished.connect(self._finished)
        self.destroyed.connect(self._worker.quit)
        self.button.setText("Cancel")
        self.say("Starting …")
        self.progress.setValue(0)
        self.progress.show()
        self._worker.start()

    def _clicked(self) -> None:
        if self._worker is None:
            self.startClicked.emit()
            return
        self._worker.quit()
        self.button.setEnabled(False)
        self.say("Cancelling after this window …")

    def _receive(self, event: Any) -> None:
        if self._worker is None or self._worker.abort_requested:
            return
        if isinstance(event, RunProgress):
            self.progress.setValue(round(_STEPS * event.share))
            self.say(progress_text(event))
        else:
            self.received.emit(event)

    def _failed(self, error: BaseException) -> None:
        self.say(str(error) or type(error).__name__)

    def _finished(self) -> None:
        if self._worker is not None:
            self.destroyed.disconnect(self._worker.quit)  # or it would keep every worker
            if self._worker.abort_requested:
                self.say("Cancelled.")
        self._worker = None
        self.button.setText(self._verb)
        self.button.setEnabled(True)
        self.progress.hide()


def progress_text(event: RunProgress) -> str:
    """Say in words how far several runs are."""
    text = (
        f"Run {event.run} of {event.runs}: {event.setting.kept}, {event.setting.scorer}, "
        f"window {min(event.done + 1, event.total)} of {event.total}"
    )
    if event.seconds_left is None:
        return text
    return f"{text}, about {duration(event.seconds_left)} left"
