"""Closing napari's window while work goes on: asked first, and only once the work has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QEventLoop, QObject
from qtpy.QtWidgets import QMainWindow, QMessageBox, QWidget

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_tokensparse.widgets.workers import Worker


@dataclass(frozen=True)
class ClosingTexts:
    """What a person is asked.

    Attributes
    ----------
    question, details
        Whether to stop, and what that means.
    stop, go_on
        The two buttons.
    """

    question: str
    details: str
    stop: str
    go_on: str


class CloseGuard(QObject):
    """Watches a window while a worker runs.

    Parameters
    ----------
    texts
        What is asked.
    worker
        Returns the worker, or None where none runs.
    stop
        Asks it to stop.
    parent
        Qt parent.
    """

    def __init__(
        self,
        texts: ClosingTexts,
        worker: Callable[[], Worker | None],
        stop: Callable[[], None],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._texts, self._worker, self._stop = texts, worker, stop
        self._window: QWidget | None = None
        self.closing = False
        """Whether the window is about to close."""

    def watch(self, widget: QWidget) -> None:
        """Watch the window that a person closes: napari's, also while a dock floats."""
        self.release()
        self._window = window_of(widget)
        self._window.installEventFilter(self)

    def release(self) -> None:
        """Let the window close."""
        if self._window is not None:
            self._window.removeEventFilter(self)
        self._window = None

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Ask before the window closes."""
        if event is None or event.type() != QEvent.Type.Close or self._may_close():
            return super().eventFilter(watched, event)
        event.ignore()
        return True

    def _may_close(self) -> bool:
        worker = self._worker()
        if worker is None:
            return True
        box = QMessageBox(self._window)
        box.setIcon(QMessageBox.Icon.Question)
        box.setText(self._texts.question)
        box.setInformativeText(self._texts.details)
        stop = box.addButton(self._texts.stop, QMessageBox.ButtonRole.AcceptRole)
        box.addButton(self._texts.go_on, QMessageBox.ButtonRole.RejectRole)
        box.exec()
        if box.clickedButton() is not stop:
            return False
        self.closing = True
        self._stop()
        if self._worker() is not None:  # else it ended while the question stood
            loop = QEventLoop()
            worker.finished.connect(loop.quit)
            loop.exec()
        return True


def window_of(widget: QWidget) -> QWidget:
    """Return napari's main window that a widget lies in, or else the widget's own window."""
    parent = widget.parentWidget()
    while parent is not None and not isinstance(parent, QMainWindow):
        parent = parent.parentWidget()
    return parent or widget.window() or widget
