"""Whether slices make one volume, and if not, which of them do not fit."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokensparse.volumes.dicom.frames import SAME_PLACE_MM
from napari_tokensparse.volumes.volume import VolumeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_tokensparse.volumes.dicom.slices import Slice

UNEVEN = 0.01
"""How far a slice may lie from an even grid, as a share of its step."""
ROUNDED = 0.25
"""How far it may lie from it, at most, for the rounding of positions in headers."""
NOTED = 0.002
"""From which share of a step on a note says how far they do."""
OFF_LINE_MM = 0.1
"""How far a slice may lie from the straight line through the first and the last."""
SHEAR_FROM_DEGREES = 0.1
"""From which tilt between the stack and the normal of its slices a note says so."""

_NAMED = 3
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def check_stack(slices: Sequence[Slice], name: str) -> tuple[list[Slice], tuple[str, ...]]:
    """Put slices in order along their normal, if they make one volume.

    Returns
    -------
    slices
        In order.
    notes
        What to tell of them.

    Raises
    ------
    VolumeError
        In one line that names the files, and where they lie: one does not say where it lies, holds
        several frames or colours, differs from the others, lies where another does, or slices are
        missing between two.
    """
    _check_single(slices, name)
    _check_alike(slices, name)
    if len(slices) < 2:
        raise VolumeError(f"{name}: holds one slice; give the folder of a whole series")
    ordered = sorted(slices, key=lambda one: one.along_mm)
    _check_gaps(ordered, name)
    positions = np.array([one.position for one in ordered])
    rounded = _check_even(ordered, name)
    _check_line(ordered, positions, name)
    return ordered, (*rounded, *_shear_note(ordered[0].normal, positions[-1] - positions[0]))


def stack_affine(ordered: Sequence[Slice]) -> NDArray[np.float64]:
    """Return the affine, (column, row, slice) to RAS mm, of slices in order.

    Notes
    -----
    DICOM PS3.3, C.7.6.2.1.1; the last axis goes from the first slice to the last in even steps, or
    where positions are rounded, along the even steps that fit all of them best.
    """
    first = ordered[0]
    between_rows, between_columns = first.spacing
    affine = np.eye(4)
    affine[:3, 0] = np.multiply(first.orientation[:3], between_columns)
    affine[:3, 1] = np.multiply(first.orientation[3:], between_rows)
    affine[:3, 2], affine[:3, 3] = _line(np.array([one.position for one in ordered]))
    return _LPS_TO_RAS @ affine


def _line(positions: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return step and start of the even steps that slices lie on."""
    numbers = np.arange(len(positions))
    step, start = np.polyfit(numbers, positions, 1)
    away = np.linalg.norm(positions - start - numbers[:, None] * step, axis=1)
    if away.max() > NOTED * np.linalg.norm(step):
        return step, start
    return (positions[-1] - positions[0]) / (len(positions) - 1), positions[0]


def _check_single(slices: Sequence[Slice], name: str) -> None:
    lost = [one for one in slices if not one.is_placed]
    if lost and lost[0].frames > 1:
        raise VolumeError(
            f"{name}: {lost[0].path.name}: holds {lost[0].frames} frames and does not say where "
            "each lies; convert it to NIfTI, for example with dcm2niix"
        )
    if len(lost) == len(slices):
        raise VolumeError(
            f"{name}: its slices do not say where they lie ({', '.join(lost[0].lacking)} missing); "
            "choose another series"
        )
    if lost:
        raise VolumeError(
            f"{name}: {_names(lost)}: without {' and '.join(lost[0].lacking)}; leave it out"
        )


def _check_alike(slices: Sequence[Slice], name: str) -> None:
    kinds: dict[str, Callable[[Slice], Any]] = {
        "is oriented": lambda one: tuple(np.round(one.orientation, 3) + 0.0),
        "is spaced": lambda one: tuple(np.round(one.spacing, 4)),
        "has rows and columns": lambda one: one.shape,
    }
    for what, key in kinds.items():
        common = Counter(map(key, slices)).most_common(1)[0][0]
        odd = [one for one in slices if not np.allclose(key(one), common, atol=2e-3)]
        if odd:
            odd_one, usual = (
                " x ".join(f"{v:g}" for v in values) for values in (key(odd[0]), common)
            )
            raise VolumeError(
                f"{name}: {_names(odd)}: {what} otherwise than the other slices ({odd_one}, not "
                f"{usual}); leave it out"
            )


