import gzip
import pickle
import struct

import nibabel as nib
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Header, Nifti1Image
from nibabel.nifti2 import Nifti2Image

from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.samples import sample_path
from napari_tokensparse.volumes.volume import (
    NOTE_NO_ORIENTATION,
    Volume,
    VolumeError,
    header_from_bytes,
    write_nifti,
)

GEOMETRY = (
    *("pixdim", "xyzt_units", "dim_info", "qform_code", "sform_code"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z"),
)
RAMP = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


def oblique_affine():
    a, b = np.radians([20.0, -35.0])
    turn_x = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    turn_z = [[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]]
    affine = np.eye(4)
    affine[:3, :3] = np.array(turn_x) @ np.array(turn_z) @ np.diag([-0.7, 1.1, 3.3])
    affine[:3, 3] = (-31.7, 12.9, 88.1)
    return affine


def save(path, array, affine=None, kind=Nifti1Image, **fields):
    image = kind(array, np.eye(4) if affine is None else affine)
    for name, value in fields.items():
        image.header[name] = value
    nib.save(kind(array, None, image.header), path)
    return path


def geometry(path):
    header = nib.load(path).header
    return {name: header[name].tobytes() for name in GEOMETRY}


@pytest.mark.parametrize("kind", [Nifti1Image, Nifti2Image])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_an_oblique_anisotropic_file_comes_back_on_its_own_grid_bit_for_bit(tmp_path, suffix, kind):
    image = kind(RAMP, oblique_affine())
    image.set_sform(oblique_affine() + np.diag([0.01, 0, 0, 0]), code=4)
    image.set_qform(oblique_affine(), code=1)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 2.5
    source = tmp_path / f"scan{suffix}"
    nib.save(image, source)

    volume = read_volume(source)
    out = write_nifti(tmp_path / f"out{suffix}", RAMP % 3, like=volume)

    assert geometry(out) == geometry(source)
    assert nib.load(out).shape == (4, 5, 6)
    assert np.array_equal(nib.load(out).affine, nib.load(source).affine)
    assert np.array_equal(nib.load(out).dataobj, RAMP % 3)
    assert type(nib.load(out)) is kind
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"out{suffix}", f"scan{suffix}"]


def test_a_volume_states_shape_spacing_and_name(tmp_path):
    volume = read_volume(save(tmp_path / "scan.one.nii.gz", RAMP, oblique_affine()))
    assert (volume.shape, volume.name, volume.notes) == ((4, 5, 6), "scan.one", ())
    assert volume.array.shape == (1, 4, 5, 6)
    assert np.array_equal(volume.array[0], RAMP)
    assert volume.spacing == pytest.approx((0.7, 1.1, 3.3), abs=1e-6)
    assert volume.affine == pytest.approx(oblique_affine(), abs=1e-5)


def test_integers_stay_integers_and_scaled_files_become_float32(tmp_path):
    plain = read_volume(save(tmp_path / "plain.nii", RAMP))
    image = Nifti1Image(RAMP, np.eye(4))
    image.header.set_slope_inter(0.5, -10.0)
    image.header.set_data_dtype(np.int16)
    path = tmp_path / "scaled.nii"
    nib.save(Nifti1Image(RAMP * 0.5 - 10.0, np.eye(4), image.header), path)
    scaled = read_volume(path)
    assert plain.array.dtype == np.int16
    assert scaled.array.dtype == np.float32
    assert scaled.array[0] == pytest.approx(RAMP * 0.5 - 10.0, abs=2e-3)


def test_a_big_endian_file_is_read_natively_and_written_big_endian(tmp_path):
    path = tmp_path / "big.nii"
    header = Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    nib.save(Nifti1Image(RAMP, oblique_affine(), header), path)
    volume = read_volume(path)
    out = write_nifti(tmp_path / "out.nii", RAMP > 60, like=volume)
    assert volume.array.dtype.isnative
    assert np.array_equal(volume.array[0], RAMP)
    assert geometry(out) == geometry(path)
    assert np.array_equal(read_volume(out).array[0], RAMP > 60)


