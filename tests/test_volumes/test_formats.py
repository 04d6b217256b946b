"""Files of all formats but DICOM: their numbers, time series, and where they lie."""

from __future__ import annotations

import gzip

import nibabel as nib
import nrrd
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image, Nifti1Pair

from napari_tokensparse.datasets.dataset import Case
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import NOTE_NO_ORIENTATION, VolumeError

RAMP = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
SERIES = np.stack([RAMP, RAMP + 200, RAMP + 400], axis=-1)
AFFINE = np.array([[0, 0.6, -2.4, 20], [-1.1, 0, 0, -30], [0, 0.8, 1.8, 5], [0, 0, 0, 1]])
LPS = np.diag([-1.0, -1.0, 1.0])


def in_space(space="left-posterior-superior", signs=LPS, **fields):
    """Return the header of a NRRD file that lies where `AFFINE` says."""
    placed = {"space directions": (signs @ AFFINE[:3, :3]).T, "space origin": signs @ AFFINE[:3, 3]}
    return {"space": space, **placed, **fields}


def save_time(path, array, unit="sec", step=2.5):
    image = Nifti1Image(array, AFFINE)
    image.header.set_xyzt_units("mm", unit)
    image.header["pixdim"][4] = step
    nib.save(image, path)
    return path


@pytest.mark.parametrize("suffix", [".hdr", ".img"])
def test_either_half_of_a_nifti_pair_is_read(tmp_path, suffix):
    nib.save(Nifti1Pair(RAMP, AFFINE), tmp_path / "scan.img")
    volume = read_volume(tmp_path / f"scan{suffix}")
    assert (volume.name, volume.notes) == ("scan", ())
    assert np.array_equal(volume.array[0], RAMP)
    assert np.abs(volume.affine - AFFINE).max() < 1e-6
    other = ".img" if suffix == ".hdr" else ".hdr"
    (tmp_path / f"scan{other}").unlink()
    with pytest.raises(VolumeError, match=f"^scan{suffix}: scan{other} is not beside it; add it$"):
        read_volume(tmp_path / f"scan{suffix}")


@pytest.mark.parametrize("suffix", [".mgh", ".mgz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_mgh_is_read_natively_where_it_lies(tmp_path, suffix, dtype):
    path = tmp_path / f"scan{suffix}"
    nib.save(nib.MGHImage(RAMP.astype(dtype), AFFINE), path)
    volume = read_volume(path)
    assert (volume.name, volume.notes, volume.header) == ("scan", (), None)
    assert volume.array.dtype == dtype  # the file is big-endian
    assert np.array_equal(volume.array[0], RAMP)
    assert np.abs(volume.affine - AFFINE).max() < 1e-5


def test_mgh_frames_are_time_and_an_unplaced_one_carries_a_note(tmp_path):
    path = tmp_path / "scan.mgz"
    content = bytearray(nib.MGHImage(SERIES, AFFINE).to_bytes())
    content[28:30] = b"\0\0"  # goodRASFlag
    path.write_bytes(gzip.compress(content))
    with pytest.raises(VolumeError, match=r"^scan.mgz: is a time series of 3 frames; pick one"):
        read_volume(path)
    volume = read_volume(path, frame=2)
    assert np.array_equal(volume.array[0], RAMP + 400)
    assert volume.notes == (NOTE_NO_ORIENTATION,)
    path.write_bytes(gzip.compress(content[:400]))
    with pytest.raises(VolumeError, match=r"^scan.mgz: is damaged or cut short \("):
        read_volume(path, frame=2)
    path.write_bytes(gzip.compress(b"not an image" * 40))
    with pytest.raises(VolumeError, match=r"^scan.mgz: is not an MGH file \("):
        read_volume(path)


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", LPS),
        ("RAS", np.eye(3)),
        ("left-anterior-superior", np.diag([-1.0, 1.0, 1.0])),
    ],
)
@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_nrrd_is_read_where_it_lies(tmp_path, space, signs, encoding):
    path = tmp_path / "scan.nrrd"
    nrrd.write(str(path), RAMP, in_space(space, signs, encoding=encoding))
    volume = read_volume(path)
    assert (volume.name, volume.notes) == ("scan", ())
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array[0], RAMP)
    assert np.abs(volume.affine - AFFINE).max() < 1e-12


