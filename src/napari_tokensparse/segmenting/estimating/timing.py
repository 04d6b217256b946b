"""Timing some work as if nothing else went on, and splitting what it took between kinds of work."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Clock = Callable[[], float]
    Line = tuple[float, float]

_LONG, _TIMES = 1.0, 3  # seconds after which, and times at most that, something is repeated
_SIDE = 768  # of the matrix that is multiplied to see how busy the machine is: many small ones
# would wait, after each, for a window that draws
_ENOUGH = 0.05  # seconds of the processor: Windows counts them in steps of 0.016
_PATIENCE = 1.0  # seconds of the clock, in which a machine must have given them
_BUSIEST = 20.0  # times as slow as when it is free, at most


class Stopwatch:
    """Tells how long work would take if nothing else went on, whatever does.

    How busy the machine is, is told from work that all threads share: on a free machine each of
    them gets as many seconds of a processor as the clock counts, on a busy one fewer. No earlier
    measurement is needed for that, which may have been made on a busy machine too.

    Parameters
    ----------
    clock, cpu
        Give seconds: those of the clock, and those that processors worked for this process; of a
        single thread, for that thread alone, as a window may draw meanwhile.
    """

    def __init__(self, clock: Clock = time.perf_counter, cpu: Clock | None = None) -> None:
        self._clock, self._cpu = clock, cpu
        self._met: list[float] = []

    def slowdown(self) -> float:
        """Return how many times as long as on a free machine work takes now."""
        matrix = torch.ones(_SIDE, _SIDE)
        threads = torch.get_num_threads()
        cpu = self._cpu or (time.thread_time if threads == 1 else time.process_time)
        began, used = self._clock(), cpu()
        took = worked = 0.0
        while took < _PATIENCE and worked < _ENOUGH:
            matrix @ matrix
            took, worked = self._clock() - began, cpu() - used
        share = worked / threads
        met = min(_BUSIEST, max(1.0, took / share)) if share > 0 else _BUSIEST
        self._met.append(met)
        return met

    @property
    def busy(self) -> float:
        """How many times as long work took, on average since the first look."""
        return sum(self._met) / len(self._met) if self._met else 1.0

    def timed(self, work: Callable[[], object]) -> float:
        """Time some work once."""
        before = self._met[-1] if self._met else self.slowdown()
        began = self._clock()
        work()
        took = self._clock() - began
        return 2 * took / (before + self.slowdown())

    def usual(self, work: Callable[[], object]) -> float:
        """Time some work, a few times if it is short, and return the median."""
        seconds: list[float] = []
        while len(seconds) < _TIMES and sum(seconds) < _LONG:
            seconds.append(self.timed(work))
        return median(seconds)


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
