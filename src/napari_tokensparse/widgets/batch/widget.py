"""The Batch widget: segment a folder or a list of scans into files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_tokensparse.manyscans.scans import LABELS_SUFFIX
from napari_tokensparse.model.folder import ModelError, describe_folder, is_bundle
from napari_tokensparse.widgets.accessible import name_inputs
from napari_tokensparse.widgets.batch.control import batch_of
from napari_tokensparse.widgets.batch.log import HEADERS
from napari_tokensparse.widgets.batch.run import BatchRequest
from napari_tokensparse.widgets.canvas.context import hold_context
from napari_tokensparse.widgets.closing import end_with_dock
from napari_tokensparse.widgets.controls import (
    DeviceCombo,
    ModelCombo,
    research_note,
)
from napari_tokensparse.widgets.fitting import dock_as_tab, scrolled
from napari_tokensparse.widgets.layers import class_colours, class_table
from napari_tokensparse.widgets.paths.edit import PathEdit
from napari_tokensparse.widgets.pruning.rule import PruningControl
from napari_tokensparse.widgets.table import Table
from napari_tokensparse.widgets.wrapped import WrappedLabel

if TYPE_CHECKING:
    from pathlib import Path

    import napari

    from napari_tokensparse.common.tables import Cell

_LISTS = "List of scans (*.csv *.tsv)"
_STEPS = 1000
_PLUGIN = "napari-tokensparse"


class BatchWidget(QWidget):
    """Segment many scans; what goes on belongs to the viewer, and this shows it.

    Parameters
    ----------
    napari_viewer
        The viewer whose batch this is, and where single results can be opened.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._batch = batch_of(napari_viewer)
        self._output_follows = True
        self._shown_rows: list[tuple[Cell, ...]] = []
        self._build()
        self._lay_out()
        self._connect()
        self._model_changed()
        self._recall()
        name_inputs(self)
        hold_context(napari_viewer, self)
        dock_as_tab(self)
        end_with_dock(self, napari_viewer)

    def _build(self) -> None:
        self.source = PathEdit("Choose a folder of scans", _LISTS)
        self.source.line.setToolTip(
            "A folder of scans (files, and folders of a DICOM series), or a CSV with a column "
            "image, or one for each channel of the model"
        )
        self.output = PathEdit("Choose a folder for the labels")
        self.output.line.setToolTip(
            "Labels, a receipt each and summary.csv go here; files of yours are never overwritten, "
            "and labels that are there from the same model and settings are not made again"
        )
        self.model, self.pruning = ModelCombo(), PruningControl(self._viewer)
        self.keep_ratio = self.pruning.keep_ratio
        self.sharpen = QCheckBox("Sharpen borders")
        self.sharpen.setToolTip("Let the scans' own voxels decide borders")
        self.device = DeviceCombo()
        self.button = QPushButton("Segment all")
        self.button.setToolTip("Segment every scan into the folder; click again to cancel")
        self.progress = QProgressBar()
        self.progress.setAccessibleName("Progress of the batch")
        self.progress.setRange(0, _STEPS)
        self.message = WrappedLabel()
        self.table = Table("batch")
        self.show_scan = QPushButton("Show scan and labels")
        self.show_scan.setToolTip("Open the scan of the selected row, with its labels")
        self.open_folder = QPushButton("Open folder")
        self.open_folder.setToolTip("Show the folder of the labels in the file manager")

    def _lay_out(self) -> None:
        self.settings = QWidget()
        form = QFormLayout(self.settings)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Scans", self.source)
        form.addRow("Labels to", self.output)
        form.addRow("Model", self.model)
        self.pruning.add_rows(form)
        form.addRow("", self.sharpen)
        form.addRow("Device", self.device)
        below = QHBoxLayout()
        for button in (self.show_scan, self.open_folder):
            below.addWidget(button)
        layout = QVBoxLayout(scrolled(self, below=research_note()))
        layout.addWidget(self.settings)
        for widget in (self.button, self.progress, self.message):
            layout.addWidget(widget)
        layout.addWidget(self.table, stretch=1)
        layout.addLayout(below)

    def _connect(self) -> None:
        self.button.clicked.connect(self._clicked)
        self.source.valueChanged.connect(self._source_changed)
        self.output.edited.connect(self._output_edited)
        self.model.valueChanged.connect(self._model_changed)
        self.table.rowChosen.connect(self._row_chosen)
        self.show_scan.clicked.connect(self._show_scan)
        self.open_folder.clicked.connect(self._open_folder)
        self._batch.changed.connect(self._show)  # Qt lets go of it with the widget

    def _recall(self) -> None:
        """Show the batch that is going on, or the last one, as it was asked for."""
        if self._batch.log is not None:
            asked = self._batch.log.request
            self.output.setValue(asked.folder)
            self._output_follows = False
            self.source.line.setText(asked.source)
            self.model.setValue(asked.model)
            self.keep_ratio.setValue(asked.keep_ratio)
            if asked.importance is not None:
                self.pruning.set_importance(asked.importance)
            self.sharpen.setChecked(bool(asked.sharpen))
            self.device.setValue(asked.device)
        self._show()

    def _source_changed(self) -> None:
        """Let the folder of the labels follow the scans until a person gives one."""
        source = self.source.value()
        if self._output_follows:
            if source is not None and not source.name:  # "/", while a path is being typed
                source = None
            self.output.setValue(source and source.with_name(f"{source.stem}-labels"))

    def _output_edited(self) -> None:
        self._output_follows = False

    def _model_changed(self, _folder: Path | None = None) -> None:
        folder = self.model.value()
        if folder is None or not is_bundle(folder):
            return
        try:
            described = describe_folder(folder, hashed=False)
        except ModelError as error:
            self.message.setText(str(error))
            return
        info = described.info
        self.pruning.set_network(described.config)
        self.sharpen.setEnabled(info.exclusive)
        self.sharpen.setChecked(info.sharpen)

    def _clicked(self) -> None:
        if self._batch.is_busy:
            self._batch.cancel()
            return
        try:
            self._batch.start(self._request(), self)
        except ValueError as error:
            self.message.setText(str(error))

    def _request(self) -> BatchRequest:
        source, folder = self.source.value(), self.output.value()
        if source is None:
            raise ValueError("No scans: choose a folder or a list of scans.")
        if folder is None:
            raise ValueError("No folder for the labels: choose one.")
        model = self.model.folder()
        sharpen = self.sharpen.isChecked() if self.sharpen.isEnabled() else None
        ratio, device = self.keep_ratio.value(), self.device.value()
        least = self.pruning.least
        return BatchRequest(str(source), folder, model, ratio, sharpen, device, least)

    def _show(self) -> None:
        """Show how far the batch is."""
        batch, log = self._batch, self._batch.log
        self.settings.setEnabled(not batch.is_busy)
        self.button.setText("Cancel" if batch.is_busy else "Segment all")
        self.button.setEnabled(not batch.is_cancelling)
        self.progress.setVisible(batch.is_busy)
        self.open_folder.setEnabled(log is not None and log.request.folder.is_dir())
        if log is None:
            self._show_rows([])
            return
        self.progress.setRange(0, _STEPS if log.share is not None else 0)
        self.progress.setValue(round(_STEPS * (log.share or 0.0)))
        cancelling = batch.is_cancelling
        self.message.setText("Cancelling after this window …" if cancelling else log.status)
        self._show_rows(log.rows())

    def _show_rows(self, rows: list[tuple[Cell, ...]]) -> None:
        if rows != self._shown_rows or not rows:
            self.table.show_rows(HEADERS, rows)
            self._shown_rows = rows
        self.show_scan.setEnabled(self._chosen() is not None)

    def _row_chosen(self, _place: int) -> None:
        self.show_scan.setEnabled(self._chosen() is not None)

    def _chosen(self) -> tuple[list[Path], Path] | None:
        """Return the files and the labels of the selected row; None where it has no labels."""
        row, log = self.table.currentRow(), self._batch.log
        item = self.table.item(row, 0) if row >= 0 else None
        result = None if item is None or log is None else log.results.get(item.text())
        if log is None or result is None or result.receipt is None:
            return None
        case = result.case
        labels = log.request.folder / (case.labels or f"{case.name}{LABELS_SUFFIX}")
        return [file for _, file in case.files], labels

    def _show_scan(self) -> None:
        chosen = self._chosen()
        if chosen is None:
            return
        files, labels = chosen
        for file in files:
            self._viewer.open(file, plugin=_PLUGIN)
        layers = self._viewer.open(labels, plugin=_PLUGIN, layer_type="labels")
        assert self._batch.log is not None  # or nothing could be chosen
        try:
            info = describe_folder(self._batch.log.request.model, hashed=False).info
        except ModelError:
            return  # it is gone by now: napari's own colours stay
        for layer in layers:
            layer.features, layer.colormap = class_table(info), class_colours(info)

    def _open_folder(self) -> None:
        if self._batch.log is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._batch.log.request.folder)))
