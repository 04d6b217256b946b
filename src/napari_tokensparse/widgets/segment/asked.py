"""A line that answers, in a thread, what is chosen now, once nothing has changed for a moment."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QLabel, QWidget

from napari_tokensparse.widgets.workers import Worker, in_thread

if TYPE_CHECKING:
    from collections.abc import Callable


class AskedLabel(QLabel):
    """Answers a question in a thread; a newer one stops it.

    Parameters
    ----------
    choose
        Returns what is asked now; a ``ValueError`` where that is nothing.
    answer
        Answers that in the thread, as a function or as a generator that yields None now and then
        and then the answer; it touches no widget.
    delay_ms
        How long nothing must have changed before the answer is sought.
    parent
        Qt parent.
    """

    def __init__(
        self,
        choose: Callable[[], Any],
        answer: Callable[[Any], Any],
        delay_ms: int,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._choose, self._answer = choose, answer
        self._worker: Worker | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(delay_ms)
        self._timer.timeout.connect(self._begin)
        self.setWordWrap(True)

    def ask(self) -> None:
        """Answer what is chosen, in a moment."""
        self.stop()
        self._timer.start()

    def ask_again(self) -> None:
        """Answer what is chosen once more; what was said stays until then."""
        if self._worker is None and not self._timer.isActive():
            with suppress(ValueError):
                self._start(self._choose())

    def stop(self) -> None:
        """Say nothing, and leave the machine to others."""
        self._timer.stop()
        self.show_answer(None)
        if self._worker is not None:
            self._worker.quit()

    def show_waiting(self) -> None:
        """Say that the answer is sought."""

    def show_answer(self, answer: Any) -> None:
        """Show an answer, or nothing for None."""
        self.setText("" if answer is None else str(answer))

    def _begin(self) -> None:
        if self._worker is not None:  # it is about to stop
            self._timer.start()
            return
        try:
            question = self._choose()
        except ValueError:
            return  # a click says what is missing
        self.show_waiting()
        self._start(question)

    def _start(self, question: Any) -> None:
        self._worker = in_thread(self._answer, question, failed=self._fail)
        for signal in (self._worker.yielded, self._worker.returned):
            signal.connect(self._receive)
        self._worker.finished.connect(self._finish)
        self.destroyed.connect(self._worker.quit)
        self._worker.start()

    def _receive(self, answer: Any) -> None:
        if answer is not None and self._worker is not None and not self._worker.abort_requested:
            self.show_answer(answer)

    def _fail(self, _error: BaseException) -> None:
        self.show_answer(None)  # a run says the same

    def _finish(self) -> None:
        if self._worker is not None:
            self.destroyed.disconnect(self._worker.quit)  # or it would keep every worker
        self._worker = None
