"""The batch of a viewer: it goes on while no widget shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from qtpy.QtCore import (  # type: ignore[attr-defined]  # Signal is renamed by qtpy
    QObject,
    Signal,
)

from napari_tokensparse.manyscans.scans import said_of
from napari_tokensparse.widgets.batch.log import BatchLog
from napari_tokensparse.widgets.batch.run import BatchRequest, batch
from napari_tokensparse.widgets.closing import CloseGuard, ClosingTexts
from napari_tokensparse.widgets.workers import Worker, in_thread

if TYPE_CHECKING:
    import napari
    from qtpy.QtWidgets import QWidget

_CLOSING = ClosingTexts(
    "A batch is going on. Cancel it and close?",
    "It stops after this window. Labels that are written stay, and the same batch goes on with the "
    "others another time.",
    "Cancel and close",
    "Keep going",
)


class Batch(QObject):
    """Runs one batch at a time, and knows how far the last one is."""

    changed = Signal()
    """There is something new to show."""

    def __init__(self) -> None:
        super().__init__()
        self.log: BatchLog | None = None
        self._worker: Worker | None = None
        self._guard = CloseGuard(_CLOSING, lambda: self._worker, self.cancel, self)

    @property
    def is_busy(self) -> bool:
        """Whether work goes on."""
        return self._worker is not None

    @property
    def is_cancelling(self) -> bool:
        """Whether work ends after this window."""
        return self._worker is not None and bool(self._worker.abort_requested)

    def start(self, request: BatchRequest, widget: QWidget) -> None:
        """Begin a batch; the window that a widget lies in asks before it closes."""
        self.log = BatchLog(request)
        self._worker = in_thread(batch, request, failed=self._failed)
        self._worker.yielded.connect(self._receive)
        self._worker.finished.connect(self._finished)
        self._guard.watch(widget)
        self._worker.start()
        self.changed.emit()

    def cancel(self) -> None:
        """End after this window; the labels that are written stay."""
        if self._worker is not None:
            self._worker.quit()
            self.changed.emit()

    def _receive(self, event: Any) -> None:
        assert self.log is not None  # there is a worker
        self.log.receive(event)
        self.changed.emit()

    def _failed(self, error: BaseException) -> None:
        assert self.log is not None  # there is a worker
        self.log.fail(said_of(error))

    def _finished(self) -> None:
        if self.is_cancelling and self.log is not None:
            self.log.cancel()
        self._guard.release()
        self._worker = None
        self.changed.emit()


_BATCHES: WeakKeyDictionary[napari.Viewer, Batch] = WeakKeyDictionary()


def batch_of(viewer: napari.Viewer) -> Batch:
    """Return the batch of a viewer."""
    # napari gives every plugin widget a proxy of its own, which lives no longer than the widget.
    return _BATCHES.setdefault(getattr(viewer, "__wrapped__", viewer), Batch())
