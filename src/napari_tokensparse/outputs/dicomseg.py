"""Labels as a DICOM segmentation of the series that they were made from, through highdicom."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokensparse.common.extras import lacking
from napari_tokensparse.common.files import written_whole
from napari_tokensparse.model.anatomy import codes_of
from napari_tokensparse.volumes.dicom.folder import quiet_pydicom
from napari_tokensparse.volumes.formats import reason
from napari_tokensparse.volumes.volume import VolumeError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokensparse.model.info import LabelClass, ModelInfo
    from napari_tokensparse.volumes.volume import Volume

_INSTALL = lacking("writing DICOM", "highdicom", "dicom")
# What a standard series says, if only that it is unknown; removers of names take these out.
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime"),
)
_SERIES_NUMBER = 1000  # added to that of the source


def check_seg(path: Path, like: Volume, info: ModelInfo) -> None:
    """Refuse a segmentation that could not be written, before a run rather than after it.

    A segmentation of one voxel is made in memory: so whatever highdicom asks of the series and of
    the classes is asked then.

    Raises
    ------
    VolumeError
        As `write_seg`.
    """
    check_source(path, like)
    voxel = np.zeros(like.shape, np.uint16)
    voxel[0, 0, 0] = 1
    _made(path, voxel, like, info, BytesIO())


def check_source(path: Path, like: Volume) -> None:
    """Refuse volumes that no DICOM SEG can be written of; the series itself is not looked at.

    Raises
    ------
    VolumeError
        As `write_seg`.
    """
    if not like.slices:
        raise VolumeError(
            f"{path.name}: DICOM SEG is written of a DICOM series, and {like.name} is none; name a "
            ".nii.gz or .nrrd file"
        )
    if len(set(like.slices)) < len(like.slices):
        raise VolumeError(
            f"{path.name}: DICOM SEG is not written of frames of one file, as {like.name} has; "
            "name a .nii.gz or .nrrd file"
        )
    _highdicom()


def write_seg(path: Path, labels: NDArray[Any], like: Volume, info: ModelInfo) -> Path:
    """Write a binary segmentation, one frame per slice and class that occurs in it.

    Segment n is the nth class in the order of label values; all classes are described, also those
    that do not occur. Frames have the position, orientation and spacing of their source slices, and
    the file belongs to the same patient and study.

    Parameters
    ----------
    path
        Where to.
    labels
        Shape (i, j, k), values of the model's classes.
    like
        The DICOM series.
    info
        Names, colours and codes of the classes, and the model's name for the algorithm's.

    Raises
    ------
    VolumeError
        In one line: highdicom is not installed, the volume was not read from DICOM slices, a value
        is none of the model's classes, or the series lacks what a segmentation must state.
    """
    check_source(path, like)
    classes = sorted(info.classes, key=lambda c: c.value)
    numbers = _segment_numbers(labels, classes, path.name)
    whole = BytesIO()
    _made(path, numbers, like, info, whole)
    with written_whole(path) as part:
        part.write_bytes(whole.getbuffer())
    return path


def _made(
    path: Path, numbers: NDArray[np.uint16], like: Volume, info: ModelInfo, into: BytesIO
) -> None:
    """Make a segmentation of segment numbers (i, j, k), and write it into memory."""
    classes = sorted(info.classes, key=lambda c: c.value)
    with quiet_pydicom() as pydicom:
        sources = [
            pydicom.dcmread(file, stop_before_pixels=True, force=True) for file in like.slices
        ]
        try:
            _complete(sources[0], like)
            made = _segmentation(sources, numbers.transpose(2, 1, 0), classes, info)
            made.save_as(into)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise VolumeError(
                f"{path.name}: {like.name} lacks what DICOM SEG needs ({reason(error)}); write "
                ".nii.gz instead"
            ) from error


def _complete(source: Any, like: Volume) -> None:
    """Fill in what highdicom asks of the first slice's header, and what only positions tell.

    Its text is decoded, to be written as UTF-8: highdicom refuses some of the character sets that
    headers name, an empty first one for example, and a class may be named in another one.
    """
    source.decode()
    for keyword in _MAY_BE_EMPTY:
        if keyword not in source:
            setattr(source, keyword, "")
    across = np.cross(like.affine[:3, 0], like.affine[:3, 1])
    gap = abs(float(like.affine[:3, 2] @ across / np.linalg.norm(across)))
    source.SpacingBetweenSlices = gap
    if not source.get("SliceThickness"):
        source.SliceThickness = gap


def _segment_numbers(
    labels: NDArray[Any], classes: Sequence[LabelClass], name: str
) -> NDArray[np.uint16]:
    number_of = np.zeros(max(int(labels.max()), classes[-1].value) + 1, dtype=np.uint16)
    for number, c in enumerate(classes, start=1):
        number_of[c.value] = number
    numbers: NDArray[np.uint16] = number_of[labels]
    unknown = np.unique(labels[(numbers == 0) & (labels != 0)]).tolist()
    if unknown:
        raise VolumeError(f"{name}: label {unknown[0]}: is none of the model's classes")
    return numbers


def _segmentation(
    sources: Sequence[Any],
    frames: NDArray[np.uint16],
    classes: Sequence[LabelClass],
    info: ModelInfo,
) -> Any:
    import napari_tokensparse

    highdicom = _highdicom()
    return highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=np.ascontiguousarray(frames),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=_descriptions(classes, info),
        series_instance_uid=highdicom.UID(),
        series_number=_SERIES_NUMBER + int(sources[0].get("SeriesNumber") or 0),
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="napari-tokensparse developers",
        manufacturer_model_name="napari-tokensparse",
        software_versions=napari_tokensparse.__version__,
        device_serial_number="0",
        omit_empty_frames=bool(frames.any()),  # a file of no frames is not valid
        specific_character_set="ISO_IR 192",  # UTF-8
        content_description="For research only, not for diagnosis",
        series_description=f"Segmentation by {info.name}"[:64],
    )


def _descriptions(classes: Sequence[LabelClass], info: ModelInfo) -> list[Any]:
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    highdicom = _highdicom()
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=info.name,
        family=codes.DCM.ArtificialIntelligence,
        version=info.weights_sha256[:16] or "unknown",
    )
    described = []
    for number, c in enumerate(classes, start=1):
        category, kind, *side = (Code(*code) for code in codes_of(c))
        description = highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=c.name[:64],
            segmented_property_category=category,
            segmented_property_type=kind,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            display_color=highdicom.color.CIELabColor.from_rgb(*c.color),
        )
        if side:  # PS3.3, C.8.20.4: a modifier of the type; highdicom has no argument for it
            (item,) = description.SegmentedPropertyTypeCodeSequence
            item.SegmentedPropertyTypeModifierCodeSequence = [
                highdicom.sr.CodedConcept.from_code(code) for code in side
            ]
        described.append(description)
    return described


def _highdicom() -> Any:
    try:
        import highdicom
    except ImportError:
        raise VolumeError(_INSTALL) from None
    import highdicom.color
    import highdicom.seg
    import highdicom.sr

    return highdicom