def test_a_detached_big_endian_nrrd_in_metres_is_read(tmp_path):
    path = tmp_path / "scan.nhdr"
    metres = in_space()
    metres["space directions"], metres["space origin"] = (
        metres[field] / 1000 for field in ("space directions", "space origin")
    )
    nrrd.write(str(path), RAMP.astype(">i2"), {**metres, "space units": ["m"] * 3, "endian": "big"})
    volume = read_volume(path)
    assert volume.array.dtype.isnative
    assert np.array_equal(volume.array[0], RAMP)
    assert np.abs(volume.affine - AFFINE).max() < 1e-9
    next(path.parent.glob("scan.raw*")).unlink()
    with pytest.raises(VolumeError, match=r"^scan.nhdr: scan.raw.gz is not beside it; add it$"):
        read_volume(path)


@pytest.mark.parametrize("axis", [0, 3])
def test_the_axis_of_a_nrrd_without_a_direction_is_its_channels_or_time(tmp_path, axis):
    path = tmp_path / "scan.nrrd"
    array = np.moveaxis(SERIES, -1, axis)
    kinds = ["domain"] * 3
    kinds.insert(axis, "list")
    rows = list(in_space()["space directions"])
    rows.insert(axis, np.full(3, np.nan))
    fields = {**in_space(), "space directions": np.array(rows)}
    nrrd.write(str(path), array, {**fields, "kinds": kinds})
    volume = read_volume(path)
    assert volume.array.shape == (3, 4, 5, 6)
    assert np.array_equal(volume.array[1], RAMP + 200)
    assert np.abs(volume.affine - AFFINE).max() < 1e-12
    kinds[axis] = "time"
    nrrd.write(str(path), array, {**fields, "kinds": kinds})
    with pytest.raises(VolumeError, match=r"^scan.nrrd: is a time series of 3 frames; .*--frame N"):
        read_volume(path)
    assert np.array_equal(read_volume(path, frame=1).array, RAMP[None] + 200)


def test_a_nrrd_without_a_space_carries_a_note_and_one_with_four_alike_axes_is_refused(tmp_path):
    path = tmp_path / "scan.nrrd"
    nrrd.write(str(path), RAMP, {"spacings": [0.5, 2.0, 3.0]})
    volume = read_volume(path)
    assert (volume.spacing, volume.notes) == ((0.5, 2.0, 3.0), (NOTE_NO_ORIENTATION,))
    nrrd.write(str(path), SERIES, {"kinds": ["domain"] * 4})
    with pytest.raises(VolumeError, match="does not say which one of its 4 axes is not of space"):
        read_volume(path)


@pytest.mark.parametrize("unit", ["sec", "msec", "usec"])
def test_a_time_series_is_not_channels_and_a_frame_of_it_is_a_volume(tmp_path, unit):
    path = save_time(tmp_path / "bold.nii.gz", SERIES, unit)
    line = (
        "bold.nii.gz: is a time series of 3 frames; pick one with --frame N, 0 to 2 (frame=N in "
        "Python); if they are channels, take the unit of time out of its header"
    )
    with pytest.raises(VolumeError) as caught:
        read_volume(path)
    assert str(caught.value) == line
    volume = read_volume(path, frame=1)
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array, RAMP[None] + 200)
    with pytest.raises(VolumeError, match=r"^bold.nii.gz: frame 3: must be 0 to 2$"):
        read_volume(path, frame=3)