def _check_gaps(ordered: Sequence[Slice], name: str) -> None:
    gaps = np.diff([one.along_mm for one in ordered])
    pairs = list(zip(ordered, ordered[1:], gaps.tolist(), strict=False))
    twice = [(a, b) for a, b, gap in pairs if gap < SAME_PLACE_MM]
    if twice:
        said = ", ".join(f"{a.path.name} and {_at(b)}" for a, b in twice[:_NAMED])
        raise VolumeError(
            f"{name}: slices that lie in one place: {said}{_more(twice)}; keep one of each"
        )
    usual = float(np.median(gaps))
    missing = [(a, b, gap) for a, b, gap in pairs if gap > 1.5 * usual]
    if missing:
        count = sum(round(gap / usual) - 1 for *_, gap in missing)
        said = ", ".join(f"between {_at(a)} and {_at(b)}" for a, b, _ in missing[:_NAMED])
        raise VolumeError(
            f"{name}: {count} of its slices, {usual:g} mm apart, are missing {said}"
            f"{_more(missing)}; copy the whole series"
        )


def _check_even(ordered: Sequence[Slice], name: str) -> tuple[str, ...]:
    """Compare slices with the even grid that fits them best; say so if it is for rounding only."""
    along = np.array([one.along_mm for one in ordered])
    numbers = np.arange(len(ordered))
    step, first = np.polyfit(numbers, along, 1)
    away = np.abs(along - first - step * numbers)
    worst = int(away.argmax())
    if away[worst] <= NOTED * step:
        return ()
    rounding = min(_rounding(ordered, ordered[0].normal), ROUNDED * step)
    if away[worst] <= max(UNEVEN * step, rounding):
        return (
            f"the slices lie up to {away[worst]:.2g} mm from even steps, as where positions are "
            f"rounded in headers; they were taken as {step:.4g} mm apart",
        )
    gaps, usual = np.diff(along), float(np.median(np.diff(along)))
    odd = int(np.abs(gaps - usual).argmax())
    raise VolumeError(
        f"{name}: slices {_at(ordered[odd])} and {_at(ordered[odd + 1])} are {gaps[odd]:.4g} mm "
        f"apart, most others {usual:.4g} mm; choose a series of even spacing"
    )


def _rounding(ordered: Sequence[Slice], across: NDArray[np.float64]) -> float:
    """Return how far a slice may lie off in a direction, mm, for the digits of the positions.

    Zeros at a number's end are often left out, so the finest of all counts.
    """
    units = np.array([one.rounding for one in ordered]).min(axis=0)
    return float(np.abs(across) @ units)


def _check_line(ordered: Sequence[Slice], positions: NDArray[np.float64], name: str) -> None:
    steps = np.linspace(0.0, 1.0, len(ordered))[:, None]
    away = np.linalg.norm(
        positions - (positions[0] + steps * (positions[-1] - positions[0])), axis=1
    )
    worst = int(away.argmax())
    if away[worst] > max(OFF_LINE_MM, _rounding(ordered, np.ones(3))):
        raise VolumeError(
            f"{name}: slice {_at(ordered[worst])} lies {away[worst]:.2g} mm off the straight line "
            "of the others; choose another series"
        )


def _shear_note(normal: NDArray[np.float64], stack: NDArray[np.float64]) -> tuple[str, ...]:
    cosine = float(normal @ stack / np.linalg.norm(stack) / np.linalg.norm(normal))
    degrees = float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))
    if degrees <= SHEAR_FROM_DEGREES:
        return ()
    return (f"the slices are stacked at {degrees:.1f} degrees to their normal (gantry tilt)",)


def _at(one: Slice) -> str:
    frame = f" frame {one.index}" * (one.frames > 1)
    return f"{one.path.name}{frame} (at {one.along_mm:.5g} mm)"


def _names(slices: Sequence[Slice]) -> str:
    paths = list(dict.fromkeys(one.path.name for one in slices))
    return ", ".join(paths[:_NAMED]) + _more(paths)


def _more(items: Sequence[Any]) -> str:
    return f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
