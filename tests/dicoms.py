"""DICOM series written slice by slice, for the tests that read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

ROTATED = (0.8, 0.0, -0.6, 0.36, 0.8, 0.48)
"""A row and a column that are unit vectors at right angles, none along an axis of the patient."""
PLANES = {
    "axial": (1.0, 0, 0, 0, 1.0, 0),
    "sagittal": (0, 1.0, 0, 0, 0, -1.0),
    "coronal": (1.0, 0, 0, 0, 0, -1.0),
    "oblique": ROTATED,
}
PATIENT = "Doe^Jane"


def write_series(
    folder: Path,
    pixels: NDArray[Any],
    plane: Sequence[float] = PLANES["axial"],
    *,
    origin: Sequence[float] = (-31.0, 22.5, 7.25),
    spacing: Sequence[float] = (1.25, 0.75),
    step: Sequence[float] | float = 3.5,
    prefix: str = "IM",
    **tags: Any,
) -> list[Path]:
    """Write slices (n, rows, columns), each at ``origin + n * step``.

    ``plane`` is the direction along a row and that along a column, ``spacing`` between rows and
    between columns; all in LPS mm. A number for ``step`` is along the normal. The names of the
    files, and the numbers of the slices, are in another order than their positions. ``tags`` are
    set in each; a list gives one value per slice.
    """
    folder.mkdir(exist_ok=True)
    if isinstance(step, (int, float)):
        step = step * np.cross(plane[:3], plane[3:])
    common = {
        **{"PatientName": PATIENT, "PatientID": "JD-1", "PatientBirthDate": "19700101"},
        **{"PatientSex": "F", "AccessionNumber": "", "StudyID": "", "StudyDate": "20200102"},
        **{"StudyTime": "101500", "ReferringPhysicianName": ""},
        **{"Modality": "MR", "SeriesNumber": 5, "SeriesInstanceUID": generate_uid()},
        **{"StudyInstanceUID": generate_uid(), "FrameOfReferenceUID": generate_uid()},
        **{"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"},
        **{"BitsAllocated": 16, "BitsStored": 16, "HighBit": 15},
        "PixelRepresentation": int(pixels.dtype == np.int16),
        **{"PixelSpacing": list(spacing), "ImageOrientationPatient": list(plane)},
        **tags,
    }
    order = np.random.default_rng(0).permutation(len(pixels))
    paths = []
    for n, number in enumerate(order.tolist()):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = MRImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"{prefix}{number:03d}.dcm"
        image = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        image.SOPClassUID = MRImageStorage
        image.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        image.InstanceNumber = number + 1
        image.Rows, image.Columns = pixels[n].shape
        image.ImagePositionPatient = [float(v) for v in np.array(origin) + n * np.array(step)]
        image.PixelData = pixels[n].tobytes()
        for name, value in common.items():
            per_slice = isinstance(value, list) and len(value) == len(pixels) > 6
            setattr(image, name, value[n] if per_slice else value)
        image.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _item(**tags: Any) -> Dataset:
    made = Dataset()
    for name, value in tags.items():
        setattr(made, name, value)
    return made


def _group(frame: dict[str, Any]) -> Dataset:
    said = _item(PlanePositionSequence=[_item(ImagePositionPatient=list(frame["position"]))])
    if "b" in frame:
        said.MRDiffusionSequence = [_item(DiffusionBValue=float(frame["b"]))]
    if "echo" in frame:
        said.MREchoSequence = [_item(EffectiveEchoTime=float(frame["echo"]))]
    if "kind" in frame:
        said.MRImageFrameTypeSequence = [_item(FrameType=list(frame["kind"]))]
    if "scaling" in frame:
        slope, intercept = frame["scaling"]
        scaling = _item(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="US")
        said.PixelValueTransformationSequence = [scaling]
    return said


def write_enhanced(
    path: Path,
    pixels: NDArray[Any],
    frames: Sequence[dict[str, Any]],
    plane: Sequence[float] = PLANES["axial"],
    spacing: Sequence[float] = (1.25, 0.75),
) -> Path:
    """Write frames (n, rows, columns) of an enhanced MR image into one file.

    Each of ``frames`` gives ``position`` (LPS mm) and, where wanted, ``b``, ``echo``, ``kind`` (its
    FrameType) and ``scaling``. Plane and spacing are shared by all.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    common = {
        **{"PatientName": PATIENT, "PatientID": "JD-1", "PatientBirthDate": "19700101"},
        **{"PatientSex": "F", "AccessionNumber": "", "StudyID": "", "StudyDate": "20200102"},
        **{"StudyTime": "101500", "Modality": "MR", "SeriesNumber": 5},
        **{
            "SOPClassUID": EnhancedMRImageStorage,
            "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        },
        **{"SeriesInstanceUID": generate_uid(), "StudyInstanceUID": generate_uid()},
        **{
            "FrameOfReferenceUID": generate_uid(),
            "InstanceNumber": 1,
            "NumberOfFrames": len(pixels),
        },
        **{"Rows": pixels.shape[1], "Columns": pixels.shape[2], "SamplesPerPixel": 1},
        **{"PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16, "BitsStored": 16},
        **{"HighBit": 15, "PixelRepresentation": 0, "PixelData": pixels.tobytes()},
        "SharedFunctionalGroupsSequence": [
            _item(
                PixelMeasuresSequence=[_item(PixelSpacing=list(spacing), SliceThickness=3.5)],
                PlaneOrientationSequence=[_item(ImageOrientationPatient=list(plane))],
            )
        ],
        "PerFrameFunctionalGroupsSequence": [_group(frame) for frame in frames],
    }
    for name, value in common.items():
        setattr(image, name, value)
    image.save_as(path, enforce_file_format=True)
    return path


def without_preamble(path: Path, *, meta: bool = False, implicit: bool = False) -> None:
    """Write a file again from its first element on, as old scanners and archives do.

    With ``meta`` the file's own description (group 0002) stays, else it begins with group 0008.
    """
    image = dcmread(path)
    image.pixel_array  # noqa: B018  # read, before its file is gone
    if meta:
        path.write_bytes(path.read_bytes()[132:])
        return
    with path.open("wb") as file:
        dcmwrite(file, Dataset(image), implicit_vr=implicit, little_endian=True)


def ras_of(
    plane: Sequence[float],
    index: Sequence[int],
    origin: Sequence[float] = (-31.0, 22.5, 7.25),
    spacing: Sequence[float] = (1.25, 0.75),
    step: Sequence[float] | float = 3.5,
) -> NDArray[np.float64]:
    """Return where voxel (column, row, slice) lies in RAS mm, by the formula of PS3.3 C.7.6.2."""
    column, row, n = index
    if isinstance(step, (int, float)):
        step = step * np.cross(plane[:3], plane[3:])
    lps = (
        np.array(origin)
        + np.array(plane[:3]) * spacing[1] * column
        + np.array(plane[3:]) * spacing[0] * row
        + np.array(step) * n
    )
    return lps * (-1, -1, 1)
