"""What a result can be repeated by: its command line, and its receipt."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Signal  # type: ignore[attr-defined]  # renamed by qtpy
from qtpy.QtWidgets import QApplication, QHBoxLayout, QPushButton, QWidget

from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import VolumeError
from napari_tokensparse.widgets.importing import IMPORTING
from napari_tokensparse.widgets.layerfiles import (
    ask_for_file,
    labels_path,
    layer_file,
    suggested_file,
)
from napari_tokensparse.widgets.layervolumes import read_layer
from napari_tokensparse.widgets.results import results_of
from napari_tokensparse.widgets.workers import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import napari

    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.outputs.receipts import InputScan, Receipt
    from napari_tokensparse.volumes.volume import Volume
    from napari_tokensparse.widgets.results import ShownResult

_PLUGIN = "napari-tokensparse"
_PINS_IN_IT = "Pins stand in it as numbers of tokens of this scan, so it needs no file of a mask."


class ReceiptActions(QWidget):
    """Two buttons for the latest result: "Copy command line" and "Save receipt".

    Parameters
    ----------
    viewer
        Whose result.
    parent
        Qt parent.

    Signals
    -------
    said
        A line about what was done.
    """

    said = Signal(str)

    def __init__(self, viewer: napari.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._results = results_of(viewer)
        self._use: Callable[[Receipt], None] | None = None
        self.copy_button = QPushButton("Copy command line")
        self.copy_button.setToolTip("Copy the command that segments the same scan in the same way")
        self.save_button = QPushButton("Save receipt…")
        self.save_button.setToolTip(
            "Save what the labels were made from and how; `tokensparse segment --from-receipt` "
            "repeats it"
        )
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for button in (self.copy_button, self.save_button):
            layout.addWidget(button)
        self.copy_button.clicked.connect(lambda _: self._make(self._copy))
        self.save_button.clicked.connect(lambda _: self.ask_to_save())
        self._results.changed.connect(self._follow)
        self._follow()

    def ask_to_save(self) -> None:
        """Ask where to, and save the receipt there."""
        assert self._results.latest is not None
        suggested = suggested_file(self._results, "labels.receipt.json")
        asked = ask_for_file(self, "Save receipt", suggested, ["Receipt (*.json)"], self.said.emit)
        if asked is not None:
            self.save(asked[0])

    def save(self, path: Path) -> None:
        """Save the receipt of the latest result; ``said`` tells when it is there."""
        self._make(partial(self._save, path))

    def _follow(self) -> None:
        self.setEnabled(self._results.latest is not None)

    def _make(self, use: Callable[..., None]) -> None:
        """Make the receipt in a thread, for its files are read, and use it here."""
        self.setEnabled(False)
        assert self._results.latest is not None
        shown = self._results.latest
        inputs = inputs_of(shown)
        self._use = partial(use, inputs=inputs)
        worker = in_thread(result_receipt, shown, inputs, failed=self._fail)
        worker.returned.connect(self._take)
        worker.finished.connect(self._follow)
        worker.start()

    def _take(self, receipt: Receipt) -> None:
        assert self._use is not None  # it was asked for
        self._use(receipt)

    def _fail(self, error: BaseException) -> None:
        self.said.emit(str(error))

    def _copy(self, receipt: Receipt, inputs: Sequence[Input]) -> None:
        clipboard = QApplication.clipboard()
        assert clipboard is not None
        latest = self._results.latest
        info = None if latest is None else latest.network.info
        clipboard.setText(whole_command(receipt, inputs, info))
        pinned = (receipt.options.pin, receipt.options.drop) != (None, None)
        said = ["Copied the command line.", *([_PINS_IN_IT] if pinned else [])]
        self.said.emit("\n".join([*said, *_about_input(receipt)]))

    def _save(self, path: Path, receipt: Receipt, inputs: Sequence[Input]) -> None:
        from napari_tokensparse.outputs.receipts import write_receipt

        try:
            write_receipt(path, receipt)
        except OSError as error:
            self.said.emit(str(error))
            return
        self.said.emit("\n".join([f"Saved {path.name}.", *_about_input(receipt)]))


@dataclass(frozen=True, eq=False)
class Input:
    """What a receipt needs of a layer, read off it in the window's thread.

    Attributes
    ----------
    name
        Of the layer.
    file
        Which our own reader read it from, if any.
    volume
        Its voxels.
    channel
        Which it was taken for, where there are several.
    """

    name: str
    file: Path | None
    volume: Volume
    channel: str = ""


def result_receipt(
    shown: ShownResult,
    inputs: Sequence[Input],
    output: Path | None = None,
    beside: Sequence[Path] = (),
    table: Path | None = None,
) -> Receipt:
    """Write down a result that lies in the viewer; touches no layer.

    Parameters
    ----------
    shown
        It.
    inputs
        What was segmented.
    output
        The file of its labels, if they are in one.
    beside, table
        What was written beside them, and which of that is the table.
    """
    with IMPORTING:
        from napari_tokensparse.outputs.receipts import FinishedRun, receipt_of

    series = _series(inputs)
    said = {"series": series, "table": None if table is None else table.name}
    options = shown.options.model_copy(update=said)
    run = FinishedRun(shown.volume, shown.network, options, shown.segmentation)
    scans = [_input(each, series) for each in inputs]
    receipt = receipt_of(run, scans, output, beside)
    return receipt.model_copy(update={"notes": (*shown.kept, *receipt.notes)})


def whole_command(receipt: Receipt, inputs: Sequence[Input], info: ModelInfo | None) -> str:
    """Return a receipt's command with the whole paths of its scans, to be run from anywhere.

    The receipt itself keeps names alone, for a path may name a patient. ``info`` is the model's:
    what it does if nothing is said need not be said.
    """
    from napari_tokensparse.segmenting.options import command_line

    both = list(zip(receipt.inputs, inputs, strict=True))
    scans = [
        (scan.channel, f"{scan.name}.nii.gz" if scan.sha256 is None else str(given.file))
        for scan, given in both
    ]
    output = labels_path(both[0][1].name, both[0][1].file)
    return command_line(receipt.options, scans, str(output), info)


def inputs_of(shown: ShownResult) -> list[Input]:
    """Read off the layers of a result what its receipt needs of them."""
    if len(shown.layers) < 2:
        return [Input(shown.image.name, layer_file(shown.image), shown.volume)]
    return [
        Input(layer.name, layer_file(layer), read_layer(layer)[0], channel)
        for channel, layer in zip(shown.volume.channel_names, shown.layers, strict=True)
    ]


def _series(inputs: Sequence[Input]) -> str | None:
    """Return which series of a DICOM folder was segmented, where there is a choice."""
    from napari_tokensparse.volumes.dicom.folder import number_among

    first = inputs[0]
    if len(inputs) > 1 or first.file is None or not (first.volume.slices and first.file.is_dir()):
        return None
    try:
        return number_among(first.file, first.volume.slices)
    except VolumeError:  # it is not there as it was
        return None


def _input(given: Input, series: str | None) -> InputScan:
    from napari_tokensparse.outputs.receipts import InputScan, input_scan

    if given.file is not None and _holds(given.file, given.volume, series):
        return input_scan(given.file, given.channel)
    name = given.name.replace("/", "_").replace("\\", "_")
    return InputScan(name=name, sha256=None, channel=given.channel)


def _holds(path: Path, ours: Volume, series: str | None) -> bool:
    """Whether a file holds what was segmented: a layer may have been edited, the file replaced."""
    try:
        volume = read_volume(path, series=series)
    except VolumeError:
        return False
    return np.array_equal(volume.array, ours.array) and np.array_equal(volume.affine, ours.affine)


def _about_input(receipt: Receipt) -> list[str]:
    unsaved = sum(scan.sha256 is None for scan in receipt.inputs)
    return [f"Note: {note}." for note in receipt.notes[len(receipt.notes) - unsaved :]]
