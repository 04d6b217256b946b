"""DICOM segmentations, read back by highdicom: the same labels in the same places."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import highdicom
import numpy as np
import pytest
from pydicom import dcmread

from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.outputs.writing import check_output, write_volume
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import Volume, VolumeError

if TYPE_CHECKING:
    from pathlib import Path

HIPPOCAMPUS = (("123037004", "SCT", "Anatomical Structure"), ("5366008", "SCT", "Own name"))
INFO = ModelInfo(
    name="three-parts",
    channels=("T1",),
    classes=(
        LabelClass(value=53, name="Right-Hippocampus", color=(220, 216, 20)),
        LabelClass(value=3, name="Left-Cortex", color=(205, 62, 78)),
        LabelClass(value=17, name="Left-Hippocampus", color=(0, 0, 255), codes=HIPPOCAMPUS),
    ),
    weights_sha256="0123456789abcdef" * 4,
)
VALUES = {1: 3, 2: 17, 3: 53}  # segments are numbered in the order of label values


def scan(dicoms, folder: Path, plane: str = "axial", tilt: float = 0.0, **tags) -> Volume:
    pixels = np.random.default_rng(1).integers(0, 4000, (7, 5, 6)).astype(np.uint16)
    row, column = np.reshape(dicoms["PLANES"][plane], (2, 3))
    step = 3.5 * np.cross(row, column) + tilt * column
    dicoms["write_series"](folder, pixels, [*row, *column], step=step, **tags)
    return read_volume(folder)


def some_labels(volume: Volume) -> np.ndarray:
    labels = np.random.default_rng(2).choice([0, 3, 17], volume.shape)
    labels[:, :, 3] = 0
    return labels


def voxels_of(path: Path) -> dict[int, set[tuple[float, ...]]]:
    """Return where the voxels of each label lie, in RAS mm, by what each frame's header says."""
    image = highdicom.seg.segread(path)
    shared = image.SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient)
    between_rows, between_columns = shared.PixelMeasuresSequence[0].PixelSpacing
    places: dict[int, set[tuple[float, ...]]] = {}
    for frame, header in zip(
        image.pixel_array, image.PerFrameFunctionalGroupsSequence, strict=True
    ):
        origin = np.array(header.PlanePositionSequence[0].ImagePositionPatient)
        number = header.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        for row, column in np.argwhere(frame):
            lps = origin + cosines[:3] * between_columns * column + cosines[3:] * between_rows * row
            place = tuple(np.round(lps * (-1, -1, 1), 6) + 0.0)
            places.setdefault(VALUES[number], set()).add(place)
    return places


@pytest.mark.parametrize(
    ("plane", "tilt"), [("axial", 0.0), ("sagittal", 0.0), ("oblique", 0.0), ("axial", 0.25)]
)
def test_every_voxel_of_every_label_comes_back_where_it_lay(dicoms, tmp_path, plane, tilt):
    volume = scan(dicoms, tmp_path / "mr", plane, tilt)
    labels = some_labels(volume)
    path = write_volume(tmp_path / "labels.DCM", labels, volume, info=INFO)
    wanted = {
        value: {
            tuple(np.round((volume.affine @ [*index, 1])[:3], 6) + 0.0)
            for index in np.argwhere(labels == value)
        }
        for value in (3, 17)
    }
    assert sum(map(len, wanted.values())) == np.count_nonzero(labels) > 80
    assert voxels_of(path) == wanted


def test_highdicom_gives_the_labels_slice_by_slice(dicoms, tmp_path):
    volume = scan(dicoms, tmp_path / "mr", "coronal")
    labels = some_labels(volume)
    path = write_volume(tmp_path / "labels.dcm", labels, volume, info=INFO)
    slices = highdicom.seg.segread(path).get_pixels_by_source_instance(
        [dcmread(file).SOPInstanceUID for file in volume.slices],
        combine_segments=True,
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )  # (slice, row, column), values 1 to 3
    values = np.array([0, *VALUES.values()])
    assert np.array_equal(values[slices].transpose(2, 1, 0), labels)