def test_a_fourth_axis_is_channels_and_trailing_axes_of_length_one_are_dropped(tmp_path):
    two = np.stack([RAMP, -RAMP], axis=-1)
    volume = read_volume(save(tmp_path / "two.nii", two))
    assert volume.array.shape == (2, 4, 5, 6)
    assert np.array_equal(volume.array[1], -RAMP)
    one = read_volume(save(tmp_path / "one.nii", RAMP[..., None, None]))
    assert one.array.shape == (1, 4, 5, 6)
    out = write_nifti(tmp_path / "out.nii", RAMP, like=volume)
    assert nib.load(out).shape == (4, 5, 6)
    assert geometry(out) == geometry(tmp_path / "two.nii")


def test_metres_become_millimetres_and_are_written_as_metres(tmp_path):
    path = save(tmp_path / "m.nii", RAMP, np.diag([0.001, 0.001, 0.002, 1]), xyzt_units=1)
    volume = read_volume(path)
    assert volume.spacing == pytest.approx((1, 1, 2))
    assert geometry(write_nifti(tmp_path / "out.nii", RAMP, like=volume)) == geometry(path)


def test_a_file_without_orientation_codes_carries_a_note(tmp_path):
    path = save(tmp_path / "scan.nii", RAMP, sform_code=0, qform_code=0)
    assert read_volume(path).notes == (NOTE_NO_ORIENTATION,)


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (0, 255, np.uint8),
        (0, 256, np.int16),
        (-1, 200, np.int16),
        (0, 40000, np.uint16),
        (0, 70000, np.int32),
        (0, 2**31, np.uint32),
        (0, 2**40, np.int64),
    ],
)
def test_labels_are_stored_in_the_smallest_integer_that_holds_them(tmp_path, low, high, dtype):
    labels = np.full((4, 5, 6), low, dtype=np.int64)
    labels[1, 2, 3] = high
    like = Volume(RAMP[None], oblique_affine(), "made")
    out = write_nifti(tmp_path / "labels.nii.gz", labels, like)
    assert nib.load(out).get_data_dtype() == dtype
    assert np.array_equal(nib.load(out).dataobj, labels)
    assert read_volume(out).is_labels
    assert nib.load(out).affine == pytest.approx(oblique_affine(), abs=1e-5)
    assert nib.load(out).header.get_xyzt_units()[0] == "mm"


def test_maps_are_stored_as_float32_and_are_not_labels(tmp_path):
    like = Volume(RAMP[None], np.eye(4), "made")
    out = write_nifti(tmp_path / "map.nii", RAMP / 7.0, like)
    assert nib.load(out).get_data_dtype() == np.float32
    assert not read_volume(out).is_labels
    assert read_volume(out).array[0] == pytest.approx(RAMP / 7.0, rel=1e-6)


def test_text_that_may_name_a_patient_is_not_written(tmp_path):
    path = save(tmp_path / "scan.nii", RAMP, descrip=b"DOE^JANE", aux_file=b"jane.txt")
    out = write_nifti(tmp_path / "out.nii", RAMP, like=read_volume(path))
    assert b"JANE" not in out.read_bytes().upper()


def test_a_header_survives_as_bytes(tmp_path):
    for kind in (Nifti1Image, Nifti2Image):
        header = read_volume(save(tmp_path / "scan.nii", RAMP, oblique_affine(), kind)).header
        again = header_from_bytes(pickle.loads(pickle.dumps(header.binaryblock)))
        assert type(again) is kind.header_class
        assert again.binaryblock == header.binaryblock


def test_the_sample_brain_is_what_its_notice_says():
    volume = read_volume(sample_path())
    assert (volume.shape, volume.array.dtype) == ((197, 233, 189), np.uint8)
    assert np.array_equal(volume.affine[:3, 3], (-98, -134, -72))
    assert volume.spacing == (1, 1, 1)
    assert volume.array[0, ::-1].tobytes() == volume.array[0].tobytes()
    assert 0.2 < (volume.array > 0).mean() < 0.23  # the brain alone, without the head
    assert "Louis Collins" in (sample_path().parent / "NOTICE").read_text(encoding="utf-8")


