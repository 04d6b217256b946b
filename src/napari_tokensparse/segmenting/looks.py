"""What a scan looks like, from every n-th of its voxels: how much it holds, and of what values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokensparse.volumes.background import border_value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.volumes.volume import Volume

_VOXELS = 2**23  # of a channel, at most, about, that are looked at
_SPECKS = 1e-3  # share of a plane below which what it holds is noise
_AIR_HU = (-1100.0, -800.0)
_SOFT_HU = (-150.0, 150.0)
_LEAST_AIR, _LEAST_SOFT = 0.01, 0.03  # shares of all voxels
_NOT_AIR = -200.0  # no CT in Hounsfield units is without anything below


@dataclass(frozen=True, eq=False)
class Looks:
    """What a scan looks like.

    Attributes
    ----------
    borders
        Per channel, the value of its border; 0 where there is no single one.
    bordered
        Whether the border of every channel has a single value.
    foreground_ml
        How much of it is not its border's value in some channel.
    longest_mm
        How long that is along the axis where it is longest; 0 of nothing.
    inside
        Values of the first channel that are not its border's; ``(n,)``.
    air
        Which share of the first channel has values that air has in CT.
    hounsfield
        Whether the first channel looks like CT in Hounsfield units; None where it may or may not.
    """

    borders: tuple[float, ...]
    bordered: bool
    foreground_ml: float
    longest_mm: float
    inside: NDArray[Any]
    air: float
    hounsfield: bool | None


def looks_of(volume: Volume) -> Looks:
    """Look at a volume; of one with more than eight million voxels, at every n-th along each axis.

    A lazy array is computed once, at those voxels.
    """
    step = max(1, math.ceil(math.cbrt(math.prod(volume.shape) / _VOXELS)))
    every = slice(None, None, step)
    values = [border_value(channel) for channel in volume.array]
    borders = tuple(value or 0.0 for value in values)
    seen = np.asarray(volume.array[:, every, every, every])
    filled = [
        channel != np.array(border, channel.dtype)
        for channel, border in zip(seen, borders, strict=True)
    ]
    shown: NDArray[np.bool_] = np.logical_or.reduce(filled)
    voxel_ml = volume.voxel_mm3 / 1000
    air = _share(seen[0], _AIR_HU)
    return Looks(
        borders=borders,
        bordered=None not in values,
        foreground_ml=int(np.count_nonzero(shown)) * step**3 * voxel_ml,
        longest_mm=max(
            n * step * mm for n, mm in zip(_lengths(shown), volume.spacing, strict=True)
        ),
        inside=seen[0][filled[0]],
        air=air,
        hounsfield=_hounsfield(seen[0], air),
    )


def is_head(looks: Looks, info: ModelInfo) -> bool:
    """Whether a scan holds more than the model was made for, as a brain with its skull does."""
    return info.foreground_ml is not None and looks.foreground_ml > info.foreground_ml[1]


def _lengths(shown: NDArray[np.bool_]) -> list[int]:
    """Return how many planes along each axis lie between the first and the last that is filled."""
    lengths = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        counts = np.count_nonzero(shown, axis=others)
        planes = np.flatnonzero(counts > _SPECKS * shown.size / shown.shape[axis])
        lengths.append(int(planes[-1] - planes[0] + 1) if len(planes) else 0)
    return lengths


def _hounsfield(values: NDArray[Any], air: float) -> bool | None:
    if air >= _LEAST_AIR and _share(values, _SOFT_HU) >= _LEAST_SOFT:
        return True
    return None if (values < _NOT_AIR).any() else False


def _share(values: NDArray[Any], span: tuple[float, float]) -> float:
    """Return which share of values lies in a span."""
    if values.dtype.kind == "u" and span[1] < 0:
        return 0.0
    return int(np.count_nonzero((values >= span[0]) & (values <= span[1]))) / values.size
