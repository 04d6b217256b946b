"""Which file a layer was read from, and where something is saved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from napari.layers import Image
from napari.layers._source import layer_source
from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

from napari_tokensparse.volumes.samples import SAMPLE_KEY, sample_path
from napari_tokensparse.widgets.layerfiles import ask_for_file, layer_file

if TYPE_CHECKING:
    from pathlib import Path

    from pytestqt.qtbot import QtBot

pytestmark = pytest.mark.gui


@pytest.mark.parametrize(
    ("sample", "file"),
    [
        (("napari-tokensparse", SAMPLE_KEY), sample_path()),
        (("napari-tokensparse", "made-up-patient"), None),
        (("another-plugin", SAMPLE_KEY), None),
    ],
)
def test_of_the_samples_only_the_brain_is_a_file(
    sample: tuple[str, str], file: Path | None
) -> None:
    with layer_source(sample=sample):
        layer = Image(np.zeros((2, 2, 2)))
    assert layer_file(layer) == file


@pytest.mark.parametrize(
    ("given", "line", "name"),
    [
        ("a", "NRRD (*.nrrd)", "a.nrrd"),
        ("a at 0.25", "", "a at 0.25.nii.gz"),
        ("a.nii.nrrd", "NRRD (*.nrrd)", "a.nrrd"),  # as Qt turns a.nii.gz into another format
        ("a.nii.zarr", "OME-Zarr (*.ome.zarr)", "a.ome.zarr"),
        ("a.nii.nrrd", "NIfTI (*.nii.gz)", "a.nrrd"),
        ("a.csv", "NRRD (*.nrrd)", "a.csv"),
    ],
)
def test_a_name_gets_the_ending_of_its_format_and_nothing_is_replaced_unasked(
    given: str,
    line: str,
    name: str,
    tmp_path: Path,
    qtbot: QtBot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parent = QWidget()
    qtbot.addWidget(parent)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / given), line))
    lines = ["NIfTI (*.nii.gz)", "NRRD (*.nrrd)", "OME-Zarr (*.ome.zarr)"]
    asked, said = ask_for_file(parent, "Save", tmp_path, lines), []
    assert asked == (tmp_path / name, line or lines[0])
    (tmp_path / name).touch()
    no = QMessageBox.StandardButton.No
    monkeypatch.setattr(QMessageBox, "question", lambda *words: said.append(words[2]) or no)
    again = ask_for_file(parent, "Save", tmp_path, lines, said.append)
    if given == name:
        assert again == asked and not said  # the dialog itself has asked
    else:
        assert again is None and said[0].startswith(f"There already:\n\n{name}: ")
        assert said[1] == f"Not saved: {name} is there already; choose another name."
