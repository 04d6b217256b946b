"""A DICOM series in a folder: found, chosen, checked slice by slice, and read by pydicom."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_tokensparse.common.extras import lacking
from napari_tokensparse.volumes.dicom.frames import choose_frame
from napari_tokensparse.volumes.dicom.geometry import check_stack, stack_affine
from napari_tokensparse.volumes.dicom.headers import TAGS, slices_of
from napari_tokensparse.volumes.dicom.pixels import read_pixels
from napari_tokensparse.volumes.dicom.series import choose_series, find_series
from napari_tokensparse.volumes.dicom.signs import begins_as_dicom, has_preamble
from napari_tokensparse.volumes.formats import Choice
from napari_tokensparse.volumes.volume import TimeSeriesError, Volume, VolumeError, volume_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari_tokensparse.volumes.dicom.slices import Slice

T = TypeVar("T")

LOOKED_AT = 64
"""Files that `holds_dicom` looks at before it says no."""

_NAMED = 3
_INSTALL = lacking("reading DICOM", "pydicom", "dicom")
_NOT_AN_IMAGE = "1.2.840.10008.5.1.4.1.1.66"  # segmentations and registrations


@dataclass(frozen=True)
class _Found:
    """What a folder holds: slices, and names of the files that were left out."""

    slices: list[Slice]
    not_dicom: list[str]
    not_images: list[str]

    @property
    def notes(self) -> tuple[str, ...]:
        """Say what was left out."""
        said = []
        for what, names in (("not DICOM", self.not_dicom), ("no images", self.not_images)):
            more = f" and {len(names) - _NAMED} more" * (len(names) > _NAMED)
            if names:
                said.append(f"left out, as {what}: {', '.join(names[:_NAMED])}{more}")
        return tuple(said)


def holds_dicom(folder: Path) -> bool:
    """Say quickly whether one of the first `LOOKED_AT` files of a folder is DICOM."""
    return any(begins_as_dicom(path) for path in _files(folder, LOOKED_AT))


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
    name, found = volume_name(folder), _found(folder)
    return _volume(choose_series(found.slices, choice.series, name), choice, name, found.notes)


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
    there = _found(folder)
    found = find_series(there.slices)
    for series in found:
        name = volume_name(folder) + f" {series.number}" * (len(found) > 1)
        try:
            volumes.append(_volume(series.slices, Choice(), name, there.notes))
        except VolumeError as error:
            problems.append(str(error))
    if not volumes:
        raise VolumeError(problems[0])
    return volumes, problems


def number_of(folder: Path, wanted: str) -> str:
    """Return the number, as it is listed, of the series that is chosen by it or its unique name."""
    found = find_series(_found(folder).slices)
    return next(one.number for one in found if wanted in (one.number, one.uid))


def number_among(folder: Path, slices: Sequence[Path]) -> str | None:
    """Return the number of the series that has these slices; None where there is no other."""
    found = find_series(_found(folder).slices)
    names = {path.name for path in slices}
    held = (one.number for one in found if names <= {each.path.name for each in one.slices})
    return next(held, None) if len(found) > 1 else None


def _volume(
    series: Sequence[Slice], choice: Choice, name: str, left_out: tuple[str, ...]
) -> Volume:
    try:
        ordered, notes = check_stack(choose_frame(series, choice.frame, name), name)
    except VolumeError as error:
        if not left_out or isinstance(error, TimeSeriesError):
            raise
        raise VolumeError(f"{error} ({'; '.join(left_out)})") from None
    with quiet_pydicom() as pydicom:
        array = read_pixels(ordered, name, pydicom)
    return Volume(
        array=array[None],
        affine=stack_affine(ordered),
        name=name,
        notes=(*left_out, *notes),
        slices=tuple(one.path for one in ordered),
        modality=ordered[0].modality,
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


def _found(folder: Path) -> _Found:
    found = _Found([], [], [])
    with quiet_pydicom() as pydicom:
        for path in sorted(_files(folder)):
            header = _header(path, pydicom)
            if header is None:
                found.not_dicom.append(path.name)
            elif "Rows" not in header or _is_no_image(header):
                found.not_images.append(path.name)
            else:
                found.slices.extend(_of_header(path, partial(slices_of, path, header)))
    if not found.slices and not found.not_images:
        raise VolumeError(f"{folder}: holds no DICOM files; give a file, or the folder of a series")
    if not found.slices:
        raise VolumeError(f"{folder}: none of its DICOM files is an image; give another folder")
    return found


def _header(path: Path, pydicom: Any) -> Any | None:
    """Read a header; None where the file is not DICOM."""
    if not begins_as_dicom(path):
        return None
    whole = has_preamble(path)

    def read() -> Any:
        return pydicom.dcmread(
            path, stop_before_pixels=True, specific_tags=list(TAGS), force=not whole
        )

    if whole:
        return _of_header(path, read)
    try:
        header = _of_header(path, read)
    except VolumeError:  # it only looked like it
        return None
    return header if "SOPClassUID" in header else None


def _is_no_image(header: Any) -> bool:
    return str(header.get("SOPClassUID", "")).startswith(_NOT_AN_IMAGE)


def _of_header(path: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except Exception as error:  # pydicom raises anything on a damaged header
        raise VolumeError(
            f"{path.name}: is damaged ({type(error).__name__}); copy it again from its source"
        ) from None