def write_text(path):
    path.write_text("not an image, but long enough to hold a header\n" * 20)


def test_channels_on_the_fifth_axis_are_channels_as_itk_writes_them(tmp_path):
    channels = np.stack([RAMP, RAMP + 1, RAMP + 2], axis=-1)[:, :, :, None]
    header = {"xyzt_units": 10, "pixdim": [1, 1, 1, 1, 1, 1, 1, 1]}  # mm and seconds
    path = save(tmp_path / "vector.nii.gz", channels, sform_code=1, **header)
    volume = read_volume(path)
    assert volume.array.shape == (3, *RAMP.shape)
    for n in range(3):
        np.testing.assert_array_equal(volume.array[n], RAMP + n)
        np.testing.assert_array_equal(read_volume(path, frame=n).array[0], RAMP + n)
    written = write_nifti(tmp_path / "labels.nii", np.zeros(RAMP.shape, int), volume)
    assert nib.load(written).shape == RAMP.shape


def write_cut_gz(path):
    whole = path.with_name("whole.nii.gz")
    noise = np.random.default_rng(0).integers(0, 1000, (20, 20, 20), dtype=np.int16)
    path.write_bytes(save(whole, noise).read_bytes()[:6000])


def write_cut_plain(path):
    whole = path.with_name("whole.nii")
    path.write_bytes(gzip.compress(save(whole, RAMP).read_bytes()[:400]))


def write_rgb(path):
    save(path, np.zeros((4, 5, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")]))


def write_bad(value):
    def write(path):
        bad = RAMP.astype(np.float32)
        bad[1, 2, 3] = value
        save(path, bad)

    return write


def write_sform(value):
    rows = {f"srow_{axis}": [value] * 4 for axis in "xyz"}
    return lambda path: save(path, RAMP, sform_code=1, **rows)


def write_array(array):
    return lambda path: save(path, array)


REFUSED = {
    "no such file; check the path": lambda path: None,
    "is a link to store/key, which is not there; fetch its content, for example with datalad": (
        lambda path: path.symlink_to("store/key")
    ),
    "only stands for the scan; fetch that with git lfs pull": lambda path: path.write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    ),
    "it is not compressed: call it scan.nii": lambda path: save(path.with_suffix(""), RAMP).rename(
        path
    ),
    "is not a NIfTI file": write_text,
    "is not a NIfTI file (Empty file": lambda path: path.touch(),
    "is damaged or cut short": write_cut_gz,
    "cut short": write_cut_plain,
    "is a 2-D image (8 x 9)": write_array(np.zeros((8, 9), np.int16)),
    "is a 2-D image (8 x 9 x 1)": write_array(np.zeros((8, 9, 1), np.int16)),
    "has 5 axes (4 x 5 x 6 x 2 x 3)": write_array(np.zeros((4, 5, 6, 2, 3), np.int16)),
    "holds RGB values; give one real number per voxel": write_rgb,
    "holds complex64 values; give one real number": write_array(RAMP.astype(np.complex64)),
    "contains NaN (1 voxels)": write_bad(np.nan),
    "contains infinity (1 voxels)": write_bad(-np.inf),
    "its affine contains NaN or infinity": write_sform(np.nan),
    "its affine is not invertible (voxel size 0 x 0 x 0 mm)": write_sform(0.0),
    "its affine is not invertible (voxel size 3": write_sform(2.0),
    "unit code 5 is not NIfTI's": lambda path: save(path, RAMP, xyzt_units=5),
}


@pytest.mark.parametrize("message", REFUSED)
def test_an_unusable_file_is_refused_in_one_plain_line_that_names_it(tmp_path, message):
    path = tmp_path / "scan.nii.gz"
    REFUSED[message](path)
    with pytest.raises(VolumeError) as caught:
        read_volume(path)
    assert message in str(caught.value)
    assert "scan.nii.gz" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [Nifti1Image, Nifti2Image])
def test_voxels_that_begin_at_0_begin_behind_the_header(tmp_path, kind):
    path = save(tmp_path / "scan.nii", RAMP, kind=kind)
    (at, form) = (108, "<f") if kind is Nifti1Image else (168, "<q")
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, at, 0)
    path.write_bytes(content)
    volume = read_volume(path)
    assert np.array_equal(volume.array[0], RAMP)
    assert volume.notes == (
        "its header says that voxels begin at byte 0; they were read from behind it",
    )


