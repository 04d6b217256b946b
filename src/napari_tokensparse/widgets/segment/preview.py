"""The live preview: one window, segmented again while the keep ratio or the view changes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import (  # type: ignore[attr-defined]  # Signal is renamed by qtpy
    QObject,
    QTimer,
    Signal,
)

from napari_tokensparse.segmenting.concerns import concerns
from napari_tokensparse.volumes.placement import shown_placement
from napari_tokensparse.widgets.importing import IMPORTING
from napari_tokensparse.widgets.layers import (
    LABELS,
    RESULT_KEY,
    placement_kwargs,
    warned,
    window_layer,
)
from napari_tokensparse.widgets.pruning.choice import BY_SHARE, Pruning
from napari_tokensparse.widgets.segment.viewpoint import ViewPoint
from napari_tokensparse.widgets.showing import show_layers
from napari_tokensparse.widgets.workers import Worker, in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari
    from napari.layers import Image, Layer

    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.segmenting.preview import Preview, PreviewSession
    from napari_tokensparse.volumes.region import Box
    from napari_tokensparse.volumes.volume import Volume


COMPARE_MS = 400
"""How long nothing must have changed before a window is run without pruning, to compare."""


@dataclass(frozen=True, eq=False)
class Source:
    """What is previewed.

    Attributes
    ----------
    image
        The layer.
    volume
        Its voxels.
    network
        Gives the network, in the thread of the preview.
    voxel
        (i, j, k) to look at instead of the viewer's point.
    """

    image: Image
    volume: Volume
    network: Callable[[], SCD]
    voxel: tuple[float, float, float] | None = None


@dataclass(frozen=True, eq=False)
class _Request:
    number: int
    source: Source
    voxel: tuple[float, float, float]
    keep_ratio: float | tuple[float, ...]
    pruning: Pruning
    compared: bool = False


@dataclass(frozen=True, eq=False)
class _Answer:
    request: _Request
    session: PreviewSession
    preview: Preview
    warnings: tuple[str, ...]


class LivePreview(QObject):
    """Segments the window that a person looks at, in a thread, and shows it as ``<image> preview``.

    One request is worked on at a time, and after it the latest. Requests carry a number that goes
    up with every other image, model or window; an answer of an earlier number is dropped. So the
    preview follows a slider that is being dragged, and never shows what is no longer looked at.
    Once nothing changes, the window is run without pruning too, and previews say how far they agree
    with that.

    Parameters
    ----------
    viewer
        The viewer to show it in.
    parent
        Qt parent.
    """

    shown = Signal(object)
    """A `Preview` is in the canvas."""
    failed = Signal(str)
    """What was asked for cannot be had; one plain line says why."""

    def __init__(self, viewer: napari.Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer, self._point = viewer, ViewPoint(viewer, self)
        self._number = 0
        self._wanted: _Request | None = None
        self._sent: _Request | None = None
        self._worker: Worker | None = None
        self._session: PreviewSession | None = None
        self._warnings: tuple[str, ...] = ()
        self._layer: Layer | None = None
        self._window: tuple[PreviewSession, Box] | None = None
        self._hidden: list[Layer] = []
        self._quiet = QTimer(self)
        self._quiet.setSingleShot(True)
        self._quiet.setInterval(COMPARE_MS)
        self._quiet.timeout.connect(self._compare)
        self._point.moved.connect(self._follow)
        viewer.layers.events.removed.connect(self._removed)

    def ask(
        self,
        source: Source,
        keep_ratio: float | tuple[float, ...],
        pruning: Pruning = BY_SHARE,
    ) -> None:
        """Show the window that is looked at, at one keep ratio or one per stage, or otherwise."""
        if self._wanted is None or self._wanted.source is not source:
            self._number += 1
        voxel = self.voxel_of(source)
        self._wanted = _Request(self._number, source, voxel, keep_ratio, pruning)
        self._send()

    def hide(self) -> None:
        """Take the preview out of the canvas until it is asked for again."""
        self._number += 1
        self._wanted = None
        if self._layer is not None:
            self._viewer.layers.remove(self._layer)

    def close(self) -> None:
        """Hide the preview, and forget what was kept of its window."""
        self.hide()
        self._session = self._window = self._sent = None

    def voxel_of(self, source: Source) -> tuple[float, float, float]:
        """Return the voxel (i, j, k) that is looked at; it may lie beside the volume."""
        if source.voxel is not None:
            return source.voxel
        shown = source.image.world_to_data(self._point.value())[-3:]
        volume = source.volume
        return shown_placement(volume).to_file(shown, volume.shape)

    def _follow(self) -> None:
        """Ask for the window that is looked at now."""
        if self._wanted is None:
            return
        before, voxel = self._wanted, self.voxel_of(self._wanted.source)
        if self._same_window(before, voxel):
            return
        self._number += 1
        self._wanted = replace(before, number=self._number, voxel=voxel)
        self._send()

    def _same_window(self, before: _Request, voxel: tuple[float, float, float]) -> bool:
        session = self._session
        if session is None or session.volume is not before.source.volume:
            return False  # where its windows lie is not known yet
        return session.window_at(voxel) == session.window_at(before.voxel)

    def _send(self) -> None:
        if self._worker is not None or self._wanted is self._sent or self._wanted is None:
            return
        self._sent = self._wanted
        self._worker = in_thread(
            _answer, self._sent, self._session, self._warnings, failed=self._fail
        )
        self._worker.returned.connect(self._receive)
        self._worker.finished.connect(self._finish)
        self._worker.start()

    def _receive(self, answer: _Answer) -> None:
        if self._wanted is not None:
            self._session, self._warnings = answer.session, answer.warnings
        if answer.request.number == self._number:
            self._show(answer)
            if answer.preview.agreement is None:
                self._quiet.start()

    def _compare(self) -> None:
        """Ask once more, to be told how far it agrees."""
        if self._wanted is not None and self._wanted is self._sent:
            self._wanted = replace(self._wanted, compared=True)
            self._send()

    def _fail(self, error: BaseException) -> None:
        if self._sent is not None and self._sent.number == self._number:
            self.failed.emit(str(error) or type(error).__name__)

    def _finish(self) -> None:
        self._worker = None
        self._send()

    def _show(self, answer: _Answer) -> None:
        source, info = answer.request.source, answer.session.model.info
        image = source.image
        place = warned(placement_kwargs(image), answer.warnings)
        spec = window_layer(image.name, place, source.volume, answer.preview, info)
        if self._layer is not None and not self._layer.name.startswith(spec.name):
            self._viewer.layers.remove(self._layer)
        window = (answer.session, answer.preview.box)
        if self._layer is not None and self._window == window:
            self._layer.data = spec.data  # the rest is as it was, and would take long to set
        else:
            (change,) = show_layers(self._viewer, [spec])
            if self._layer is None:
                self._layer = change.layer
                self._hide_labels(image)
        self._window = window
        self.shown.emit(answer.preview)

    def _hide_labels(self, image: Image) -> None:
        """Hide the labels of the last run: what the preview leaves out would shine through."""
        for layer in self._viewer.layers:
            ours = layer.metadata.get(RESULT_KEY) == LABELS and layer.name.startswith(image.name)
            if ours and layer.visible:
                layer.visible = False
                self._hidden.append(layer)

    def _removed(self, event: Any) -> None:
        """End with the image, and show the labels again once the preview is gone."""
        if self._wanted is not None and event.value is self._wanted.source.image:
            self.close()
        if event.value is self._layer:
            self._layer = None
            while self._hidden:
                self._hidden.pop().visible = True


def _answer(
    request: _Request, session: PreviewSession | None, warnings: tuple[str, ...]
) -> _Answer:
    """Segment the window, in the worker's thread; touches no widget."""
    with IMPORTING:
        from napari_tokensparse.segmenting.preview import PreviewSession

    volume, model = request.source.volume, request.source.network()
    if session is None or session.volume is not volume or session.model is not model:
        session = PreviewSession(volume, model, request.voxel)
        warnings = concerns(volume, model.info)
    session.move_to(request.voxel)
    if request.compared:
        session.reference()
    rule, pins = request.pruning.of_session(session)
    preview = session.update(request.keep_ratio if rule is None else rule, pins)
    return _Answer(request, session, preview, warnings)
