"""Closing: a dock, with which its widget ends, and napari's window while work goes on.

The window closes after a question, and only once the work has ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from napari.utils.events import EmitterGroup
from qtpy.QtCore import QEvent, QEventLoop, QObject, QTimer
from qtpy.QtWidgets import QMainWindow, QMessageBox, QWidget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import napari

    from napari_tokensparse.widgets.workers import Worker

_LOOK_AGAIN_MS: Final = 200


def end_with_dock(
    widget: QWidget,
    viewer: napari.Viewer,
    *,
    leave: Callable[[], object] = lambda: None,
    is_busy: Callable[[], bool] = lambda: False,
) -> None:
    """Let a widget end once napari has taken it out of its dock, as a click on its cross does.

    napari keeps such a widget, which would go on following the viewer and working, unseen.

    Parameters
    ----------
    widget
        The widget. Hidden by the eye of its dock it goes on.
    viewer
        Whose events it follows.
    leave
        Puts the viewer back.
    is_busy
        Whether work goes on whose result is to be shown all the same: the widget waits for it.
    """
    widget.installEventFilter(_WhenTakenOut(widget, viewer, leave, is_busy))


class _WhenTakenOut(QObject):
    """Ends its parent when that has lost its own, unless it lies in another dock by then."""

    def __init__(
        self,
        widget: QWidget,
        viewer: napari.Viewer,
        leave: Callable[[], object],
        is_busy: Callable[[], bool],
    ) -> None:
        super().__init__(widget)
        self._widget, self._leave, self._is_busy = widget, leave, is_busy
        self._viewer = getattr(viewer, "__wrapped__", viewer)  # a plugin's proxy does not last
        self._looking, self._ending = QTimer(self), QTimer(self)
        self._looking.setSingleShot(True)
        self._looking.timeout.connect(self._look)
        self._ending.setInterval(_LOOK_AGAIN_MS)
        self._ending.timeout.connect(self._end)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Wait for the widget to stand alone."""
        if event is not None and event.type() == QEvent.Type.ParentChange:
            self._looking.start(0)
        return False

    def _look(self) -> None:
        if self._widget.parentWidget() is None and not self._widget.isVisible():
            self._widget.removeEventFilter(self)
            self._leave()
            cut_off(self._viewer, self._widget)
            self._ending.start()
            self._end()

    def _end(self) -> None:
        if not self._is_busy():
            self._ending.stop()
            self._widget.deleteLater()


def cut_off(viewer: napari.Viewer, widget: QWidget) -> None:
    """Let nothing that happens in a viewer call a widget, or a part of it, any more.

    Qt's own signals end with the widget; napari's would call what is deleted.
    """
    parts = {id(part) for part in (widget, *widget.findChildren(QObject))}
    for group in _groups(viewer):
        for emitter in group.emitters.values():
            for callback in emitter.callbacks:
                if isinstance(callback, tuple) and id(callback[0]()) in parts:
                    emitter.disconnect(callback)


def _groups(viewer: napari.Viewer) -> Iterator[EmitterGroup]:
    """Yield all events of a viewer that a widget may follow."""
    layers = viewer.layers
    parts = (viewer, layers, layers.selection, viewer.dims, viewer.scene.camera)
    for part in (*parts, viewer.canvas.grid, *layers):
        if isinstance(part.events, EmitterGroup):
            yield part.events


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
