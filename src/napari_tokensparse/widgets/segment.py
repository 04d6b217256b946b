"""The Segment widget: choose an image, a model and a keep ratio; click; see labels and tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from magicgui.widgets import ComboBox
from napari.layers import Image
from napari.qt.threading import create_worker
from qtpy.QtWidgets import (
    QFormLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_tokensparse.data.placement import NOTE_FOREIGN_LAYER, volume_from_layer_data
from napari_tokensparse.model.folder import WEIGHTS, ModelError, describe_folder, is_bundle
from napari_tokensparse.widgets.controls import (
    DeviceCombo,
    KeepRatioSlider,
    ModelCombo,
    research_note,
)
from napari_tokensparse.widgets.importing import IMPORTING
from napari_tokensparse.widgets.layers import (
    RESULT_KEY,
    placement_kwargs,
    result_layers,
    show_layers,
)
from napari_tokensparse.widgets.patient import show_patient_sides

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import napari
    from napari.qt.threading import GeneratorWorker

    from napari_tokensparse.data.volume import Volume
    from napari_tokensparse.engine.infer import Progress, Segmentation
    from napari_tokensparse.model.scd import SCD

    Version: TypeAlias = tuple[Path, int]


@dataclass(frozen=True, eq=False)
class Request:
    """One click on Segment: everything the run needs, read off the widget once."""

    image_name: str
    placement: dict[str, Any]
    volume: Volume
    orientation_known: bool
    model: Path
    keep_ratio: float
    device: str


@dataclass(frozen=True, eq=False)
class Result:
    """What a run ends with."""

    segmentation: Segmentation
    network: SCD
    version: Version


class SegmentWidget(QWidget):
    """Segment an image layer with a token-sparse model.

    Parameters
    ----------
    napari_viewer
        The viewer whose layers are segmented.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._worker: GeneratorWorker[Any, Any, Any] | None = None
        self._request: Request | None = None
        self._networks: dict[Version, SCD] = {}
        self._build()
        self._model_changed()

    def _build(self) -> None:
        self.image = ComboBox(choices=lambda _: self._scans())
        self.model = ModelCombo()
        self.keep_ratio = KeepRatioSlider()
        self.device = DeviceCombo()
        self.button = QPushButton("Segment")
        self.progress = QProgressBar()
        self.progress.hide()
        self.message = QLabel()
        self.message.setWordWrap(True)
        form = QFormLayout()
        form.addRow("Image", self.image.native)
        form.addRow("Model", self.model)
        form.addRow("Keep ratio", self.keep_ratio)
        form.addRow("Device", self.device)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        for widget in (self.button, self.progress, self.message):
            layout.addWidget(widget)
        layout.addStretch()
        layout.addWidget(research_note())
        self.button.clicked.connect(self._clicked)
        self.model.valueChanged.connect(self._model_changed)
        self._viewer.layers.events.inserted.connect(self._layers_changed)
        self._viewer.layers.events.removed.connect(self._layers_changed)
        self._viewer.layers.selection.events.active.connect(self._follow_selection)
        self._follow_selection()

    def _scans(self) -> list[Image]:
        """List the viewer's images, our own importance maps left out."""
        images = (layer for layer in self._viewer.layers if isinstance(layer, Image))
        return [image for image in images if RESULT_KEY not in image.metadata]

    def _layers_changed(self, _event: Any = None) -> None:
        self.image.reset_choices()

    def _follow_selection(self, _event: Any = None) -> None:
        """Choose the scan that the user selects."""
        self.image.reset_choices()
        active = self._viewer.layers.selection.active
        if active in self._scans():
            self.image.value = active

    def _model_changed(self, _folder: Any = None) -> None:
        folder = self.model.value()
        if folder is None or not is_bundle(folder):
            return
        try:
            config = describe_folder(folder).config
        except ModelError as error:
            self.message.setText(str(error))
            return
        self.keep_ratio.set_network(config.stages, math.prod(config.grid))
        self.keep_ratio.setValue(config.keep_ratio[0] if config.keep_ratio else 1.0)

    def _clicked(self) -> None:
        if self._worker is not None:
            self._cancel()
            return
        try:
            self._start(self._read_request())
        except ValueError as error:
            self.message.setText(str(error))

    def _read_request(self) -> Request:
        layer = self.image.value
        if layer is None:
            raise ValueError("No image: open a volume, then choose it here.")
        if layer.rgb:
            raise ValueError(f"{layer.name}: is a colour image; choose a 3-D scan, one channel")
        folder = self.model.value()
        if folder is None:
            raise ValueError("No model: choose a model folder with Browse.")
        volume, known = volume_from_layer_data(
            layer.data[0] if layer.multiscale else layer.data,
            layer.scale,
            layer.translate,
            layer.metadata,
            layer.name,
        )
        return Request(
            layer.name,
            placement_kwargs(layer),
            volume,
            known,
            folder,
            self.keep_ratio.value(),
            self.device.value(),
        )

    def _start(self, request: Request) -> None:
        self._request = request
        self._worker = create_worker(_run, request, dict(self._networks), _ignore_errors=True)
        self._worker.yielded.connect(self._receive)
        self._worker.errored.connect(self._failed)
        self._worker.finished.connect(self._finished)
        self.destroyed.connect(self._worker.quit)
        self.button.setText("Cancel")
        self.message.setText("Loading the model …")
        self.progress.setRange(0, 0)  # busy: no window is done yet
        self.progress.show()
        self._worker.start()

    def _cancel(self) -> None:
        if self._worker is not None:
            self._worker.quit()
            self.button.setEnabled(False)
            self.message.setText("Cancelling after this window …")

    def _receive(self, event: Progress | Result) -> None:
        if self._worker is None or self._worker.abort_requested:
            return
        if isinstance(event, Result):
            self._show(event)
        else:
            self._show_progress(event)

    def _show_progress(self, event: Progress) -> None:
        self.message.setText(progress_text(event))
        if event.done:
            self.progress.setRange(0, event.total)
            self.progress.setValue(event.done)

    def _show(self, result: Result) -> None:
        assert self._request is not None and result.network.info is not None
        request = self._request
        self._networks = {result.version: result.network}
        specs = result_layers(
            request.image_name,
            request.placement,
            request.volume,
            result.segmentation,
            result.network.info,
        )
        show_layers(self._viewer, specs)
        show_patient_sides(self._viewer)
        self.message.setText(result_text(result.segmentation, request.orientation_known))

    def _failed(self, error: BaseException) -> None:
        self.message.setText(str(error) or type(error).__name__)

    def _finished(self) -> None:
        if self._worker is not None and self._worker.abort_requested:
            self.message.setText("Cancelled.")
        self._worker = None
        self._request = None
        self.button.setText("Segment")
        self.button.setEnabled(True)
        self.progress.hide()