def test_four_axes_without_a_time_step_are_channels_also_in_a_data_set(tmp_path):
    for n, (unit, step) in enumerate((("sec", 0.0), ("unknown", 2.5), ("hz", 1.0))):
        volume = read_volume(save_time(tmp_path / f"{n}.nii", SERIES, unit, step))
        assert volume.array.shape == (3, 4, 5, 6)
    path = save_time(tmp_path / "t.nii", SERIES)
    assert Case("one", path, path).read_image().array.shape == (3, 4, 5, 6)


def test_one_frame_of_a_scaled_file_is_scaled(tmp_path):
    image = Nifti1Image(SERIES, AFFINE)
    image.header.set_slope_inter(0.5, -10.0)
    nib.save(image, tmp_path / "scan.nii")
    volume = read_volume(tmp_path / "scan.nii", frame=2)
    assert volume.array.dtype == np.float32
    assert volume.array[0] == pytest.approx(RAMP * 0.5 + 190.0, abs=2e-3)


def test_a_qform_elsewhere_than_the_sform_is_told_with_the_distance(tmp_path):
    image = Nifti1Image(RAMP, AFFINE)
    moved = AFFINE.copy()
    moved[0, 3] += 4.3
    image.set_sform(AFFINE, code=1)
    image.set_qform(moved, code=1)
    nib.save(image, tmp_path / "scan.nii")
    volume = read_volume(tmp_path / "scan.nii")
    assert volume.notes == ("qform and sform differ by up to 4.3 mm; the sform was used",)
    assert np.abs(volume.affine - AFFINE).max() < 1e-5
    image.set_sform(AFFINE, code=0)
    nib.save(image, tmp_path / "scan.nii")
    volume = read_volume(tmp_path / "scan.nii")
    assert volume.notes == ()
    assert np.abs(volume.affine - moved).max() < 1e-5


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_every_number_type_and_byte_order_is_read_natively(tmp_path, order, dtype):
    header = nib.nifti1.Nifti1Header(endianness=order)
    header.set_data_dtype(np.dtype(order + dtype))
    nib.save(Nifti1Image(RAMP.astype(order + dtype), AFFINE, header), tmp_path / "scan.nii")
    array = read_volume(tmp_path / "scan.nii").array
    assert array.dtype == np.dtype(dtype)
    assert array.dtype.isnative
    assert np.array_equal(array[0], RAMP)


def test_an_ending_that_nibabel_does_not_know_is_called_by_its_fix(tmp_path):
    nib.save(Nifti1Image(RAMP, AFFINE), tmp_path / "a.nii.gz")
    (tmp_path / "a.nii.gz").rename(tmp_path / "scan.Nii.gz")
    with pytest.raises(VolumeError, match=r"^scan.Nii.gz: is not a NIfTI .*; call it scan.nii.gz$"):
        read_volume(tmp_path / "scan.Nii.gz")


def test_what_is_of_no_format_is_refused_in_one_line(dicoms, tmp_path):
    (tmp_path / "IM1.dcm").touch()
    (slice_of_many,) = dicoms["write_series"](tmp_path / "ct", np.ones((1, 4, 4), np.uint16))
    with pytest.raises(VolumeError, match=r"^IM000.dcm: is one DICOM file; give the folder"):
        read_volume(slice_of_many)
    (tmp_path / "scan.png").touch()
    with pytest.raises(VolumeError, match=r"^IM1.dcm: is one DICOM file; give the folder"):
        read_volume(tmp_path / "IM1.dcm")
    with pytest.raises(VolumeError, match=r"^scan.png: must end in .nii.gz, .*or be a folder of"):
        read_volume(tmp_path / "scan.png")
    nib.save(Nifti1Image(RAMP, AFFINE), tmp_path / "scan.nii")
    with pytest.raises(VolumeError, match=r"^scan.nii: series 5: only a DICOM folder has"):
        read_volume(tmp_path / "scan.nii", series=5)
