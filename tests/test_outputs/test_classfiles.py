"""Class names and colours beside a labels file."""

from __future__ import annotations

import csv
import shlex
from typing import TYPE_CHECKING

import pytest

from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.outputs.classfiles import write_class_files

if TYPE_CHECKING:
    from pathlib import Path

INFO = ModelInfo(
    name="hand",
    channels=("T1",),
    classes=(
        LabelClass(value=53, name='the "right"  one', color=(220, 216, 20)),
        LabelClass(value=4, name="Ventricle, left", color=(0, 9, 255)),
    ),
)


def snap_rows(path: Path) -> list[list[str]]:
    """Read label descriptions as ITK-SNAP does: seven numbers, then a name in quotes."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [shlex.split(line) for line in lines if line and not line.startswith("#")]


def test_itk_snap_reads_value_colour_and_name_of_every_class(tmp_path: Path) -> None:
    path, _ = write_class_files(tmp_path / "brain.nii.gz", INFO)
    assert path == tmp_path / "brain.label.txt"
    assert snap_rows(path) == [
        ["0", "0", "0", "0", "0", "0", "0", "Clear Label"],
        ["4", "0", "9", "255", "1", "1", "1", "Ventricle, left"],
        ["53", "220", "216", "20", "1", "1", "1", "the 'right' one"],
    ]


@pytest.mark.parametrize(
    ("labels", "table"),
    [("brain.nrrd", "brain_dseg.tsv"), ("sub-01_dseg.nii.gz", "sub-01_dseg.tsv")],
)
def test_bids_table_lies_beside_the_labels(tmp_path: Path, labels: str, table: str) -> None:
    _, path = write_class_files(tmp_path / labels, INFO)
    assert path == tmp_path / table
    with path.open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file, delimiter="\t")) == [
            ["index", "name", "color"],
            ["4", "Ventricle, left", "#0009ff"],
            ["53", 'the "right" one', "#dcd814"],
        ]
    assert b"\r" not in path.read_bytes()
