"""Windows to look at CT through, and whether a volume is CT by its values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WINDOWS: dict[str, tuple[float, float]] = {
    "soft tissue": (-160.0, 240.0),
    "lung": (-1350.0, 150.0),
    "bone": (-500.0, 1300.0),
    "brain": (0.0, 80.0),
    "liver": (-45.0, 105.0),
}
"""Lowest and highest Hounsfield unit that is told apart: the usual level minus and plus half the
usual width (400 about 40, 1500 about -600, 1800 about 400, 80 about 40, 150 about 30)."""
_LOOKED_AT = 2**19  # voxels: their quantiles are those of all
_AIR, _HIGHEST = -500.0, 4100.0  # 12 bits begin at -1024; metal goes beyond bone


def values_of(array: NDArray[Any]) -> tuple[float, float]:
    """Return the lowest and the highest value of about every n-th voxel of ``(i, j, k)``."""
    step = max(1, math.ceil((array.size / _LOOKED_AT) ** (1 / 3)))
    seen = np.asarray(array[::step, ::step, ::step])
    return float(seen.min()), float(seen.max())


def could_be_ct(array: NDArray[Any]) -> bool:
    """Whether values are Hounsfield units, as far as they tell.

    Much of a CT is air, near -1000, and little of it beyond what 12 bits hold; no MRI has such
    values below 0.

    Parameters
    ----------
    array
        Shape (i, j, k), signed numbers.
    """
    if array.dtype.kind not in "if" or not array.size:
        return False
    step = max(1, math.ceil((array.size / _LOOKED_AT) ** (1 / 3)))
    seen = np.asarray(array[::step, ::step, ::step])
    low, high = np.percentile(seen, (1, 99))
    tissue = np.count_nonzero((seen > -200) & (seen < 300))
    return bool(low <= _AIR and high <= _HIGHEST and tissue > 0.01 * seen.size)
