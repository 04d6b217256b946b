"""A DICOM series in a folder: found, chosen, checked slice by slice, and read by pydicom."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

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
_DEPTH = 4  # levels of folders that are looked into for a series
_INSTALL = lacking("reading DICOM", "pydicom", "dicom")
_NOT_AN_IMAGE = "1.2.840.10008.5.1.4.1.1.66"  # segmentations and registrations


@dataclass(frozen=True)
class _Contents:
    """What a folder holds: slices, and names of what was left out, by why."""

    slices: list[Slice]
    not_dicom: list[str]
    not_images: list[str]
    copies: list[str]
    passed_over: dict[str, list[str]]

    @property
    def notes(self) -> tuple[str, ...]:
        """Say what was left out."""
        what = {
            "not DICOM": self.not_dicom,
            "no images": self.not_images,
            "copies of other files": self.copies,
            **self.passed_over,
        }
        return tuple(f"left out, as {why}: {_names(names)}" for why, names in what.items() if names)


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" * (len(names) > _NAMED)
    return ", ".join(names[:_NAMED]) + more


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
    name, held = volume_name(folder), _contents(folder)
    return _volume(choose_series(held.slices, choice.series, name), choice, name, held.notes)


def read_frames(path: Path, choice: Choice) -> Volume:
    """Read one DICOM file that holds all slices of a volume, as enhanced files do.

    Raises
    ------
    VolumeError
        In one line: it is one slice of several, or as `read_dicom` says.
    """
    with quiet_pydicom() as pydicom:
        header = _header(path, pydicom)
        slices = [] if header is None else _slices(path, header)
    if len(slices) < 2:
        raise VolumeError(f"{path.name}: is one DICOM file; give the folder of its series")
    return _volume(choose_series(slices, choice.series, path.name), choice, volume_name(path), ())


def read_each(folder: Path) -> tuple[list[Volume], list[Volume], list[str]]:
    """Read every series of a folder.

    Returns
    -------
    volumes
        Called after the folder and, where there are several, the series' number.
    films
        Those of several images of each place: their first axis is of these, in the order in which
        they are chosen, and a note says what tells them apart.
    problems
        Why other series cannot be read, one line each.

    Raises
    ------
    VolumeError
        As `read_dicom`, if none can be read.
    """
    volumes: list[Volume] = []
    films: list[Volume] = []
    problems: list[str] = []
    there = _contents(folder)
    each_series = find_series(there.slices)
    for series in each_series:
        name = volume_name(folder) + f" {series.number}" * (len(each_series) > 1)
        try:
            volumes.append(_volume(series.slices, Choice(), name, there.notes))
        except TimeSeriesError as error:
            films += _film(series.slices, error, name, there.notes, problems)
        except VolumeError as error:
            problems.append(str(error))
    if not (volumes or films):
        raise VolumeError(problems[0])
    return volumes, films, problems


def _film(
    slices: Sequence[Slice],
    several: TimeSeriesError,
    name: str,
    left_out: tuple[str, ...],
    problems: list[str],
) -> list[Volume]:
    """Return the one volume of all images of each place; none, and a problem, if they differ."""
    try:
        frames = [_volume(slices, Choice(n), name, left_out) for n in range(several.frames)]
        array = np.concatenate([frame.array for frame in frames])
    except ValueError as error:  # VolumeError is one; numpy's is of other shapes
        problems.append(str(error))
        return []
    if not all(np.allclose(frame.affine, frames[0].affine, atol=1e-3) for frame in frames):
        problems.append(str(several))
        return []
    # The files of the slices are those of one frame, and labels are of all or of another.
    return [replace(frames[0], array=array, notes=(*frames[0].notes, str(several)), slices=())]


def number_of(folder: Path, wanted: str) -> str:
    """Return the number, as it is listed, of the series that is chosen by it or its unique name."""
    listed = find_series(_contents(folder).slices)
    return next(one.number for one in listed if wanted in (one.number, one.uid))


def number_among(folder: Path, slices: Sequence[Path]) -> str | None:
    """Return the number of the series that has these slices; None where there is no other."""
    listed = find_series(_contents(folder).slices)
    names = {path.name for path in slices}
    held = (one.number for one in listed if names <= {each.path.name for each in one.slices})
    return next(held, None) if len(listed) > 1 else None


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


def _slices(path: Path, header: Any) -> list[Slice]:
    """Return the slices of a file; none where it is no image."""
    if "Rows" not in header or _is_no_image(header):
        return []
    return _of_header(path, partial(slices_of, path, header))


def _without_copies(slices: Sequence[Slice], pydicom: Any) -> tuple[list[Slice], list[str]]:
    """Leave out files that are others' copies, as a second download makes: name and pixels alike.

    Anonymised files may share one name for all, so that the pixels are compared too.
    """
    first: dict[tuple[Any, ...], Path] = {}
    copies: dict[Path, bool] = {}
    for one in sorted(slices, key=lambda each: (len(each.path.name), each.path.name)):
        key = (one.image, one.index, one.position, one.orientation)
        earlier = first.setdefault(key, one.path)
        if one.image and one.is_placed and earlier != one.path and one.path not in copies:
            copies[one.path] = _same_pixels(earlier, one.path, pydicom)
    kept = [one for one in slices if not copies.get(one.path)]
    return kept, [path.name for path, same in copies.items() if same]


def _same_pixels(one: Path, other: Path, pydicom: Any) -> bool:
    def pixels(path: Path) -> bytes:
        read = partial(pydicom.dcmread, path, force=True)
        return bytes(_of_header(path, read).get("PixelData", b""))

    return pixels(one) == pixels(other)


def _passed_over(folder: Path) -> dict[str, list[str]]:
    """Name what is not read of a folder though it may be of the series."""
    with os.scandir(folder) as entries:
        each = sorted(entries, key=lambda entry: entry.name)
    hidden = [e.name for e in each if e.name.startswith(".")]
    shown = [e for e in each if not e.name.startswith(".")]
    return {
        "links to what is not there": [
            e.name for e in shown if e.is_symlink() and not Path(e.path).exists()
        ],
        "hidden": [n for n in hidden if (folder / n).is_file() and begins_as_dicom(folder / n)],
        "in folders within": [
            within.relative_to(folder).as_posix()
            for e in shown
            if e.is_dir()
            for within in _holding(Path(e.path), _DEPTH)
        ],
    }


def _holding(folder: Path, depth: int) -> list[Path]:
    """Return the folders that hold DICOM: this one, or those within it, some levels down."""
    try:
        if holds_dicom(folder):
            return [folder]
        within = sorted(each for each in folder.iterdir() if each.is_dir() and depth)
    except OSError:  # it may not be looked into
        return []
    return [held for each in within for held in _holding(each, depth - 1)]


def _contents(folder: Path) -> _Contents:
    contents = _Contents([], [], [], [], _passed_over(folder))
    with quiet_pydicom() as pydicom:
        for path in sorted(_files(folder)):
            header = _header(path, pydicom)
            if header is None:
                contents.not_dicom.append(path.name)
            elif slices := _slices(path, header):
                contents.slices.extend(slices)
            else:
                contents.not_images.append(path.name)
        contents.slices[:], contents.copies[:] = _without_copies(contents.slices, pydicom)
    if not contents.slices:
        raise VolumeError(f"{folder}: {_nothing(contents)}")
    return contents


def _nothing(contents: _Contents) -> str:
    """Say that a folder itself holds no slices, and which one does."""
    within = contents.passed_over["in folders within"]
    what = "none of its DICOM files is an image" if contents.not_images else "holds no DICOM files"
    if within:
        do = "hold others" if contents.not_images else "do"
        return f"{what}; its folders {do} ({_names(within)}): give the folder of a series"
    place = "another folder" if contents.not_images else "a file, or the folder of a series"
    return f"{what}; give {place}"


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
