"""What a training run is asked for: the Train widget's form."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal  # type: ignore[attr-defined]  # renamed by qtpy
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QSpinBox, QWidget

from napari_tokensparse.model.folder import user_models_folder
from napari_tokensparse.model.hub import model_folder
from napari_tokensparse.training.folder import FOLDER, RUN_FILE, STATE_FILE
from napari_tokensparse.training.runconfig import RunConfig
from napari_tokensparse.widgets.controls import DeviceCombo, ModelCombo
from napari_tokensparse.widgets.paths.edit import PathEdit
from napari_tokensparse.widgets.pruning.sliders import KeepRangeSlider
from napari_tokensparse.widgets.train.classes import Classes, ClassesEdit
from napari_tokensparse.widgets.train.data_source import DataSource, FileSource, LayerSource
from napari_tokensparse.widgets.train.fields import Length, LengthEdit
from napari_tokensparse.widgets.train.run import LayerPair, TrainRequest, layer_pair

if TYPE_CHECKING:
    from pathlib import Path

    import napari

KEEP_RANGES = {"auto": (0.1, 1.0), "btcv": (0.1, 0.1), "brats": (0.25, 0.25)}
"""The recipes and their own keep ratios, as the slider shows them."""
RECIPES = tuple(KEEP_RANGES)
SIZES = ("auto", "nano", "small", "base", "paper")


class TrainSettings(QWidget):
    """Data, recipe, network, length, device and model folder.

    Parameters
    ----------
    viewer
        Whose layers can be trained on.
    parent
        Qt parent.
    """

    outputChanged = Signal()

    def __init__(self, viewer: napari.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._output_follows = True
        self.source = DataSource(viewer)
        self.classes = ClassesEdit()
        self.skip_bad = QCheckBox("Skip bad cases")
        self.start_from = ModelCombo(nothing="random weights")
        self.recipe, self.network_size = QComboBox(), QComboBox()
        self.recipe.addItems(RECIPES)
        self.network_size.addItems(SIZES)
        self.keep_range = KeepRangeSlider()
        self.length = LengthEdit()
        self.device = DeviceCombo()
        self.processes = QSpinBox()
        self.processes.setRange(1, 64)
        self.output = PathEdit("Choose a folder for the model")
        self._lay_out()
        self._explain()
        self.source.valueChanged.connect(self._source_changed)
        self.output.edited.connect(self._output_edited)
        self.recipe.currentTextChanged.connect(self._recipe_changed)
        self.start_from.valueChanged.connect(self._start_changed)
        self.output.valueChanged.connect(self.outputChanged)
        self._source_changed()

    def _lay_out(self) -> None:
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Data", self.source)
        form.addRow("", self.skip_bad)
        form.addRow("Classes", self.classes)
        form.addRow("Start from", self.start_from)
        form.addRow("Recipe", self.recipe)
        form.addRow("Network size", self.network_size)
        form.addRow("Keep ratios", self.keep_range)
        form.addRow("Train for", self.length)
        form.addRow("Device", self.device)
        form.addRow("Processes", self.processes)
        form.addRow("Model folder", self.output)

    def _explain(self) -> None:
        """Say what each choice does."""
        tips = {
            self.skip_bad: "Train without the cases that cannot be used, which the report lists",
            self.start_from.combo: "Random weights, or a model to train further on your data: its "
            "network, spacing and intensities are taken over, and its classes where yours are the "
            "same",
            self.recipe: "auto chooses by your data and this machine; btcv and brats are the "
            "paper's, for a GPU and days",
            self.network_size: "Width of the network: larger learns more from many cases, and "
            "takes longer; auto chooses by this machine",
            self.processes: "Each takes one volume of a step; use one for each GPU",
        }
        for widget, tip in tips.items():
            widget.setToolTip(tip)

    def value(self) -> RunConfig:
        """Return the run that is asked for.

        Raises
        ------
        ValueError
            In one plain line, where data or model folder is missing, or a class has no name.
        """
        source, length, processes = self.source.value(), self.length.value(), self.processes.value()
        files = source if isinstance(source, FileSource) else FileSource()
        start, classes = self.start_from.value(), self.classes.value()
        return RunConfig(
            data=files.data,
            labels=files.labels,
            output=self._output(),
            recipe=self.recipe.currentText(),  # type: ignore[arg-type]  # the combo has no other
            size="auto" if start else self.network_size.currentText(),
            start_from=None if start is None else str(start),
            keep_range=self._keep_range(),
            epochs=length.epochs,
            max_minutes=length.minutes,
            device=self.device.value(),
            processes=processes,
            skip_bad=self.skip_bad.isChecked(),
            zero_is_unlabelled=source.zero_is_unlabelled,
            class_names=classes.names,
            background=classes.background,
        )

    def setValue(self, config: RunConfig) -> None:
        """Show a run; one on layers keeps the layers that are chosen."""
        if config.data is not None:
            zero = config.zero_is_unlabelled
            self.source.setValue(FileSource(config.data, config.labels, zero))
        self.recipe.setCurrentText(config.recipe)
        self._recipe_changed(config.recipe)
        start = config.start_from
        self.start_from.setValue(None if start is None else model_folder(start))
        self.classes.setValue(Classes(dict(config.class_names), config.background))
        self.network_size.setCurrentText(config.size)
        if config.keep_range is not None:
            self.keep_range.setValue(config.keep_range)
        self.length.setValue(Length(config.epochs, config.max_minutes))
        self.device.setValue(config.device)
        self.processes.setValue(config.processes)
        self.skip_bad.setChecked(config.skip_bad)
        self.output.setValue(config.output)
        self._output_follows = False

    def choose_output(self, folder: Path) -> None:
        """Write to another folder, from now on as if a person had chosen it."""
        self.output.setValue(folder)
        self._output_follows = False

    def request(self) -> TrainRequest:
        """Return the run that is asked for, with its layers read.

        Raises
        ------
        ValueError
            In one plain line, where something is missing or does not fit.
        """
        source = self.source.value()
        if isinstance(source, FileSource) and source.data is None:
            raise ValueError("No data: choose a folder, a dataset.json or open layers.")
        config = self.value()
        return TrainRequest(config, self._layers(config))

    def resumed(self) -> TrainRequest:
        """Return the run of the model folder, to go on as it began.

        Only device and processes are those chosen now, and the length where one is given.

        Raises
        ------
        ValueError
            In one plain line, where something is missing or does not fit.
        """
        folder, length = self._output(), self.length.value()
        now = {"output": folder, "device": self.device.value(), "processes": self.processes.value()}
        if length != Length():
            now |= {"epochs": length.epochs, "max_minutes": length.minutes}
        config = RunConfig.read(folder / FOLDER / RUN_FILE).model_copy(update=now)
        return TrainRequest(config, self._layers(config), resume=True)

    def can_resume(self) -> bool:
        """Whether the model folder holds a run to go on with."""
        folder = self.output.value()
        return folder is not None and (folder / FOLDER / STATE_FILE).is_file()

    def _layers(self, config: RunConfig) -> tuple[LayerPair, ...]:
        if config.data is not None:
            return ()
        source = self.source.value()
        if not isinstance(source, LayerSource) or not source.pairs:
            raise ValueError("No layers: choose an image and its labels under Open layers.")
        if config.processes > 1:
            raise ValueError(
                f"processes {config.processes}: open layers are trained on by 1; save them as files"
            )
        return tuple(layer_pair(image, labels) for image, labels in source.pairs)

    def _keep_range(self) -> tuple[float, float] | None:
        """Return what the slider shows; None while it shows the recipe's own range."""
        shown = self.keep_range.value()
        return None if shown == KEEP_RANGES[self.recipe.currentText()] else shown

    def _start_changed(self, folder: Path | None) -> None:
        """Leave the size to a model that is trained further."""
        self.network_size.setEnabled(folder is None)

    def _recipe_changed(self, recipe: str) -> None:
        self.keep_range.setValue(KEEP_RANGES[recipe])

    def _output(self) -> Path:
        folder = self.output.value()
        if folder is None:
            raise ValueError("No model folder: choose the data, or a folder for the model.")
        return folder

    def _output_edited(self) -> None:
        self._output_follows = False

    def _source_changed(self) -> None:
        """Let the model folder follow the data until a person gives one."""
        if self._output_follows:
            name = re.sub(r"[^\w.-]+", "-", self.source.value().name).strip("-.")
            self.output.setValue(user_models_folder() / name if name else None)
