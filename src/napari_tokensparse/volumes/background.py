"""What of a volume is background, where a model's preprocessing tells it by sign or by 0 alone.

MONAI's CropForegroundd keeps the box of what is above 0, and NormalizeIntensityd may leave out what
is 0. A brain that was z-scored has much of it below 0, and one that was shifted has no 0 at all. A
border of one value tells background in all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokensparse.volumes.volume import is_lazy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_tokensparse.volumes.volume import Volume

NEGATIVE = 0.01
"""From which share of what is not background on values below 0 are more than ringing."""

_ON_FACES = 0.5  # of the voxels on the faces are of one value, where background reaches them
_GAP = 1e-3  # of the range, from background to the least of the rest, where there is none
_MOVE_VOXELS = ("DivisiblePadd", "Orientationd", "Spacingd", "Zoomd")


@dataclass(frozen=True)
class _Shift:
    """How a channel gets a background of 0 and all else above it."""

    border: float
    by: float
    reason: str


def background_by_sign(definitions: Sequence[Mapping[str, Any]]) -> bool:
    """Whether transforms take what is not above 0, or is 0, for background as it is in the file.

    Where intensities are first brought into a range of their own, as CT's are, they do not.
    """
    values = [each for each in definitions if each.get("_target_") not in _MOVE_VOXELS]
    if not values or any(each.get("_target_") == "ScaleIntensityRanged" for each in values):
        return False
    first = values[0]
    if first.get("_target_") == "NormalizeIntensityd":
        return bool(first.get("nonzero")) and not ({"subtrahend", "divisor"} & set(first))
    return first.get("_target_") == "CropForegroundd"


def border_value(channel: NDArray[Any]) -> float | None:
    """Return the value of the border of ``(i, j, k)``; None if there is no such one.

    The eight corners have it, and at least half of the voxels on the faces.
    """
    ends = (0, -1)
    faces = _computed(
        *(channel[(slice(None),) * axis + (end,)] for axis in range(3) for end in ends)
    )
    corners = {float(face[j, k]) for face in faces[:2] for j in ends for k in ends}
    if len(corners) != 1:
        return None
    value = corners.pop()
    same = sum(int(np.count_nonzero(face == value)) for face in faces)
    return value if same >= _ON_FACES * sum(face.size for face in faces) else None


def negative_share(channel: NDArray[Any]) -> float:
    """Return which share of what is not 0 lies below 0."""
    if channel.dtype.kind not in "if":
        return 0.0
    below, other = map(int, _computed((channel < 0).sum(), (channel != 0).sum()))
    return below / other if other else 0.0


def with_zero_background(
    volume: Volume, definitions: Sequence[Mapping[str, Any]]
) -> tuple[Volume, tuple[str, ...]]:
    """Give a volume the background that transforms look for: 0, and all else above it.

    Parameters
    ----------
    volume
        The input. It is returned as it is unless the transforms tell background by sign, and its
        border has one value that is not 0, or much of the rest is below it. If it is read block by
        block, it still is so after, and its blocks are read once more.
    definitions
        The model's transforms.

    Returns
    -------
    volume
        float32 where it was changed.
    notes
        What was changed.
    """
    shifts = _shifts(volume, definitions)
    if not any(shifts):
        return volume, ()
    pairs = zip(volume.array, shifts, strict=True)
    array = np.stack([_shifted(channel, shift) for channel, shift in pairs])  # dask's stays lazy
    return replace(volume, array=array), _notes(shifts)


def background_notes(volume: Volume, definitions: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the notes of `with_zero_background`, and make nothing."""
    return _notes(_shifts(volume, definitions))


def _shifts(volume: Volume, definitions: Sequence[Mapping[str, Any]]) -> list[_Shift | None]:
    if not background_by_sign(definitions):
        return []
    return [_shift(channel) for channel in volume.array]


def _notes(shifts: Sequence[_Shift | None]) -> tuple[str, ...]:
    return tuple(
        f"channel {n}: " * (len(shifts) > 1) + shift.reason
        for n, shift in enumerate(shifts, start=1)
        if shift is not None
    )


def _shift(channel: NDArray[Any]) -> _Shift | None:
    border = border_value(channel)
    if border is None or (border == 0.0 and negative_share(channel) < NEGATIVE):
        return None
    low, high = _range_beside(channel, border)
    if low == high == border:
        return None
    if low > border:
        return _Shift(border, border, f"its border is {border:g}, which was taken as background, 0")
    gap = _GAP * (high - low) or 1.0
    return _Shift(
        border,
        low - gap,
        f"its border is {border:g} and values go down to {low:.4g}: the border was taken as "
        "background, and the rest shifted above it",
    )


def _range_beside(channel: NDArray[Any], border: float) -> tuple[float, float]:
    """Return the least of what is not border, and the greatest of all."""
    high = channel.max()
    low, high = _computed(np.where(channel == border, high, channel).min(), high)
    return float(low), float(high)


def _computed(*values: Any) -> tuple[Any, ...]:
    """Return parts or figures of a channel; of a lazy one, by one reading of its blocks."""
    if not is_lazy(values[0]):
        return values
    from dask.base import compute

    computed: tuple[Any, ...] = compute(*values)
    return computed


def _shifted(channel: NDArray[Any], shift: _Shift | None) -> NDArray[Any]:
    values = channel.astype(np.float32)
    if shift is None:
        return values
    shifted: NDArray[Any] = np.where(
        channel == shift.border, np.float32(0), values - np.float32(shift.by)
    )
    return shifted