def test_a_quaternion_that_rounding_made_too_long_is_a_rotation(tmp_path):
    affine = np.diag([2.0, -3.0, -4.0, 1.0])  # half a turn: its quaternion's w is 0
    path = tmp_path / "scan.nii"
    image = Nifti1Image(RAMP, affine)
    image.set_sform(None, 0)
    image.set_qform(affine, 1)
    nib.save(image, path)
    content = bytearray(path.read_bytes())
    struct.pack_into("<fff", content, 256, 1.000002, 0.0, 0.0)
    path.write_bytes(content)
    volume = read_volume(path)
    assert np.abs(volume.affine - affine).max() < 1e-5
    assert volume.notes == (
        "its quaternion was longer than 1 by rounding, and was taken as of length 1",
    )
    write_nifti(tmp_path / "out.nii", RAMP > 5, volume)
    assert np.abs(nib.load(tmp_path / "out.nii").affine - affine).max() < 1e-5
    struct.pack_into("<fff", content, 256, 0.9, 0.9, 0.9)
    path.write_bytes(content)
    with pytest.raises(VolumeError, match="its qform is no rotation: write it anew, or the sform"):
        read_volume(path)


def test_another_image_format_is_refused_by_name(tmp_path):
    path = tmp_path / "scan.nii"
    nib.save(nib.MGHImage(RAMP, np.eye(4)), tmp_path / "scan.mgz")
    (tmp_path / "scan.mgz").rename(path)
    with pytest.raises(VolumeError, match=r"scan.nii: is not a NIfTI file \("):
        read_volume(path)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("out.nii", (6, 5, 4), r"out.nii: array of shape \(6, 5, 4\): must be \(4, 5, 6\)"),
        ("out.png", (4, 5, 6), "out.png: must end in .nii or .nii.gz"),
        ("no/out.nii", (4, 5, 6), "no such folder; create it first"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_and_leaves_nothing(
    tmp_path, name, shape, message
):
    with pytest.raises(VolumeError, match=message):
        write_nifti(tmp_path / name, np.zeros(shape, np.uint8), Volume(RAMP[None], np.eye(4), "a"))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_no_partial_file(tmp_path):
    (tmp_path / "out.nii").mkdir()
    with pytest.raises(OSError, match=r"out\.nii"):
        write_nifti(tmp_path / "out.nii", RAMP, Volume(RAMP[None], np.eye(4), "a"))
    assert [p.name for p in tmp_path.iterdir()] == ["out.nii"]


@pytest.mark.parametrize(
    ("array", "affine", "names", "message"),
    [
        (RAMP, np.eye(4), (), r"must be \(channels, i, j, k\)"),
        (RAMP[None], np.eye(3), (), r"must be \(4, 4\)"),
        (RAMP[None], np.eye(4), ("T1", "T2"), "2 channel names for 1 channels"),
        (RAMP[None], np.diag([1.0, 1, 0, 1]), (), "not invertible"),
    ],
)
def test_a_volume_that_makes_no_sense_cannot_be_made(array, affine, names, message):
    with pytest.raises(VolumeError, match=message):
        Volume(array, affine, "made", channel_names=names)


@pytest.mark.parametrize("address", ["https://x.org/a.ome.zarr", "s3://bucket/a.nii.gz"])
def test_an_address_is_no_file_of_this_machine(address: str) -> None:
    with pytest.raises(VolumeError, match="is no file of this machine; download it"):
        read_volume(address)
