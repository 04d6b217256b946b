"""Timing some work, and splitting what it took between kinds of work."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Clock = Callable[[], float]
    Line = tuple[float, float]

_LONG, _TIMES = 1.0, 3  # seconds after which, and times at most that, something is repeated


def usual(work: Callable[[], object], clock: Clock) -> float:
    """Time some work, a few times if it is short, and return the median."""
    seconds: list[float] = []
    while len(seconds) < _TIMES and sum(seconds) < _LONG:
        seconds.append(timed(work, clock))
    return median(seconds)


def timed(work: Callable[[], object], clock: Clock) -> float:
    """Time some work once."""
    began = clock()
    work()
    return clock() - began


def two_rates(amounts: Sequence[Line], seconds: Sequence[float]) -> Line:
    """Split seconds between two kinds of work, as `rates_of`."""
    first, second = rates_of(amounts, seconds)
    return first, second


def rates_of(amounts: Sequence[tuple[float, ...]], seconds: Sequence[float]) -> list[float]:
    """Split seconds between kinds of work, of which there was more or less each time."""
    from scipy.optimize import nnls  # takes a while, and a run of one scan needs none of it

    scale = np.max(amounts, axis=0)
    rates: list[float] = (nnls(np.array(amounts) / scale, np.array(seconds))[0] / scale).tolist()
    return rates
