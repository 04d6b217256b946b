"""Several images of each place in one series: what tells them apart, and which is wanted.

Echoes, magnitude and phase, water and fat, b-values and time points come so.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from napari_tokensparse.volumes.volume import TimeSeriesError, VolumeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_tokensparse.volumes.dicom.slices import Kind, Slice

SAME_PLACE_MM = 0.01
"""Slices closer than this lie in one place."""

_MOST_TOGETHER = 3  # kinds that tell images apart only together
_LISTED = 12
_UNITS = {
    **dict.fromkeys(("echo time", "trigger time", "inversion time"), " ms"),
    "b-value": " s/mm2",
    "frame time": " ms",
    "flip angle": " degrees",
    "tube voltage": " kV",
    "cardiac phase": " %",
}
_REPETITION = "repetition"  # where nothing else tells images of one place apart but their numbers


def repeats(slices: Sequence[Slice]) -> bool:
    """Whether two slices lie in one place."""
    places = _places(slices)
    return len(set(places)) < len(places)


def choose_frame(slices: Sequence[Slice], wanted: int | None, name: str) -> tuple[Slice, ...]:
    """Return the images of the one frame there is, or of the one that is wanted.

    Raises
    ------
    VolumeError
        There is no such frame.
    TimeSeriesError
        There are several and none was chosen: the line lists them as they are chosen.
    """
    kinds, images = _distinguished(slices)
    if len(images) == 1:
        if wanted:
            raise VolumeError(
                f"{name}: frame {wanted}: there is one image of each place only; leave it out"
            )
        return images[0]
    if wanted is not None and 0 <= wanted < len(images):
        return images[wanted]
    said = [f"{n} ({text})" for n, text in enumerate(describe(images, kinds))]
    more = f" and more, up to {len(images) - 1}" if len(said) > _LISTED else ""
    listed = ", ".join(said[:_LISTED]) + more
    if wanted is not None:
        raise VolumeError(f"{name}: frame {wanted}: must be one of {listed}")
    raise TimeSeriesError(
        f"{name}: holds {len(images)} images of each place; choose one with --frame N (frame=N in "
        f"Python): {listed}",
        len(images),
    )


def describe(parts: Sequence[Sequence[Slice]], kinds: Sequence[str] | None = None) -> list[str]:
    """Say of each part what tells it from the others.

    Parameters
    ----------
    parts
        Slices.
    kinds
        What to say; if not given, the first two that are one within each part and differ between
        them.
    """
    if kinds is None:
        kinds = [kind for kind in _kinds(parts) if _separates(parts, kind)][:2]
    said: list[list[str]] = [[] for _ in parts]
    for kind in kinds:
        values = [part[0].among.get(kind) for part in parts]
        for texts, value in zip(said, _without_common(values), strict=True):
            texts.append(f"{kind} {_text(value)}" + _UNITS.get(kind, "") * (value is not None))
    return [", ".join(texts) for texts in said]


def _distinguished(slices: Sequence[Slice]) -> tuple[tuple[str, ...], list[tuple[Slice, ...]]]:
    """Return what tells images of one place apart, and them; all as one where nothing does.

    What leaves every frame with every place goes before what leaves some with fewer: a trigger time
    may differ from slice to slice.
    """
    places = _places(slices)
    most = max(np.unique(places, return_counts=True)[1].tolist(), default=1)
    partly: tuple[tuple[str, ...], list[tuple[Slice, ...]]] | None = None
    for kinds in _subsets(slices) if most > 1 else ():
        parts = _parts(slices, places, kinds)
        if parts is None:
            continue
        if len(parts) == most:
            return kinds, parts
        partly = partly or (kinds, parts)
    return partly or _by_number(slices, places, most) or ((), [tuple(slices)])


def _by_number(
    slices: Sequence[Slice], places: Sequence[int], most: int
) -> tuple[tuple[str, ...], list[tuple[Slice, ...]]] | None:
    """Part slices by the order of their numbers in each place; None unless all places hold as many.

    So repetitions come whose headers say no time, as of functional MRI.
    """
    held: dict[int, list[Slice]] = defaultdict(list)
    for one, place in zip(slices, places, strict=True):
        held[place].append(one)
    numbers = [{one.image_number for one in each} - {None} for each in held.values()]
    if most == 1 or {*map(len, held.values()), *map(len, numbers)} != {most}:
        return None
    ordered = [sorted(each, key=lambda one: one.image_number or 0) for each in held.values()]
    parts = [
        tuple(replace(each[n], among={**each[n].among, _REPETITION: n + 1.0}) for each in ordered)
        for n in range(most)
    ]
    return (_REPETITION,), parts


def _subsets(slices: Sequence[Slice]) -> Iterator[tuple[str, ...]]:
    """Yield what differs among slices, alone, then together."""
    differing = [k for k in _kinds([slices]) if len({one.among.get(k) for one in slices}) > 1]
    for count in range(1, _MOST_TOGETHER + 1):
        yield from combinations(differing, count)


def _parts(
    slices: Sequence[Slice], places: Sequence[int], kinds: Sequence[str]
) -> list[tuple[Slice, ...]] | None:
    """Part slices by kinds, in the order of their values; None where places repeat in a part."""
    groups: dict[tuple[Kind | None, ...], list[Slice]] = defaultdict(list)
    for one in slices:
        groups[tuple(one.among.get(kind) for kind in kinds)].append(one)
    keys = [
        (place, *(one.among.get(k) for k in kinds))
        for one, place in zip(slices, places, strict=True)
    ]
    if len(set(keys)) < len(keys) or min(map(len, groups.values())) < 2:
        return None
    order = sorted(groups, key=lambda values: list(map(_rank, values)))
    return [tuple(groups[values]) for values in order]


def _rank(value: Kind | None) -> tuple[bool, bool, bool, Kind | None]:
    """Put values in order that may be of several types: what is not given comes first."""
    return value is not None, isinstance(value, str), isinstance(value, tuple), value


def _places(slices: Sequence[Slice]) -> list[int]:
    """Give each place of slices a number; what says nowhere where it lies has one of its own."""
    if not all(one.is_placed for one in slices):
        return list(range(len(slices)))
    planes: dict[tuple[float, ...], list[int]] = defaultdict(list)
    for n, one in enumerate(slices):
        planes[tuple(np.round(one.orientation, 3) + 0.0)].append(n)
    places, count = [0] * len(slices), 0
    for members in planes.values():
        along = np.array([slices[n].along_mm for n in members])
        order = np.argsort(along, kind="stable")
        steps = np.diff(along[order], prepend=-np.inf) >= SAME_PLACE_MM
        for n, place in zip(np.array(members)[order].tolist(), np.cumsum(steps), strict=True):
            places[n] = count + int(place)
        count += len(members) + 1
    return places


def _kinds(parts: Sequence[Sequence[Slice]]) -> list[str]:
    return list(dict.fromkeys(kind for part in parts for one in part for kind in one.among))


def _separates(parts: Sequence[Sequence[Slice]], kind: str) -> bool:
    """Whether a kind is one within each part, and not in all of them."""
    values = [{one.among.get(kind) for one in part} for part in parts]
    return all(len(each) == 1 for each in values) and len(set().union(*values)) > 1


def _without_common(values: Sequence[Kind | None]) -> list[Kind | None]:
    """Leave out of lists of words, as image types are, what all have in the same place."""
    lists = [value for value in values if isinstance(value, tuple)]
    if len(lists) < len(values) or len({len(each) for each in lists}) > 1:
        return list(values)
    differ = [n for n, words in enumerate(zip(*lists, strict=True)) if len(set(words)) > 1]
    return [tuple(each[n] for n in differ) for each in lists]


def _text(value: Kind | None) -> str:
    if value is None:
        return "not given"
    if isinstance(value, tuple):
        return " ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else value
