"""A result saved by clicks in a real viewer."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import nibabel as nib
import nrrd
import numpy as np
import pytest
from highdicom.seg import segread
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_tokensparse.outputs.receipts import read_receipt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Opened

pytestmark = pytest.mark.gui


class Dialogs:
    """Answers of a person to the dialogs that come up, and what these offered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.offered: list[tuple[str, str]] = []
        self.asked: list[str] = []
        self.path: Path | None = None
        self.line = "NIfTI (*.nii.gz *.nii)"
        self.answer = QMessageBox.StandardButton.No
        monkeypatch.setattr(QFileDialog, "getSaveFileName", self._choose)
        monkeypatch.setattr(QFileDialog, "getExistingDirectory", self._choose_folder)
        monkeypatch.setattr(QMessageBox, "question", self._answer)

    def _choose(self, _parent: Any, _title: str, start: str, lines: str) -> tuple[str, str]:
        self.offered.append((start, lines))
        return str(self.path or start), self.line

    def _choose_folder(self, _parent: Any, title: str, start: str) -> str:
        self.offered.append((start, title))
        return str(self.path or start)

    def _answer(self, _parent: Any, _title: str, text: str, *_: Any) -> Any:
        self.asked.append(text)
        return self.answer


@pytest.fixture
def dialogs(monkeypatch: pytest.MonkeyPatch) -> Dialogs:
    """Return what answers the dialogs."""
    return Dialogs(monkeypatch)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """Write a scan whose axes run left, back and down."""
    data = np.random.default_rng(0).integers(1, 200, (40, 36, 20)).astype(np.int16)
    affine = np.diag([-1.0, -1.5, -2.0, 1.0])
    nib.save(nib.Nifti1Image(data, affine), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


@pytest.fixture
def segmented(opened: Opened, scan: Path, write_nano: Callable[..., Path]) -> Opened:
    """Open a viewer with the scan, segmented."""
    opened.viewer.open(scan, plugin="napari-tokensparse")
    opened.widget.model.setValue(write_nano())
    opened.segment()
    return opened


def save(opened: Opened) -> str:
    """Click on "Save labels…", and return what is said once it is done."""
    opened.qtbot.mouseClick(opened.widget.save.labels_button, Qt.MouseButton.LeftButton)
    return said(opened)


def said(opened: Opened) -> str:
    message, save = opened.widget.message, opened.widget.save
    opened.qtbot.waitUntil(
        lambda: message.text() != "Saving …" and save.isEnabled(), timeout=60_000
    )
    return str(message.text())


def test_labels_are_saved_as_they_are_with_all_that_is_known_of_them_beside(
    segmented: Opened, scan: Path, dialogs: Dialogs
) -> None:
    layer = segmented.viewer.layers["scan labels"]
    layer.brush_size = 5
    before = layer.data.copy()
    layer.paint((10, 18, 20), 0)
    layer.paint((4, 18, 20), 7)
    layer.paint((14, 6, 20), 201)  # a value of no class
    edited = int((layer.data != before).sum())
    assert edited > 0

    beside = ["scan_labels.label.txt", "scan_labels_dseg.tsv", "scan_labels.csv"]
    files = ["scan_labels.nii.gz", *beside, "scan_labels.receipt.json"]
    labels, *others = (scan.with_name(name) for name in files)
    assert save(segmented) == (
        f"Saved {labels.name}, and beside it {', '.join(path.name for path in others)}."
    )
    assert dialogs.offered[0][0] == str(labels) and "DICOM" not in dialogs.offered[0][1]
    written = nib.load(labels)
    np.testing.assert_array_equal(written.affine, nib.load(scan).affine)
    flipped = np.asarray(written.dataobj)[:, :, ::-1].T  # the file runs left, back and down
    np.testing.assert_array_equal(flipped, layer.data)
    with open(others[2], encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["name"], int(row["voxels"])) == ("seven", np.count_nonzero(layer.data == 7))
    receipt = read_receipt(others[3])
    assert receipt.notes[0] == f"edited by hand: {edited} voxels of the labels"
    assert [each.name for each in receipt.files] == beside
    assert receipt.output.name == labels.name and receipt.options.table == beside[2]

    assert save(segmented).startswith("Saved") and not dialogs.asked  # all of it is ours
    others[2].write_text("mine", "utf-8")
    assert save(segmented) == "Not saved: scan_labels.csv is there already; choose another name."
    assert "\nscan_labels.csv: not as written by this plugin\n" in dialogs.asked[0]
    assert others[2].read_text("utf-8") == "mine"
    dialogs.path = labels.with_name("scan_labels.dcm")  # refused before anything is asked
    assert "and scan labels is none" in save(segmented) and len(dialogs.asked) == 1
    dialogs.path, dialogs.answer = None, QMessageBox.StandardButton.Yes
    assert save(segmented).startswith("Saved") and others[2].read_text("utf-8") != "mine"
    dialogs.path = labels.with_name("scan_labels.nii.nrrd")  # as Qt writes another format
    assert save(segmented).startswith("Saved scan_labels.nrrd")
    receipt_line = f"{others[3].name}: the receipt of {labels.name}, which would be left without"
    assert receipt_line in dialogs.asked[-1] and "not as written" not in dialogs.asked[-1]


def test_a_scan_is_never_written_over_and_a_format_is_taken_from_its_line(
    segmented: Opened, scan: Path, dialogs: Dialogs
) -> None:
    before = scan.read_bytes()
    dialogs.path = scan
    assert "is the scan or another input itself" in save(segmented)
    assert scan.read_bytes() == before
    dialogs.path, dialogs.line = scan.with_name("mine"), "NRRD (*.nrrd)"
    assert save(segmented).startswith("Saved mine.nrrd, and beside it mine.label.txt")
    assert scan.with_name("mine.nrrd").is_file()
    assert save(segmented).startswith("Not saved: mine.nrrd is there already")  # no dialog asked
    assert len(dialogs.asked) == 1


def test_maps_are_saved_one_by_one_or_all_into_a_folder(
    segmented: Opened, scan: Path, dialogs: Dialogs
) -> None:
    actions = segmented.widget.save.maps_button.menu().actions()
    texts = [action.text() for action in actions]
    assert texts[0] == "Importance 1…" and texts[-2:] == ["Pruned at…", "All, into a folder…"]
    viewer = segmented.viewer

    dialogs.path = scan.with_name("one.nrrd")
    actions[0].trigger()
    assert said(segmented) == "Saved one.nrrd."
    assert dialogs.offered[-1][0] == str(scan.with_name("scan_importance-1.nii.gz"))
    values, _ = nrrd.read(str(dialogs.path))
    shown = viewer.layers["scan importance 1"].data
    np.testing.assert_array_equal(np.nan_to_num(values)[:, :, ::-1].T, shown)

    dialogs.path = None
    actions[-2].trigger()
    assert said(segmented) == "Saved scan_pruned-at.nii.gz."
    pruned = np.asarray(nib.load(scan.with_name("scan_pruned-at.nii.gz")).dataobj)
    np.testing.assert_array_equal(pruned[:, :, ::-1].T, viewer.layers["scan pruned at"].data)

    actions[-1].trigger()
    assert said(segmented).startswith("Saved scan_tokens/importance-1.nii.gz, and beside it")
    dialogs.path = scan.with_name("scan_tokens")  # which is there by now
    actions[-1].trigger()
    assert said(segmented).startswith("Saved scan_tokens/importance-1.nii.gz, and beside it")
    assert not (dialogs.path / "scan_tokens").exists()
    mine = scan.with_name("scan_tokens") / "pruned-at.nii.gz"
    mine.write_bytes(b"mine")
    actions[-1].trigger()
    assert "is there already, and not as tokensparse wrote it" in said(segmented)
    assert mine.read_bytes() == b"mine"


def test_labels_of_a_dicom_series_go_beside_its_folder_as_dicom_seg(
    opened: Opened,
    write_nano: Callable[..., Path],
    dicoms: dict[str, Any],
    tmp_path: Path,
    dialogs: Dialogs,
) -> None:
    pixels = np.random.default_rng(0).integers(1, 900, (20, 36, 40)).astype(np.uint16)
    dicoms["write_series"](tmp_path / "exam", pixels)
    opened.viewer.open(str(tmp_path / "exam"), plugin="napari-tokensparse")
    opened.widget.model.setValue(write_nano())
    opened.segment()
    dialogs.path = tmp_path / "exam_labels.dcm"
    assert save(opened) == (
        "Saved exam_labels.dcm, and beside it exam_labels.csv, exam_labels.receipt.json."
    )
    assert dialogs.offered[0][0] == str(tmp_path / "exam_labels.nii.gz")
    assert "DICOM SEG (*.dcm)" in dialogs.offered[0][1]
    assert segread(dialogs.path).SegmentSequence[0].SegmentLabel == "seven"
    dialogs.path = tmp_path / "exam/labels.nii.gz"
    assert "lies in the folder of the scan" in save(opened)
