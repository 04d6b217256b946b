"""A DICOM series in a folder: found, chosen, checked slice by slice, and read through MONAI.

What is read of the headers is listed in `TAGS` and beside it; no name, date or number of a patient
is among them.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokensparse.common.extras import lacking
from napari_tokensparse.volumes.dicom.geometry import check_stack, stack_affine
from napari_tokensparse.volumes.dicom.series import Slice, choose_series, find_series, frames_of
from napari_tokensparse.volumes.formats import Choice, is_one_frame, native, reason
from napari_tokensparse.volumes.volume import Volume, VolumeError, volume_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

LOOKED_AT = 64
"""Files that `holds_dicom` looks at before it says no."""

TAGS = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "Modality"),
    *("AcquisitionNumber", "TemporalPositionIdentifier", "TriggerTime", "EchoTime"),
    *("DiffusionBValue", "InstanceNumber", "NumberOfFrames", "SamplesPerPixel"),
    *("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient"),
)
_SCALING_TAGS = ("RescaleSlope", "RescaleIntercept")
_PIXEL_TAGS = (
    *("PixelData", "FloatPixelData", "DoubleFloatPixelData", "BitsAllocated", "BitsStored"),
    *("HighBit", "PixelRepresentation", "PhotometricInterpretation", "PlanarConfiguration"),
)
_INSTALL = lacking("reading DICOM", "pydicom", "dicom")
_NOT_AN_IMAGE = "1.2.840.10008.5.1.4.1.1.66"  # segmentations and registrations


def holds_dicom(folder: Path) -> bool:
    """Say quickly whether one of the first `LOOKED_AT` files of a folder is DICOM."""
    return any(is_dicom(path) for path in _files(folder, LOOKED_AT))


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do: 128 bytes of anything, then ``DICM``."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_dicom(folder: Path, choice: Choice) -> Volume:
    """Read one series of a folder; see `read_volume`.

    Slices are put in order by where they lie, along the normal of their plane. The affine is
    exact: also where the stack is oblique, or sheared by the tilt of a gantry.

    Raises
    ------
    VolumeError
        In one line: pydicom is not installed, there is no series or several and none was chosen,
        or slices are missing, lie twice in one place or differ in orientation, spacing or size.
    """
    name = volume_name(folder)
    return _volume(choose_series(_slices(folder), choice.series, name), choice, name)


def read_each(folder: Path) -> tuple[list[Volume], list[str]]:
    """Read every series of a folder.

    Returns
    -------
    volumes
        Called after the folder and, where there are several, the series' number.
    problems
        Why other series cannot be read, one line each.

    Raises
    ------
    VolumeError
        As `read_dicom`, if none can be read.
    """
    volumes, problems = [], []
    found = find_series(_slices(folder))
    for series in found:
        name = volume_name(folder) + f" {series.number}" * (len(found) > 1)
        try:
            volumes.append(_volume(series.slices, Choice(), name))
        except VolumeError as error:
            problems.append(str(error))
    if not volumes:
        raise VolumeError(problems[0])
    return volumes, problems


def number_of(folder: Path, wanted: str) -> str:
    """Return the number, as it is listed, of the series that is chosen by it or its unique name."""
    found = find_series(_slices(folder))
    return next(one.number for one in found if wanted in (one.number, one.uid))


def number_among(folder: Path, slices: Sequence[Path]) -> str | None:
    """Return the number of the series that has these slices; None where there is no other."""
    found = find_series(_slices(folder))
    names = {path.name for path in slices}
    held = (one.number for one in found if names <= {each.path.name for each in one.slices})
    return next(held, None) if len(found) > 1 else None


def _volume(series: Sequence[Slice], choice: Choice, name: str) -> Volume:
    frames = frames_of(series)
    is_one_frame((1, 1, 1, len(frames)), choice, name, "")
    ordered, notes = check_stack(frames[choice.frame or 0], name)
    array = _through_monai([one.path for one in ordered], name)
    return Volume(
        array=_rescaled(native(array), ordered)[None],
        affine=stack_affine(ordered),
        name=name,
        notes=notes,
        slices=tuple(one.path for one in ordered),
    )


@contextmanager
def quiet_pydicom() -> Iterator[Any]:
    """Give pydicom, without its warnings: they quote what files hold, a patient's name perhaps.

    Raises
    ------
    VolumeError
        It is not installed.
    """
    try:
        import pydicom
    except ImportError:
        raise VolumeError(_INSTALL) from None
    import warnings

    with pydicom.config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield pydicom


def _files(folder: Path, most: int | None = None) -> Iterator[Path]:
    """Give the files of a folder itself, without hidden ones."""
    with os.scandir(folder) as entries:
        files = (e for e in entries if not e.name.startswith(".") and e.is_file())
        for entry, _ in zip(files, range(most) if most else iter(int, 1), strict=False):
            yield Path(entry.path)


def _slices(folder: Path) -> list[Slice]:
    found = sorted(filter(is_dicom, _files(folder)))
    if not found:
        raise VolumeError(f"{folder}: holds no DICOM files; give a file, or the folder of a series")
    with quiet_pydicom() as pydicom:
        slices = [_slice(path, pydicom) for path in found]
    images = [one for one in slices if one is not None]
    if not images:
        raise VolumeError(f"{folder}: none of its DICOM files is an image; give another folder")
    return images


def _slice(path: Path, pydicom: Any) -> Slice | None:
    """Read a header; None where the file is not an image."""
    try:
        header = pydicom.dcmread(
            path, stop_before_pixels=True, specific_tags=[*TAGS, *_SCALING_TAGS]
        )
        if "Rows" not in header or str(header.get("SOPClassUID", "")).startswith(_NOT_AN_IMAGE):
            return None
        return Slice.of(path, header)
    except Exception as error:  # pydicom raises anything on a damaged header
        raise VolumeError(
            f"{path.name}: is damaged ({type(error).__name__}); copy it again from its source"
        ) from None


def _through_monai(paths: Sequence[Path], name: str) -> NDArray[Any]:
    """Return (i, j, k) as stored, i along a row.

    MONAI's affine is not taken: where a header writes a number with more than DICOM's 16 letters,
    as many do, it passes over the tag and gives the identity.
    """
    with quiet_pydicom():
        from monai.data.image_reader import PydicomReader

        reader = PydicomReader(specific_tags=[*TAGS, *_PIXEL_TAGS])
        datasets = []
        for number, path in enumerate(paths):
            try:
                datasets.append(reader.read(path))
                datasets[-1].pixel_array  # noqa: B018  # decoded here, to know whose fault it is
            except Exception as error:  # each codec has errors of its own
                raise VolumeError(
                    f"{path.name}: its pixels cannot be read ({reason(error)}); copy it again, or "
                    "decompress it"
                ) from None
            datasets[-1].InstanceNumber = number  # MONAI sorts by it
        reader.has_series = True
        reader.filenames = [list(paths)]  # type: ignore[list-item]  # as its read() has them
        array, _ = reader.get_data(datasets)
    if array.ndim != 3:
        raise VolumeError(f"{name}: is in colour; give a series with one number per voxel")
    return array


def _rescaled(array: NDArray[Any], ordered: Sequence[Slice]) -> NDArray[Any]:
    """Apply each slice's slope and intercept: in float32, where MONAI would take doubles."""
    slopes, intercepts = np.array([one.scaling for one in ordered], dtype=np.float32).T
    if (slopes == 1.0).all() and (intercepts == 0.0).all():
        return array
    scaled = array.astype(np.float32)
    scaled *= slopes
    scaled += intercepts
    return scaled
