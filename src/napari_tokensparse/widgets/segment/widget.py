"""The Segment widget: choose an image, a model and a keep ratio; click; see labels and tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Image
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QHBoxLayout,
    QVBoxLayout,
    QWidget,
)

from napari_tokensparse.model.folder import ModelError, describe_folder, is_bundle
from napari_tokensparse.widgets.accessible import name_inputs
from napari_tokensparse.widgets.canvas.context import hold_context
from napari_tokensparse.widgets.classes.opening import open_class_list
from napari_tokensparse.widgets.closing import end_with_dock
from napari_tokensparse.widgets.controls import (
    DeviceCombo,
    LeastConfidence,
    ModelCombo,
    research_note,
)
from napari_tokensparse.widgets.fitting import StatusLine, dock_as_tab, scrolled
from napari_tokensparse.widgets.layers import RESULT_KEY, placement_kwargs
from napari_tokensparse.widgets.patient import show_patient_sides
from napari_tokensparse.widgets.preferences import preferences
from napari_tokensparse.widgets.pruning.rule import PruningControl
from napari_tokensparse.widgets.results import results_of
from napari_tokensparse.widgets.segment.advice import Advice, ExpectsLabel, asking
from napari_tokensparse.widgets.segment.alongside import Alongside, BesideButton
from napari_tokensparse.widgets.segment.autoratio import AutoRatio
from napari_tokensparse.widgets.segment.channels import ChannelCombos
from napari_tokensparse.widgets.segment.estimate import EstimateLabel, Question
from napari_tokensparse.widgets.segment.gains import Gains, ImportanceGains
from napari_tokensparse.widgets.segment.geometry import GeometryFields
from napari_tokensparse.widgets.segment.networks import Networks, written_at
from napari_tokensparse.widgets.segment.preview import LivePreview, Source
from napari_tokensparse.widgets.segment.ready import Ready
from napari_tokensparse.widgets.segment.region import RegionCombo
from napari_tokensparse.widgets.segment.region_masks import RegionMasks
from napari_tokensparse.widgets.segment.run import (
    AgainRequest,
    Lacking,
    Result,
    SegmentRequest,
    run,
)
from napari_tokensparse.widgets.segment.running import Running
from napari_tokensparse.widgets.segment.runs import RunList
from napari_tokensparse.widgets.segment.saving.actions import SaveActions
from napari_tokensparse.widgets.segment.saving.receipts import ReceiptActions
from napari_tokensparse.widgets.segment.scan import Scan, read_scan
from napari_tokensparse.widgets.segment.sources import Sources
from napari_tokensparse.widgets.segment.texts import meanwhile, preview_text, result_text

if TYPE_CHECKING:
    import napari

    from napari_tokensparse.segmenting.autoratio import Trial
    from napari_tokensparse.segmenting.preview import Preview
    from napari_tokensparse.widgets.pruning.choice import Pruning
    from napari_tokensparse.widgets.results import RunAgain


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
        self._request: SegmentRequest | AgainRequest | None = None
        self._networks, self._results = Networks(), results_of(napari_viewer)
        self._preview = LivePreview(napari_viewer, self)
        self._alongside = Alongside(napari_viewer, self)
        self._scan: Scan | None = None
        self._short: tuple[Any, ...] | None = None
        self.estimate = EstimateLabel(self._question, self)
        self.advice = Advice(lambda: (self._read_scan(), self.model.folder()), self)
        self._build()
        self._lay_out()
        self._connect()
        buttons = (self.button, self.beside)
        self.ready = Ready(self.channels, buttons, self.message, lambda: self.running.is_busy, self)
        self._follow_selection()
        self._model_changed()
        self._choose_gains()
        self.placing.show_layers(self.channels.value())  # of what was open before
        self.advice.ask()
        self.live.setChecked(preferences.value().segment.live_preview)
        name_inputs(self)
        hold_context(napari_viewer, self)
        dock_as_tab(self)
        end_with_dock(self, napari_viewer, leave=self._leave, is_busy=lambda: self.running.is_busy)

    def _build(self) -> None:
        self.channels = ChannelCombos(self._scans)
        self.image = self.channels.combos[0]
        self.placing = GeometryFields()
        self.model = ModelCombo()
        self.expects = ExpectsLabel()
        self.pruning = PruningControl(self._viewer)
        self.keep_ratio = self.pruning.keep_ratio
        self.gains = Gains(self.keep_ratio)
        self.counts = ImportanceGains(self.pruning.importance)
        self.auto = AutoRatio(self._in_view)
        self.live = QCheckBox("Live preview")
        self.live.setToolTip(
            "Segment the window in view, or in the middle of the drawn region, again while the "
            "slider moves, at the model's resolution; the labels of the last run are hidden "
            "meanwhile"
        )
        self.sharpen = QCheckBox("Sharpen borders")
        self.sharpen.setToolTip(
            "Let the scan's own voxels decide borders, where their intensities tell classes apart; "
            "the live preview does without"
        )
        self.confidence = QCheckBox("Confidence")
        self.confidence.setToolTip(
            "Add a layer of how probable the winning class is at every voxel, and list the places "
            "where the network is least sure in the Token inspector"
        )
        self.least_confidence = LeastConfidence()
        self.region = RegionCombo(self._viewer)
        self._sources = Sources(self._networks, self.region)
        self.device = DeviceCombo()
        self.runs = RunList(self._viewer, self._alongside, self)
        self.beside = BesideButton(self._alongside, lambda: self.image.value)
        self.masks = RegionMasks(self._viewer, self)
        self.message = StatusLine()
        self.running = Running(self.message, self)
        self.button, self.progress = self.running.button, self.running.progress
        self.save = SaveActions(self._viewer, self)
        self.receipt = ReceiptActions(self._viewer, self)

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.addRow("Image", self.channels)
        form.addRow(self.placing)  # as wide as the dock: it comes and goes, and the dock stays
        form.addRow("Model", self.model)
        form.addRow("", self.expects)
        self.pruning.add_rows(form)
        form.addRow("", self.auto)
        form.addRow("", self.live)
        row = QHBoxLayout()
        for box in (self.sharpen, self.confidence):
            row.addWidget(box)
        form.addRow("", row)
        form.addRow("Least confidence", self.least_confidence)
        self.pruning.add_pin_rows(form)
        form.addRow("Region", self.region)
        form.addRow("Device", self.device)
        layout = QVBoxLayout(scrolled(self, below=research_note()))
        layout.addLayout(form)
        saving = (self.save, self.receipt)
        results = (self.runs, self.beside, self.masks, *saving)
        said = (self.message, self.progress)  # seen without scrolling where the button is
        for widget in (self.estimate, self.advice, self.button, *said, *results):
            layout.addWidget(widget)
        layout.addStretch()

    def _connect(self) -> None:
        self.button.clicked.connect(self._clicked)
        self.model.valueChanged.connect(self._model_changed)
        self.running.received.connect(self._receive)
        self.running.finished.connect(self._finished)
        self.pruning.valueChanged.connect(self._preview_again)
        self.auto.chosen.connect(self._auto_chosen)
        self.gains.follow(self.auto, self.estimate, self._results)
        self.counts.follow(self.estimate, self._results)
        self.channels.valueChanged.connect(self._preview_again)
        self.device.currentTextChanged.connect(lambda _: self._preview_again())
        self.region.valueChanged.connect(self._preview_again)
        self.live.toggled.connect(self._live_toggled)
        preferences.livePreviewChanged.connect(self.live.setChecked)
        self._preview.shown.connect(self._previewed)
        self._preview.failed.connect(self.message.setText)
        for part in (self.save, self.receipt, self.runs, self.auto, self.beside):
            part.said.connect(self.message.setText)
        self._results.keepRatioChosen.connect(self.pruning.set_keep_ratio)
        self._results.importanceChosen.connect(self.pruning.set_importance)
        self._results.pinned.connect(self.pruning.set_pins)
        self._results.runAgain.connect(self._run_again)
        self._results.keepRatiosPreviewed.connect(self._preview_ratios)
        for signal in (
            *(self.model.valueChanged, self.pruning.valueChanged, self.channels.valueChanged),
            *(self.device.currentTextChanged, self.region.valueChanged),
            *(self.sharpen.toggled, self.confidence.toggled, self.least_confidence.valueChanged),
        ):
            signal.connect(lambda *_: self.estimate.ask())
        self.channels.valueChanged.connect(lambda: self.placing.show_layers(self.channels.value()))
        self.placing.changed.connect(self.channels.valueChanged)
        for signal in (self.model.valueChanged, self.channels.valueChanged):
            signal.connect(lambda *_: self.advice.ask())
            signal.connect(lambda *_: self._choose_gains())
        events = self._viewer.layers.events
        for changed in (events.inserted, events.removed, events.renamed):
            changed.connect(self._layers_changed)
        self._viewer.layers.selection.events.active.connect(self._follow_selection)

    def _scans(self) -> list[Image]:
        """List the viewer's images, our own importance maps left out."""
        images = (layer for layer in self._viewer.layers if isinstance(layer, Image))
        return [image for image in images if RESULT_KEY not in image.metadata]

    def _layers_changed(self, _event: Any = None) -> None:
        self.channels.refresh()
        self.ready.check()

    def _follow_selection(self, _event: Any = None) -> None:
        """Choose the scan that the user selects, for a model of one channel."""
        self.channels.refresh()
        active = self._viewer.layers.selection.active
        if len(self.channels.channels) == 1 and active in self._scans():
            self.image.value = active

    def _model_changed(self, _folder: Any = None) -> None:
        folder = self.model.value()
        channels: tuple[str, ...] = ("image",)
        if folder is not None and is_bundle(folder):
            try:
                described = describe_folder(folder, hashed=False)
            except ModelError as error:
                self.message.setText(str(error))
                return
            config, channels = described.config, described.info.channels
            self.expects.say(described.info)
            self.sharpen.setEnabled(described.info.exclusive)
            self.sharpen.setChecked(described.info.sharpen)
            self.least_confidence.show_model(described.info)
            self.pruning.set_network(config)
        self.channels.set_channels(channels)
        self._preview_again()

    def _read_scan(self) -> Scan:
        """Read the chosen layers, unless that was done already."""
        scan, layers = self._scan, self.channels.value()
        if scan is None or not scan.is_of(layers):
            self._scan = scan = read_scan(layers, self.channels.channels)
        return scan

    def _live_toggled(self, live: bool) -> None:
        if live:
            self.message.setText("Preparing the preview …")
            self._preview_again()
        else:
            self._preview.close()

    def _preview_again(self) -> None:
        """Preview what is chosen now."""
        if not self.live.isChecked():
            return
        try:
            source = self._chosen_source()
            pruning = self.pruning.value(source.image, source.volume)
            self._preview.ask(source, self.keep_ratio.value(), pruning)
        except ValueError as error:
            self._preview.close()
            self.message.setText(str(error))

    def _choose_gains(self) -> None:
        folder = self.model.value()
        for known in (self.gains, self.counts):
            known.choose(self.image.value, "" if folder is None else folder.name)

    def _in_view(self) -> tuple[Source, tuple[float, float, float], Pruning]:
        source = self._chosen_source()
        pruning = self.pruning.value(source.image, source.volume)
        return source, self._preview.voxel_of(source), pruning

    def _auto_chosen(self, trial: Trial) -> None:
        if trial.by_importance:
            self.pruning.set_importance(trial.value)
            self.counts.take_preview(trial.preview)
        else:
            self.pruning.set_keep_ratio(trial.value)

    def _chosen_source(self) -> Source:
        return self._sources.of(self._read_scan(), self.model.folder(), self.device.value())

    def _preview_ratios(self, ratios: tuple[float, ...]) -> None:
        """Preview keep ratios, one per stage, of the latest result."""
        latest = self._results.latest
        if latest is None or latest.image not in self._viewer.layers:
            return
        with QSignalBlocker(self.live):
            self.live.setChecked(True)
        source = Source(latest.image, latest.volume, lambda: latest.network)
        self._preview.ask(self._sources.kept((latest,), source), ratios)

    def _previewed(self, preview: Preview) -> None:
        self.gains.take_preview(preview)
        if self.counts.take_preview(preview):
            self.estimate.ask()
        if not self.running.is_busy:
            self.message.setText(preview_text(preview))

    def _clicked(self) -> None:
        if self.running.is_busy:
            self.running.cancel()
            return
        try:
            request = self._read_request()
            repeated = self.channels.repeated()
            said = self.advice.asks_first(request.scan, request.model, repeated)
            if said:
                self.message.setText(said)
            else:
                self._start(request)
        except ValueError as error:
            self.message.setText(str(error))

    def _read_request(self) -> SegmentRequest:
        scan, folder, device = self._read_scan(), self.model.folder(), self.device.value()
        region = self.region.box(scan.layer, scan.volume)
        return SegmentRequest(
            placement_kwargs(scan.layer),
            scan,
            folder,
            written_at(folder),
            self.keep_ratio.value(),
            device,
            region,
            self.sharpen.isChecked(),
            self.confidence.isChecked(),
            self.least_confidence.value(),
            self.pruning.value(scan.layer, scan.volume),
            self._short == (scan, folder, device, region),
        )

    def _question(self) -> Question:
        """Return what a click would run."""
        return Question.of(self._read_request(), self._networks, self.counts.shares())

    def _start(self, request: SegmentRequest | AgainRequest) -> None:
        self.estimate.begin()
        self._request = request
        self.running.start(run, request, self._networks)

    def _run_again(self, again: RunAgain) -> None:
        """Run a result again, as it was but for its options."""
        if self.running.is_busy:
            again.refusal = "A run goes on: wait for its end, or cancel it."
            return
        again.refusal = ""
        self._start(AgainRequest.of(again))

    def _receive(self, event: Result | Lacking) -> None:
        if isinstance(event, Result):
            self._show(event)
        else:
            self._ask_all_the_same(event)

    def _ask_all_the_same(self, lacking: Lacking) -> None:
        asked = self._request
        assert isinstance(asked, SegmentRequest)
        self._short = (asked.scan, asked.model, asked.device, asked.region)
        self.message.setText(asking([lacking.said]))

    def _show(self, result: Result) -> None:
        assert self._request is not None
        request, scan = self._request, self._request.scan
        self._preview.hide()
        said = self.runs.take(request, result)
        show_patient_sides(self._viewer)
        open_class_list(self._viewer, self)
        said += meanwhile(
            scan.layer.name,
            removed=scan.layer not in self._viewer.layers,
            changed=request.is_outdated(),
        )
        self.message.setText(result_text(result.segmentation, [*scan.notes, *said]))
        self.estimate.end(result)

    def _leave(self) -> None:
        """Put the viewer back, and leave what is asked for to the widget that is opened next."""
        self.live.setChecked(False)
        self._alongside.hide()
        self.estimate.stop()
        self.advice.stop()
        preferences.livePreviewChanged.disconnect(self.live.setChecked)
        self._results.runAgain.disconnect(self._run_again)
        self._results.keepRatiosPreviewed.disconnect(self._preview_ratios)

    def _finished(self) -> None:
        self._request = None
        self.estimate.ask()  # of the next click
        self.ready.switch()  # what the run has said stays