def progress_text(event: Progress) -> str:
    """Say in words how far a run is."""
    text = f"Window {min(event.done + 1, event.total)} of {event.total}"
    if event.seconds_left is None:
        return text
    return f"{text}, about {event.seconds_left:.0f} s left"


def result_text(result: Segmentation, orientation_known: bool) -> str:
    """Say in words what a run gave."""
    stats = result.stats
    kept, processed = stats.tokens["kept"], stats.tokens["processed"]
    text = (
        f"Done in {stats.seconds['total']:.1f} s: {kept} of {processed} tokens reached the end "
        f"({stats.windows} window{'s' * (stats.windows != 1)}, {stats.skipped} of background "
        "skipped)."
    )
    return text if orientation_known else f"{text}\nNote: {NOTE_FOREIGN_LAYER}."


def _version(folder: Path) -> Version:
    """Tell a model from the same folder's earlier ones: it may be trained further meanwhile."""
    weights = folder / WEIGHTS
    return folder, weights.stat().st_mtime_ns if weights.is_file() else 0


def _run(request: Request, networks: dict[Version, SCD]) -> Iterator[Progress | Result]:
    """Load the model and segment, in the worker's thread; touches no widget."""
    with IMPORTING:
        from napari_tokensparse.engine.infer import Progress, choose_device, segmenting
        from napari_tokensparse.model.checkpoints import load_model

    device = choose_device(request.device)
    version = _version(request.model)
    network = networks.get(version) or load_model(request.model)
    for event in segmenting(request.volume, network, request.keep_ratio, device=device):
        yield event if isinstance(event, Progress) else Result(event, network, version)
