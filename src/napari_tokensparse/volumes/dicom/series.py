"""Which slices of a DICOM folder belong together."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokensparse.volumes.dicom.frames import describe, repeats
from napari_tokensparse.volumes.volume import VolumeError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from napari_tokensparse.volumes.dicom.slices import Slice

_LISTED = 12


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
    description
        What tells it from the other acquisitions of its number, where their headers say more.
    """

    number: str
    uid: str
    slices: tuple[Slice, ...]
    description: str = ""

    def __str__(self) -> str:
        """Say what can be said without naming a patient."""
        first = self.slices[0]
        rows, columns = first.shape
        plane = f" {_plane(first)}" if first.is_placed else ""
        count = f"{len(self.slices)} slice{'s' * (len(self.slices) != 1)}"
        more = f", {self.description}" * bool(self.description)
        what = f"{first.modality}{plane}, {count} of {columns} x {rows}{more}"
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
    series = find_series(slices)
    if wanted is None:
        if len(series) == 1:
            return series[0].slices
        raise VolumeError(
            f"{name}: holds {len(series)} series or acquisitions; choose one with --series NUMBER "
            f"(series= in Python): {_listed(series)}"
        )
    chosen = [one for one in series if str(wanted) in (one.number, one.uid)]
    if len(chosen) == 1:
        return chosen[0].slices
    what = "is more than one acquisition" if chosen else "is not there"
    raise VolumeError(f"{name}: series {wanted} {what}; choose of {_listed(chosen or series)}")


def find_series(slices: Sequence[Slice]) -> list[Series]:
    """Tell series apart, and the acquisitions of a series that lie in the same places."""
    groups = list(_grouped(slices, lambda one: one.series).values())
    numbers = [group[0].number for group in groups]
    if None in numbers or len(set(numbers)) < len(numbers):
        numbers = list(range(1, len(groups) + 1))
    series = []
    for number, group in sorted(zip(numbers, groups, strict=True), key=lambda pair: pair[0] or 0):
        parts = _acquisitions(group)
        descriptions = describe(list(parts.values()))
        for (key, part), description in zip(parts.items(), descriptions, strict=True):
            text = str(number) if len(parts) == 1 else f"{number}.{key}"
            series.append(Series(text, group[0].series, tuple(part), description))
    return series


def _acquisitions(slices: Sequence[Slice]) -> dict[Any, list[Slice]]:
    """Tell the acquisitions of a series apart where places repeat, and do not within each."""
    parts = _grouped(slices, lambda one: one.acquisition)
    if None in parts or not repeats(slices) or any(map(repeats, parts.values())):
        return {None: list(slices)}
    return parts


def _grouped(slices: Iterable[Slice], key: Callable[[Slice], Hashable]) -> dict[Any, list[Slice]]:
    groups: dict[Any, list[Slice]] = defaultdict(list)
    for one in slices:
        groups[key(one)].append(one)
    return dict(groups)


def _plane(one: Slice) -> str:
    axis = int(np.abs(one.normal).argmax())
    return ("sagittal", "coronal", "axial")[axis]


def _listed(series: Sequence[Series]) -> str:
    more = f" and {len(series) - _LISTED} more" if len(series) > _LISTED else ""
    return ", ".join(map(str, series[:_LISTED])) + more
