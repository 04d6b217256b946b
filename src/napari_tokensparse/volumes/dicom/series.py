"""Which slices of a DICOM folder belong together."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokensparse.volumes.volume import VolumeError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SAME_PLACE_MM = 0.01
"""Slices closer than this lie in one place."""

_LISTED = 12
_FRAME_TAGS = ("TemporalPositionIdentifier", "TriggerTime", "EchoTime", "DiffusionBValue")


@dataclass(frozen=True)
class Slice:
    """What a slice's header says, without its pixels.

    Attributes
    ----------
    path
        Its file.
    series, number
        SeriesInstanceUID and SeriesNumber, empty and None where missing.
    acquisition
        AcquisitionNumber.
    modality
        For example ``MR``.
    shape
        Rows and columns.
    spacing
        PixelSpacing: of rows and of columns, mm.
    orientation
        ImageOrientationPatient: along a row and along a column, LPS.
    position
        ImagePositionPatient: centre of the first voxel, LPS mm.
    frames
        NumberOfFrames.
    scaling
        RescaleSlope and RescaleIntercept; 1 and 0 where missing.
    among
        What tells images of one place apart: time point, trigger and echo time, b-value.
    """

    path: Path
    series: str
    number: int | None
    acquisition: int | None
    modality: str
    shape: tuple[int, int]
    spacing: tuple[float, ...]
    orientation: tuple[float, ...]
    position: tuple[float, ...]
    frames: int
    scaling: tuple[float, float]
    among: tuple[float | None, ...]

    @classmethod
    def of(cls, path: Path, header: Any) -> Slice:
        """Read a pydicom header; what is missing is empty."""

        def numbers(tag: str) -> tuple[float, ...]:
            return tuple(float(value) for value in header.get(tag) or ())

        def number(tag: str) -> float | None:
            value = header.get(tag)
            return None if value is None or value == "" else float(value)

        def whole(tag: str) -> int | None:
            value = number(tag)
            return None if value is None else int(value)

        slope = number("RescaleSlope")
        return cls(
            path=path,
            series=str(header.get("SeriesInstanceUID", "")),
            number=whole("SeriesNumber"),
            acquisition=whole("AcquisitionNumber"),
            modality=str(header.get("Modality", "")),
            shape=(int(header.Rows), int(header.Columns)),
            spacing=numbers("PixelSpacing"),
            orientation=numbers("ImageOrientationPatient"),
            position=numbers("ImagePositionPatient"),
            frames=whole("NumberOfFrames") or 1,
            scaling=(1.0 if slope is None else slope, number("RescaleIntercept") or 0.0),
            among=tuple(number(tag) for tag in _FRAME_TAGS),
        )

    @property
    def is_placed(self) -> bool:
        """Whether the header says where the slice lies."""
        return (len(self.spacing), len(self.orientation), len(self.position)) == (2, 6, 3)

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector across the slice, LPS."""
        return np.cross(self.orientation[:3], self.orientation[3:])

    @property
    def along_mm(self) -> float:
        """Where the slice lies along its own normal."""
        return float(self.normal @ np.array(self.position))


@dataclass(frozen=True)
class Series:
    """Slices that make one volume, or frames of it.

    Attributes
    ----------
    number
        What it is chosen by: the SeriesNumber, ``5.2`` for its acquisition 2.
    uid
        SeriesInstanceUID.
    slices
        In the order of their files' names.
    """

    number: str
    uid: str
    slices: tuple[Slice, ...]

    def __str__(self) -> str:
        """Say what can be said without naming a patient."""
        first = self.slices[0]
        rows, columns = first.shape
        plane = f" {_plane(first)}" if first.is_placed else ""
        count = f"{len(self.slices)} slice{'s' * (len(self.slices) != 1)}"
        what = f"{first.modality}{plane}, {count} of {columns} x {rows}"
        return f"{self.number} ({what.strip()})"


def choose_series(
    slices: Sequence[Slice], wanted: str | int | None, name: str
) -> tuple[Slice, ...]:
    """Return the slices of the one series there is, or of the one that is wanted.

    Raises
    ------
    VolumeError
        There are several and none was chosen, or there is no such one: the line lists them.
    """
    found = find_series(slices)
    if wanted is None:
        if len(found) == 1:
            return found[0].slices
        raise VolumeError(
            f"{name}: holds {len(found)} series or acquisitions; choose one with --series NUMBER "
            f"(series= in Python): {_listed(found)}"
        )
    chosen = [one for one in found if str(wanted) in (one.number, one.uid)]
    if len(chosen) == 1:
        return chosen[0].slices
    what = "is more than one acquisition" if chosen else "is not there"
    raise VolumeError(f"{name}: series {wanted} {what}; choose of {_listed(chosen or found)}")


def find_series(slices: Sequence[Slice]) -> list[Series]:
    """Tell series apart, and the acquisitions of a series that lie in the same places."""
    groups = list(_grouped(slices, lambda one: one.series).values())
    numbers = [group[0].number for group in groups]
    if None in numbers or len(set(numbers)) < len(numbers):
        numbers = list(range(1, len(groups) + 1))
    found = []
    for number, group in sorted(zip(numbers, groups, strict=True), key=lambda pair: pair[0] or 0):
        parts = _apart(group, lambda one: one.acquisition)
        for key, part in parts.items():
            text = str(number) if len(parts) == 1 else f"{number}.{key}"
            found.append(Series(text, group[0].series, tuple(part)))
    return found


def frames_of(slices: Sequence[Slice]) -> list[tuple[Slice, ...]]:
    """Return the frames of a series that holds several images of each place, else all as one."""
    for tag in range(len(_FRAME_TAGS)):
        parts = _apart(slices, partial(_among, tag))
        if len(parts) > 1:
            return [tuple(part) for _, part in sorted(parts.items())]
    return [tuple(slices)]


def _among(tag: int, one: Slice) -> float | None:
    return one.among[tag]


def _apart(slices: Sequence[Slice], key: Callable[[Slice], Any]) -> dict[Any, list[Slice]]:
    """Tell slices apart by ``key`` where places repeat, and do not within each part."""
    parts = _grouped(slices, key)
    if None in parts or not _repeats(slices) or any(map(_repeats, parts.values())):
        return {None: list(slices)}
    return parts


def _repeats(slices: Sequence[Slice]) -> bool:
    """Whether two slices lie in one place."""
    if not all(one.is_placed for one in slices):
        return False
    by_plane = _grouped(slices, lambda one: tuple(np.round(one.orientation, 3)))
    return any(
        np.diff(sorted(one.along_mm for one in plane)).min(initial=np.inf) < SAME_PLACE_MM
        for plane in by_plane.values()
    )


def _grouped(
    slices: Iterable[Slice], key: Callable[[Slice], Hashable]
) -> dict[Hashable, list[Slice]]:
    groups: dict[Hashable, list[Slice]] = defaultdict(list)
    for one in slices:
        groups[key(one)].append(one)
    return dict(groups)


def _plane(one: Slice) -> str:
    axis = int(np.abs(one.normal).argmax())
    return ("sagittal", "coronal", "axial")[axis]


def _listed(found: Sequence[Series]) -> str:
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return ", ".join(map(str, found[:_LISTED])) + more
