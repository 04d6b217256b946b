"""Names and colours of classes in files that other tools read, beside the labels they are for."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from napari_tokensparse.common.files import written_whole
from napari_tokensparse.common.untrusted import one_line
from napari_tokensparse.outputs.writing import output_stem

if TYPE_CHECKING:
    from pathlib import Path

    from napari_tokensparse.model.info import LabelClass, ModelInfo

_SNAP_HEADER = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
# Fields:
#    IDX:   Zero-based index
#    -R-:   Red color component (0..255)
#    -G-:   Green color component (0..255)
#    -B-:   Blue color component (0..255)
#    -A-:   Label transparency (0.00 .. 1.00)
#    VIS:   Label visibility (0 or 1)
#    MSH:   Label mesh visibility (0 or 1)
#  LABEL:   Label description
################################################
"""
_SNAP_CLEAR = '    0     0    0    0        0  0  0    "Clear Label"\n'


def write_class_files(labels: Path, info: ModelInfo) -> list[Path]:
    """Write both files beside a labels file, called after it.

    For ``brain.nii.gz`` these are ``brain.label.txt`` for ITK-SNAP and ``brain_dseg.tsv`` as in
    BIDS; for ``sub-01_dseg.nii.gz``, as BIDS names it, the table is ``sub-01_dseg.tsv``.

    Parameters
    ----------
    labels
        The labels file.
    info
        The model's classes.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    OSError
        A file cannot be written.
    """
    snap, table = class_files(labels)
    return [write_snap_labels(snap, info), write_bids_table(table, info)]


def class_files(labels: Path) -> tuple[Path, Path]:
    """Return where the files of a labels file lie, ITK-SNAP's and that of BIDS."""
    stem = output_stem(labels)
    table = f"{stem.removesuffix('_dseg')}_dseg.tsv"
    return labels.with_name(f"{stem}.label.txt"), labels.with_name(table)


def write_snap_labels(path: Path, info: ModelInfo) -> Path:
    """Write ITK-SNAP's label descriptions: Segmentation > Import Label Descriptions reads them."""
    rows = "".join(map(_snap_row, sorted(info.classes, key=lambda c: c.value)))
    with written_whole(path) as part:
        part.write_text(_SNAP_HEADER + _SNAP_CLEAR + rows, encoding="utf-8", newline="\n")
    return path


def write_bids_table(path: Path, info: ModelInfo) -> Path:
    """Write the look-up table of BIDS derivatives: ``index``, ``name``, ``color`` (#rrggbb)."""
    with written_whole(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(("index", "name", "color"))
        for c in sorted(info.classes, key=lambda c: c.value):
            table.writerow((c.value, one_line(c.name), "#{:02x}{:02x}{:02x}".format(*c.color)))
    return path


def _snap_row(c: LabelClass) -> str:
    red, green, blue = c.color
    name = one_line(c.name).replace('"', "'")  # ITK-SNAP ends a name at the next quote
    return f'{c.value:5d} {red:5d} {green:4d} {blue:4d}        1  1  1    "{name}"\n'
