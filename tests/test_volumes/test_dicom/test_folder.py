"""DICOM series written by pydicom, read as volumes: every voxel where the headers put it."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread

from napari_tokensparse.volumes.dicom.folder import holds_dicom
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import Volume, VolumeError

if TYPE_CHECKING:
    from pathlib import Path

PIXELS = (
    np.random.default_rng(1).integers(0, 4000, (7, 5, 6)).astype(np.uint16)
)  # (slice, row, col)
VOXELS = PIXELS.transpose(2, 1, 0)
ORIGIN, SPACING = (-31.0, 22.5, 7.25), (1.25, 0.75)


def refusal(folder: Path, **options: Any) -> str:
    """Return the line that a folder is refused with; it names no patient."""
    with pytest.raises(VolumeError) as caught:
        read_volume(folder, **options)
    line = str(caught.value)
    assert "\n" not in line
    assert "Doe" not in line
    assert "JD-1" not in line
    return line


def position_of(volume: Volume, index: tuple[int, int, int]) -> np.ndarray:
    return (volume.affine @ [*index, 1])[:3]


@pytest.mark.parametrize("plane", ["axial", "sagittal", "coronal", "oblique"])
@pytest.mark.parametrize("tilt", [0.0, 0.25])
def test_every_voxel_lies_where_its_slice_says(dicoms, tmp_path, plane, tilt):
    row, column = np.reshape(dicoms["PLANES"][plane], (2, 3))
    step = 3.5 * np.cross(row, column) + tilt * column
    paths = dicoms["write_series"](tmp_path / "ct", PIXELS, [*row, *column], step=step)
    volume = read_volume(tmp_path / "ct")
    assert np.array_equal(volume.array, VOXELS[None])
    assert volume.slices == tuple(paths)
    for i, j, k in [(0, 0, 0), (5, 0, 0), (0, 4, 0), (0, 0, 6), (5, 4, 6), (2, 3, 1)]:
        lps = np.array(ORIGIN) + row * SPACING[1] * i + column * SPACING[0] * j + step * k
        assert np.abs(position_of(volume, (i, j, k)) - lps * (-1, -1, 1)).max() < 1e-12
    tilted = "the slices are stacked at 4.1 degrees to their normal (gantry tilt)"
    assert volume.notes == ((tilted,) if tilt else ())


def test_the_same_phantom_as_nifti_lies_in_the_same_place(dicoms, tmp_path):
    dicoms["write_series"](tmp_path / "mr", PIXELS, dicoms["PLANES"]["oblique"])
    volume = read_volume(tmp_path / "mr")
    affine = np.array(  # by hand: R = -L, A = -P; row (.8, 0, -.6), column (.36, .8, .48)
        [
            [-0.8 * 0.75, -0.36 * 1.25, -0.48 * 3.5, 31.0],
            [0.0, -0.8 * 1.25, 0.6 * 3.5, -22.5],
            [-0.6 * 0.75, 0.48 * 1.25, 0.64 * 3.5, 7.25],
            [0, 0, 0, 1],
        ]
    )
    nib.save(nib.Nifti1Image(VOXELS[::-1], affine @ flip_i(6)), tmp_path / "mr.nii")
    other = read_volume(tmp_path / "mr.nii")
    assert np.abs(volume.affine - affine).max() < 1e-12
    for index in np.ndindex(6, 5, 7):
        i, j, k = index
        there = (5 - i, j, k)
        assert volume.array[0][index] == other.array[0][there]
        assert np.abs(position_of(volume, index) - position_of(other, there)).max() < 1e-4


def test_numbers_longer_than_dicom_allows_are_read_as_they_are(dicoms, tmp_path):
    angle = np.radians(25.0)
    plane = [-1.0, 0, 0, 0, -np.cos(angle), np.sin(angle)]
    paths = dicoms["write_series"](tmp_path / "mr", PIXELS, plane, origin=np.array(ORIGIN) / 3)
    assert b"-0.9063077870366499" in paths[0].read_bytes()  # 19 letters; a DS has 16
    volume = read_volume(tmp_path / "mr")
    row, column = np.reshape(plane, (2, 3))
    in_slice = row * 5 * 0.75 + column * 4 * 1.25
    lps = np.array(ORIGIN) / 3 + in_slice + 6 * 3.5 * np.cross(row, column)
    assert np.abs(position_of(volume, (5, 4, 6)) - lps * (-1, -1, 1)).max() < 1e-12


def flip_i(count: int) -> np.ndarray:
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = count - 1
    return flip


def test_each_slice_is_scaled_by_its_own_slope_and_intercept(dicoms, tmp_path):
    slopes = [1.0, 0.5, 2.0, 1.0, 1.0, 3.0, 0.25]
    signed = (PIXELS.astype(np.int32) - 2000).astype(np.int16)
    dicoms["write_series"](
        tmp_path / "pet", signed, RescaleSlope=slopes, RescaleIntercept="-1024", Modality="PT"
    )
    volume = read_volume(tmp_path / "pet")
    assert volume.array.dtype == np.float32
    assert volume.modality == "PT"
    wanted = signed.transpose(2, 1, 0) * np.array(slopes) - 1024
    assert np.array_equal(volume.array[0], wanted)
    dicoms["write_series"](tmp_path / "mr", signed, RescaleSlope=1, RescaleIntercept=0)
    assert read_volume(tmp_path / "mr").array.dtype == np.int16


def test_series_are_listed_and_one_is_chosen_by_number_or_uid(dicoms, tmp_path):
    write = dicoms["write_series"]
    folder = tmp_path / "exam"
    write(folder, PIXELS, SeriesNumber=4, prefix="A")
    other = write(folder, PIXELS[:, :4], dicoms["PLANES"]["sagittal"], SeriesNumber=9, prefix="B")
    (folder / "notes.txt").write_text("not DICOM, and longer than the 132 bytes " * 5)
    assert refusal(folder) == (
        "exam: holds 2 series or acquisitions; choose one with --series NUMBER (series= in "
        "Python): 4 (MR axial, 7 slices of 6 x 5), 9 (MR sagittal, 7 slices of 6 x 4)"
    )
    uid = dcmread(other[0]).SeriesInstanceUID
    for wanted in ("9", 9, uid):
        assert read_volume(folder, series=wanted).slices == tuple(other)
    assert "exam: series 5 is not there; choose of 4 (MR" in refusal(folder, series=5)


def test_acquisitions_in_the_same_places_are_told_apart(dicoms, tmp_path):
    folder, uid = tmp_path / "liver", "1.2.3"
    for number in (1, 2):
        tags = {"AcquisitionNumber": number, "SeriesInstanceUID": uid}
        dicoms["write_series"](folder, PIXELS + number, prefix=f"phase{number}-", **tags)
    assert "5.1 (MR axial, 7 slices of 6 x 5), 5.2 (MR axial, 7 slices" in refusal(folder)
    assert "series 1.2.3 is more than one acquisition" in refusal(folder, series=uid)
    assert np.array_equal(read_volume(folder, series="5.2").array[0], VOXELS + 2)


def test_slices_of_one_stack_may_be_acquisitions_of_their_own(dicoms, tmp_path):
    dicoms["write_series"](tmp_path / "ct", PIXELS, AcquisitionNumber=[1, 1, 2, 3, 4, 4, 5])
    assert np.array_equal(read_volume(tmp_path / "ct").array[0], VOXELS)


def test_missing_slices_are_named_by_their_neighbours_and_places(dicoms, tmp_path):
    paths = dicoms["write_series"](tmp_path / "ct", PIXELS)
    paths[2].unlink()
    paths[3].unlink()
    assert refusal(tmp_path / "ct") == (
        f"ct: 2 of its slices, 3.5 mm apart, are missing between {paths[1].name} (at 10.75 mm) and "
        f"{paths[4].name} (at 21.25 mm); copy the whole series"
    )


def test_slices_that_lie_twice_in_one_place_are_named(dicoms, tmp_path):
    paths = dicoms["write_series"](tmp_path / "ct", PIXELS)
    shutil.copy(paths[3], tmp_path / "ct/IMcopy.dcm")
    change(tmp_path / "ct/IMcopy.dcm", SOPInstanceUID="1.2.3")
    assert refusal(tmp_path / "ct") == (
        f"ct: slices that lie in one place: {paths[3].name} and IMcopy.dcm (at 17.75 mm); keep one "
        "of each"
    )


def test_copies_of_files_are_left_out_with_a_note_and_others_of_their_name_are_not(
    dicoms, tmp_path
):
    paths = dicoms["write_series"](tmp_path / "ct", PIXELS)
    for path in paths[2:5]:
        shutil.copy(path, tmp_path / f"ct/{path.stem} (1).dcm")
    volume = read_volume(tmp_path / "ct")
    assert np.array_equal(volume.array, VOXELS[None])
    (note,) = volume.notes
    assert note.startswith("left out, as copies of other files: ")
    assert note.count(" (1).dcm") == 3
    other = dcmread(paths[2])
    other.PixelData = bytes(len(other.PixelData))
    other.save_as(tmp_path / "ct/other.dcm")
    assert "slices that lie in one place: " in refusal(tmp_path / "ct")


def test_repetitions_that_only_their_numbers_tell_apart_are_chosen_in_their_order(dicoms, tmp_path):
    for n, prefix in enumerate("CAB"):
        numbers = [10 * k + n for k in range(len(PIXELS))]
        dicoms["write_series"](
            *(tmp_path / "f", PIXELS + n),
            prefix=prefix,
            SeriesInstanceUID="1.2.3",
            InstanceNumber=numbers,
        )
    line = refusal(tmp_path / "f")
    assert "holds 3 images of each place; choose one with --frame N" in line
    assert line.endswith("0 (repetition 1), 1 (repetition 2), 2 (repetition 3)")
    for n in range(3):
        assert np.array_equal(read_volume(tmp_path / "f", frame=n).array, VOXELS[None] + n)
    next((tmp_path / "f").glob("A*")).unlink()
    assert "lie in one place" in refusal(tmp_path / "f")


@pytest.mark.parametrize(
    ("tag", "values", "said"),
    [
        ("KVP", (80, 140), "0 (tube voltage 80 kV), 1 (tube voltage 140 kV)"),
        ("NominalPercentageOfCardiacPhase", (40, 75), "0 (cardiac phase 40 %), 1 (cardiac phase"),
        ("FrameReferenceTime", (0, 5000), "0 (frame time 0 ms), 1 (frame time 5000 ms)"),
    ],
)
def test_energies_phases_and_frames_of_pet_are_chosen_by_what_they_are(
    dicoms, tmp_path, tag, values, said
):
    for prefix, value in zip("AB", values, strict=True):
        tags = {tag: value, "SeriesInstanceUID": "1.2.3"}
        dicoms["write_series"](tmp_path / "ct", PIXELS, prefix=prefix, **tags)
    assert said in refusal(tmp_path / "ct")


def test_a_decimal_comma_in_a_header_is_a_point(dicoms, tmp_path):
    for path in dicoms["write_series"](tmp_path / "ct", PIXELS):
        path.write_bytes(path.read_bytes().replace(b"1.25\\0.75", b"1,25\\0,75"))
    volume = read_volume(tmp_path / "ct")
    assert volume.spacing == (0.75, 1.25, 3.5)
    assert np.array_equal(volume.array, VOXELS[None])


def test_slices_that_all_lack_the_same_say_what_it_is(dicoms, tmp_path):
    for number, spacing in enumerate(([], [0.75])):
        folder = tmp_path / str(number)
        dicoms["write_series"](folder, PIXELS, PixelSpacing=spacing)
        assert refusal(folder) == (
            f"{number}: its slices do not say where they lie (PixelSpacing missing); choose "
            "another series"
        )


def test_a_disc_names_the_folders_of_its_series(dicoms, tmp_path):
    folder = tmp_path / "disc"
    (folder / "DICOM/P1/E1").mkdir(parents=True)
    dicoms["write_series"](folder / "DICOM/P1/E1/S1", PIXELS)
    assert refusal(folder).endswith(
        "holds no DICOM files; its folders do (DICOM/P1/E1/S1): give the folder of a series"
    )
    (folder / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM" + b"\2\0\0\0UL\4\0\0\0\0\0")
    assert refusal(folder).endswith(
        "none of its DICOM files is an image; its folders hold others (DICOM/P1/E1/S1): give the "
        "folder of a series"
    )


def change(path: Path, **tags: Any) -> str:
    image = dcmread(path)
    for name, value in tags.items():
        setattr(image, name, value)
    image.save_as(path)
    return path.name


ODD = {
    "is oriented otherwise than the other slices": {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]},
    "is spaced otherwise than the other slices (1.25 x 0.8, not 1.25 x 0.75)": {
        "PixelSpacing": [1.25, 0.8]
    },
    "has rows and columns otherwise than the other slices (6 x 5, not 5 x 6)": {
        "Rows": 6,
        "Columns": 5,
    },
    "without ImagePositionPatient; leave it out": {"ImagePositionPatient": None},
    "holds 3 frames and does not say where each lies; convert it": {"NumberOfFrames": 3},
    "lies 1 mm off the straight line": {"ImagePositionPatient": [-30.0, 22.5, 17.75]},
    "are 2.5 mm apart, most others 3.5 mm": {"ImagePositionPatient": [-31.0, 22.5, 16.75]},
    "its pixels cannot be read": {"PixelData": b"\0\0"},
}


@pytest.mark.parametrize("line", ODD)
def test_a_slice_that_does_not_fit_is_named(dicoms, tmp_path, line):
    paths = dicoms["write_series"](tmp_path / "ct", PIXELS)
    name = change(paths[3], **ODD[line])
    said = refusal(tmp_path / "ct")
    assert line in said
    assert name in said


def test_what_is_no_image_is_passed_over_and_a_folder_without_images_is_refused(dicoms, tmp_path):
    folder = tmp_path / "ct"
    paths = dicoms["write_series"](folder, PIXELS)
    (folder / "sub").mkdir()
    (folder / ".hidden.dcm").write_bytes(paths[0].read_bytes())
    report = dcmread(paths[0])
    for name in ("Rows", "Columns", "PixelData"):
        delattr(report, name)
    report.save_as(folder / "report.dcm")
    segmentation = dcmread(paths[0])
    segmentation.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
    segmentation.save_as(folder / "labels.dcm")
    volume = read_volume(folder)
    assert len(volume.slices) == 7
    assert volume.notes == (
        "left out, as no images: labels.dcm, report.dcm",
        "left out, as hidden: .hidden.dcm",
    )
    for path in paths:
        path.unlink()
    assert "none of its DICOM files is an image" in refusal(folder)
    assert "holds no DICOM files; give a file, or" in refusal(folder / "sub")
    assert holds_dicom(folder)
    assert not holds_dicom(folder / "sub")


def test_slices_that_lie_in_a_folder_within_or_are_links_to_nothing_are_named(dicoms, tmp_path):
    folder = tmp_path / "ct"
    paths = dicoms["write_series"](folder, PIXELS)
    (folder / "more").mkdir()
    (folder / "notes").mkdir()
    paths[0].rename(folder / "more" / paths[0].name)
    paths[-1].rename(tmp_path / "moved")
    paths[-1].symlink_to(tmp_path / "store/key")
    volume = read_volume(folder)
    assert len(volume.slices) == 5
    assert volume.notes == (
        f"left out, as links to what is not there: {paths[-1].name}",
        "left out, as in folders within: more",
    )
    for path in paths[1:]:
        path.unlink()
    assert "holds no DICOM files; its folders do (more): give the folder" in refusal(folder)


def test_a_damaged_header_and_a_single_slice_are_refused(dicoms, tmp_path):
    folder = tmp_path / "ct"
    paths = dicoms["write_series"](folder, PIXELS)
    for path in paths[1:]:
        path.unlink()
    assert refusal(folder) == "ct: holds one slice; give the folder of a whole series"
    change(paths[0], Rows=None)
    assert refusal(folder) == (
        f"{paths[0].name}: is damaged (TypeError); copy it again from its source"
    )


def test_without_pydicom_one_line_says_how_to_install_it(dicoms, tmp_path, monkeypatch):
    dicoms["write_series"](tmp_path / "ct", PIXELS)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert refusal(tmp_path / "ct") == (
        "reading DICOM needs pydicom: pip install 'napari-tokensparse[dicom]'"
    )
