"""Volumes written in the format that the file's name says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import nibabel as nib
import nrrd
import numpy as np
import pytest

from napari_tokensparse.outputs.writing import check_output, output_stem, write_volume
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import Volume, VolumeError

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (4, 5, 6)
LABELS = np.arange(120).reshape(SHAPE) % 7


def oblique() -> np.ndarray:
    angle = np.radians(25.0)
    affine = np.eye(4)
    turn = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    affine[:3, :3] = np.array(turn) @ np.diag([-0.7, 1.1, 3.3])
    affine[:3, 3] = (-31.7, 12.9, 88.1)
    return affine


@pytest.fixture
def volume() -> Volume:
    return Volume(np.zeros((1, *SHAPE), np.int16), oblique(), "scan")


def test_nifti_labels_keep_the_header_bit_for_bit_and_a_neutral_slope(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones(SHAPE, np.int16), oblique())
    image.set_sform(oblique() + np.diag([0.01, 0, 0, 0]), code=4)
    image.set_qform(oblique(), code=1)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_slope_inter(2.0, 5.0)
    nib.save(image, tmp_path / "scan.nii.gz")
    out = write_volume(tmp_path / "out.nii", LABELS, read_volume(tmp_path / "scan.nii.gz"))
    one, two = (nib.load(p).header for p in (tmp_path / "scan.nii.gz", out))
    for field in ("pixdim", "srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x"):
        assert one[field].tobytes() == two[field].tobytes()
    assert (two["sform_code"], two["qform_code"], two["xyzt_units"]) == (4, 1, 2 + 8)
    raw = nib.Nifti1Header(out.read_bytes()[:348])
    assert (raw["scl_slope"], raw["scl_inter"]) == (1, 0)
    assert raw.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(nib.load(out).dataobj, LABELS)


def test_nrrd_says_where_every_voxel_lies_in_lps(tmp_path: Path, volume: Volume) -> None:
    data, header = nrrd.read(str(write_volume(tmp_path / "out.NRRD", LABELS, volume)))
    np.testing.assert_array_equal(data, LABELS)
    assert data.dtype == np.uint8
    assert header["space"] == "left-posterior-superior"
    index = np.array([3, 1, 4])
    lps = header["space origin"] + index @ header["space directions"]
    ras = (oblique() @ [*index, 1])[:3]
    np.testing.assert_allclose(lps, ras * [-1, -1, 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("source", ["scan.nrrd", "scan.mgz", "scan"])
def test_what_was_read_of_another_format_is_written_where_it_lay(
    tmp_path: Path, volume: Volume, dicoms: dict[str, Any], source: str
) -> None:
    if source == "scan":
        pixels = np.zeros(SHAPE[::-1], np.uint16)
        dicoms["write_series"](tmp_path / source, pixels, dicoms["PLANES"]["oblique"])
    elif source == "scan.mgz":
        nib.save(nib.MGHImage(np.zeros(SHAPE, np.int16), oblique()), tmp_path / source)
    else:
        write_volume(tmp_path / source, np.zeros(SHAPE, np.int16), volume)
    read = read_volume(tmp_path / source)
    exact = read_volume(write_volume(tmp_path / "out.nrrd", LABELS, read))
    np.testing.assert_array_equal(exact.array[0], LABELS)
    np.testing.assert_array_equal(exact.affine, read.affine)
    single = nib.load(write_volume(tmp_path / "out.nii.gz", LABELS, read))
    np.testing.assert_array_equal(single.dataobj, LABELS)
    np.testing.assert_array_equal(single.affine, read.affine.astype(np.float32))
    if source != "scan":
        np.testing.assert_allclose(read.affine, oblique(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(0, 255, np.uint8), (0, 256, np.uint16), (-1, 200, np.int16), (0, 2**31, np.uint32)],
)
def test_nrrd_labels_take_the_smallest_type(
    tmp_path: Path, volume: Volume, low: int, high: int, dtype: type
) -> None:
    labels = np.full(SHAPE, low, np.int64)
    labels[1, 2, 3] = high
    data, _ = nrrd.read(str(write_volume(tmp_path / "out.nrrd", labels, volume)))
    assert data.dtype == dtype
    np.testing.assert_array_equal(data, labels)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_an_image_of_integers_keeps_its_type_and_is_no_label(
    tmp_path: Path, volume: Volume, suffix: str
) -> None:
    out = write_volume(tmp_path / f"out{suffix}", LABELS.astype(np.int16), volume, labels=False)
    if suffix == ".nrrd":
        assert nrrd.read(str(out))[0].dtype == np.int16
    else:
        assert nib.load(out).get_data_dtype() == np.int16
        assert not read_volume(out).is_labels


@pytest.mark.parametrize("suffix", [".nii", ".nrrd"])
def test_floats_are_stored_as_float32(tmp_path: Path, volume: Volume, suffix: str) -> None:
    out = write_volume(tmp_path / f"out{suffix}", LABELS / 7, volume)
    data = nrrd.read(str(out))[0] if suffix == ".nrrd" else np.asarray(nib.load(out).dataobj)
    np.testing.assert_array_equal(data, (LABELS / 7).astype(np.float32))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_a_write_that_fails_is_one_line_with_the_name_and_leaves_nothing(
    tmp_path: Path, volume: Volume, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "hidden")

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr("pathlib.Path.replace", refuse)
    said = rf"out{suffix}: cannot be written \(Permission denied\); choose another place"
    with pytest.raises(VolumeError, match=said):
        write_volume(tmp_path / f"out{suffix}", LABELS, volume)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("out.png", r"out.png: must end in .nii.gz, .nii, .nrrd or .ome.zarr"),
        ("no/out.nrrd", "no: no such folder; create it first"),
        ("file/out.nrrd", "file: is a file, and no folder; choose another place"),
        ("taken.nii", "taken.nii: is a folder; name a file"),
    ],
)
def test_a_path_where_nothing_can_be_written_is_refused(
    tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / "taken.nii").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(VolumeError, match=said):
        check_output(tmp_path / name)


def test_another_shape_is_refused(tmp_path: Path, volume: Volume) -> None:
    with pytest.raises(VolumeError, match=r"must be \(4, 5, 6\), as scan is"):
        write_volume(tmp_path / "out.nrrd", LABELS.T, volume)


def test_the_stem_has_no_volume_suffix() -> None:
    names = ("a.nii.gz", "b.one.nrrd", "c.NII", "d.txt")
    assert [output_stem(name) for name in names] == ["a", "b.one", "c", "d.txt"]
