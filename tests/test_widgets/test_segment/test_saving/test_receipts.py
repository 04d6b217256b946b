"""The command line and the receipt of a run in a real viewer."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication
from typer.testing import CliRunner

import napari_tokensparse.segmenting.infer  # noqa: F401  # torch, before two threads import it
from napari_tokensparse.cli import app
from napari_tokensparse.outputs.receipts import read_receipt
from napari_tokensparse.volumes.samples import sample_path
from napari_tokensparse.widgets.segment.saving.receipts import layer_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Opened

pytestmark = pytest.mark.gui


def copied(opened: Opened) -> str:
    """Click on "Copy command line" and return what the clipboard holds then."""
    clipboard, message = QApplication.clipboard(), opened.widget.message
    clipboard.clear()
    opened.qtbot.mouseClick(opened.widget.receipt.copy_button, Qt.MouseButton.LeftButton)
    opened.qtbot.waitUntil(lambda: message.text().startswith("Copied"), timeout=30_000)
    return clipboard.text()


def test_a_run_of_a_file_gives_a_command_and_a_receipt_that_repeat_it(
    opened: Opened,
    write_nano: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    viewer, widget = opened.viewer, opened.widget
    assert not widget.receipt.copy_button.isEnabled()
    data = np.random.default_rng(0).integers(1, 200, (40, 36, 20)).astype(np.int16)
    affine = np.diag([-1.0, 1.0, 2.0, 1.0])
    nib.save(nib.Nifti1Image(data, affine), tmp_path / "scan.nii.gz")
    (layer,) = viewer.open(tmp_path / "scan.nii.gz", plugin="napari-tokensparse")
    widget.model.setValue(write_nano())
    widget.keep_ratio.setValue(0.25)
    opened.segment()

    command = copied(opened)
    assert command == (
        f"tokensparse segment {tmp_path}/scan.nii.gz -o {tmp_path}/scan_labels.nii.gz "
        "--model nano --keep-ratio 0.25 --device cpu"
    )
    widget.receipt.save(tmp_path / "R.json")
    opened.qtbot.waitUntil(lambda: widget.message.text() == "Saved R.json.", timeout=30_000)
    receipt = read_receipt(tmp_path / "R.json")
    sha256 = hashlib.sha256((tmp_path / "scan.nii.gz").read_bytes()).hexdigest()
    assert [(one.name, one.sha256) for one in receipt.inputs] == [("scan.nii.gz", sha256)]
    assert (receipt.output.name, receipt.output.sha256) == (None, None)
    assert receipt.command == command.replace(f"{tmp_path}/", "")  # a path may name a patient

    monkeypatch.chdir(tmp_path)
    again = CliRunner().invoke(app, ["segment", "--from-receipt", "R.json"])
    assert again.exit_code == 0, again.output

    layer.data = layer.data + 1  # no longer what the file holds
    opened.segment()
    assert "scan.nii.gz" in copied(opened)
    assert "Note: the scan was the napari layer 'scan'" in widget.message.text()


def test_a_layer_of_no_file_is_said_to_be_one_and_the_sample_has_its_file(
    opened: Opened, write_nano: Callable[..., Path], tmp_path: Path
) -> None:
    viewer, widget = opened.viewer, opened.widget
    viewer.add_image(np.random.default_rng(0).integers(1, 200, (32, 32, 32)), name="one/two")
    widget.model.setValue(write_nano())
    opened.segment()
    widget.receipt.save(tmp_path / "R.json")
    opened.qtbot.waitUntil(lambda: widget.message.text().startswith("Saved"), timeout=30_000)
    assert widget.message.text().endswith("save it as one_two.nii.gz before the command is run.")
    receipt = read_receipt(tmp_path / "R.json")
    assert [(one.name, one.sha256) for one in receipt.inputs] == [("one_two", None)]
    widget.receipt.save(tmp_path / "gone/R.json")
    opened.qtbot.waitUntil(lambda: "cannot be written" in widget.message.text(), timeout=30_000)

    assert layer_file(viewer.layers["one/two"]) is None
    viewer.open_sample("napari-tokensparse", "mni-brain")
    assert layer_file(viewer.layers[-1]) == sample_path()