def test_segments_have_names_colours_and_the_model_as_their_algorithm(dicoms, tmp_path):
    volume = scan(dicoms, tmp_path / "mr")
    path = write_volume(tmp_path / "labels.dcm", some_labels(volume), volume, info=INFO)
    image, source = dcmread(path), dcmread(volume.slices[0])
    segments = image.SegmentSequence
    assert [s.SegmentLabel for s in segments] == [
        "Left-Cortex",
        "Left-Hippocampus",
        "Right-Hippocampus",
    ]
    algorithm = segments[0].SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == (
        "three-parts",
        "0123456789abcdef",
    )
    assert segments[1].SegmentAlgorithmType == "AUTOMATIC"
    kinds = [s.SegmentedPropertyTypeCodeSequence[0] for s in segments]
    assert [(k.CodeValue, k.CodeMeaning) for k in kinds] == [
        ("85756007", "Tissue"),  # no structure is called Left-Cortex
        ("5366008", "Own name"),
        ("5366008", "Hippocampus"),
    ]
    sides = [k.get("SegmentedPropertyTypeModifierCodeSequence", []) for k in kinds]
    assert [[(s.CodeValue, s.CodeMeaning) for s in side] for side in sides] == [
        [],
        [],
        [("24028007", "Right")],
    ]
    category = segments[1].SegmentedPropertyCategoryCodeSequence[0]
    assert (category.CodeValue, category.CodingSchemeDesignator) == ("123037004", "SCT")
    lightness, a, b = segments[1].RecommendedDisplayCIELabValue  # blue: L* 30, a* 68, b* -112 (D50)
    assert lightness / 65535 * 100 == pytest.approx(31, abs=3)
    assert a / 65535 * 255 - 128 == pytest.approx(70, abs=12)
    assert b / 65535 * 255 - 128 == pytest.approx(-110, abs=4)
    for keyword in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert image[keyword].value == source[keyword].value
    assert image.SeriesInstanceUID != source.SeriesInstanceUID
    assert image.Modality == "SEG"


def test_a_series_without_names_is_enough_and_no_label_at_all_is_a_file(dicoms, tmp_path):
    volume = scan(dicoms, tmp_path / "mr")
    for file in volume.slices:
        image = dcmread(file)
        for keyword in ("PatientName", "PatientID", "StudyDate", "AccessionNumber"):
            delattr(image, keyword)
        image.save_as(file)
    path = write_volume(tmp_path / "none.dcm", np.zeros(volume.shape, int), volume, info=INFO)
    assert not dcmread(path).pixel_array.any()
    assert len(dcmread(path).SegmentSequence) == 3


def test_what_cannot_be_a_dicom_segmentation_is_refused_in_one_line(dicoms, tmp_path, monkeypatch):
    volume = scan(dicoms, tmp_path / "mr")
    out, labels = tmp_path / "labels.dcm", some_labels(volume)
    other = replace(volume, slices=(), name="scan")
    with pytest.raises(VolumeError, match=r"^labels.dcm: DICOM SEG is written of a DICOM series, "):
        check_output(out, other, INFO)
    assert check_output(out) == out  # what it will be of is not known yet
    with pytest.raises(
        VolumeError, match=r"^labels.dcm: DICOM SEG is for labels that a model made"
    ):
        write_volume(out, labels, volume)
    with pytest.raises(VolumeError, match=r"^labels.dcm: label 5: is none of the model's classes$"):
        write_volume(out, np.full(volume.shape, 5), volume, info=INFO)
    for file in volume.slices:
        image = dcmread(file)
        del image.FrameOfReferenceUID
        image.save_as(file)
    for refused in (
        lambda: write_volume(out, labels, volume, info=INFO),
        lambda: check_output(out, volume, INFO),  # before a run
    ):
        with pytest.raises(VolumeError, match=r"mr lacks what DICOM SEG needs \(.*Frame Of Refere"):
            refused()
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(VolumeError, match=r"^writing DICOM needs highdicom: pip install 'napari-"):
        check_output(out, volume, INFO)
    assert not list(tmp_path.glob("*labels*"))


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("", "Doe^Jane"),
        ("ISO_IR 100", "Müller^Jürgen"),
    ],
)
def test_names_come_through_whatever_character_sets_the_series_states(
    dicoms, tmp_path, charset, name
):
    volume = scan(dicoms, tmp_path / "mr", SpecificCharacterSet=charset, PatientName=name)
    assert dcmread(volume.slices[0]).PatientName == name
    parts = INFO.model_copy(
        update={"classes": (LabelClass(value=3, name="Großhirnrinde", color=(205, 62, 78)),)}
    )
    assert check_output(tmp_path / "labels.dcm", volume, parts) == tmp_path / "labels.dcm"
    labels = np.where(some_labels(volume) == 3, 3, 0)
    image = dcmread(write_volume(tmp_path / "labels.dcm", labels, volume, info=parts))
    assert image.PatientName == name
    assert image.SegmentSequence[0].SegmentLabel == "Großhirnrinde"


def test_a_series_without_preambles_is_enough(dicoms, tmp_path):
    volume = scan(dicoms, tmp_path / "mr")
    for file in volume.slices:
        dicoms["without_preamble"](file)
    volume = read_volume(tmp_path / "mr")
    path = write_volume(tmp_path / "labels.dcm", some_labels(volume), volume, info=INFO)
    assert set(voxels_of(path)) == {3, 17}


def test_frames_of_one_file_are_refused_before_a_run(dicoms, tmp_path):
    folder = tmp_path / "mr"
    folder.mkdir()
    pixels = np.ones((4, 5, 6), np.uint16)
    places = [{"position": (0, 0, 2 * n)} for n in range(4)]
    dicoms["write_enhanced"](folder / "one.dcm", pixels, places)
    with pytest.raises(VolumeError, match=r"^labels.dcm: DICOM SEG is not written of frames of"):
        check_output(tmp_path / "labels.dcm", read_volume(folder), INFO)
