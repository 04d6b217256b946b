"""Masks of overlapping regions as files, written by the command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from napari_tokensparse.cli import app
from napari_tokensparse.model.bundle import write_bundle
from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.outputs.regionfiles import region_file_names
from napari_tokensparse.segmenting.infer import segment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_tokensparse.model.scd import SCD

NAMES = ("tumour core", "Whole Tumour", "ET")
METADATA = {"version": "1", "task": "test", "description": "", "authors": "", "copyright": ""}


def classes(*names: str) -> tuple[LabelClass, ...]:
    return tuple(
        LabelClass(value=value, name=name, color=(value, 0, 0))
        for value, name in zip((2, 1, 3), names, strict=True)
    )


@pytest.fixture
def folder(make_model: Callable[..., SCD], tmp_path: Path) -> Path:
    """Write a model whose three regions overlap, painted as BraTS' are."""
    info: dict[str, Any] = {"exclusive": False, "paint_order": (1, 0, 2)}
    model = make_model(values=(2, 1, 3), classes=classes(*NAMES), **info)
    write_bundle(tmp_path / "brats", model, METADATA, "# brats")
    return tmp_path / "brats"


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    affine = np.diag([-2.0, 1.5, 1.0, 1.0])
    data = np.random.default_rng(0).normal(size=(40, 36, 20)).astype(np.float32)
    nib.save(nib.Nifti1Image(data, affine), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def test_segment_writes_a_mask_of_each_region_called_after_it(
    folder: Path, scan: Path, tmp_path: Path
) -> None:
    options = ["--model", str(folder), "--device", "cpu", "--regions", str(tmp_path / "masks")]
    run = CliRunner().invoke(app, ["segment", str(scan), "-o", str(tmp_path / "l.nii"), *options])
    assert run.exit_code == 0, run.output
    written = ["tumour-core.nii.gz", "whole-tumour.nii.gz", "et.nii.gz"]
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == sorted(written)
    regions = segment(scan, folder).regions
    assert regions is not None
    files = [nib.load(tmp_path / "masks" / name) for name in written]
    for file, mask in zip(files, regions, strict=True):
        assert 0 < mask.sum() < mask.size
        assert file.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(np.asarray(file.dataobj), mask)
        np.testing.assert_array_equal(file.affine, nib.load(scan).affine)
    core, whole, enhancing = (np.asarray(file.dataobj) for file in files)
    assert (core & ~whole & 1).any()  # regions that a labels file cannot hold together
    painted = np.where(enhancing, 3, np.where(core, 2, whole))
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "l.nii").dataobj), painted)
    assert f"Wrote {tmp_path / 'masks' / 'et.nii.gz'}" in run.output


def test_a_model_whose_classes_exclude_one_another_is_refused_before_the_run(
    write_nano: Callable[..., Path], scan: Path, tmp_path: Path
) -> None:
    options = ["--model", str(write_nano()), "--regions", str(tmp_path / "masks")]
    run = CliRunner().invoke(app, ["segment", str(scan), "-o", str(tmp_path / "l.nii"), *options])
    assert run.exit_code == 1
    assert run.output == (
        "tokensparse: regions: the classes of model nano exclude one another, so there are no "
        "masks beside the labels; leave --regions out\n"
    )
    assert not (tmp_path / "masks").exists() and not (tmp_path / "l.nii").exists()


def test_names_that_come_out_alike_are_told_apart_by_the_label_value() -> None:
    def names(*called: str) -> tuple[str, ...]:
        info = {"channels": ("T1",), "classes": classes(*called), "exclusive": False}
        return region_file_names(ModelInfo(name="m", **info))

    assert names("Whole tumour", "a/../b", "TC") == (
        "whole-tumour.nii.gz",
        "a-b.nii.gz",
        "tc.nii.gz",
    )
    assert names("core", "Core!", "core 2") == (
        *("core-2.nii.gz", "core-1.nii.gz", "core-2-3.nii.gz"),
    )
    assert names("?", "a", "b") == ("region-2.nii.gz", "a-1.nii.gz", "b-3.nii.gz")
