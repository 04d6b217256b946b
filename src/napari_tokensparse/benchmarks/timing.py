"""Fair timing: everything that is compared takes turns, and a matrix product beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Hashable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

import torch

from napari_tokensparse.benchmarks.report import TOTAL

_SIZE = 2048
_LEAST_PRODUCTS = 3

Key = TypeVar("Key", bound=Hashable)
Work = Callable[[], Mapping[str, float] | None]
"""Does something once; may return seconds of parts that it has timed itself."""
Seconds = dict[str, list[float]]
"""Seconds of every counted round, per part and in total."""


@dataclass(frozen=True)
class Round:
    """A round begins: ``done`` of ``total`` rounds of ``what`` are behind."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class Note:
    """Something that a person should know, one sentence."""

    text: str


class MatrixRate:
    """The rate of a float32 product of two 2048 x 2048 matrices, measured now and then."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self._a, self._b = (torch.randn(_SIZE, _SIZE, generator=generator) for _ in range(2))
        self._out = torch.empty(_SIZE, _SIZE)
        self._product()  # warms up
        self._seconds: list[float] = []

    def measure(self) -> None:
        """Time one product."""
        began = time.perf_counter()
        self._product()
        self._seconds.append(time.perf_counter() - began)

    @property
    def gmac_s(self) -> float:
        """Median of what was measured, in 10⁹ multiply-accumulates per second."""
        while len(self._seconds) < _LEAST_PRODUCTS:
            self.measure()
        return _SIZE**3 / 1e9 / median(self._seconds)

    def _product(self) -> None:
        torch.mm(self._a, self._b, out=self._out)


def take_turns(
    what: str,
    works: Mapping[Key, Work],
    rounds: int,
    rate: MatrixRate,
    warm_up: bool = True,
) -> Generator[Round, None, dict[Key, Seconds]]:
    """Do every work once a round, so that other work on the machine slows all of them alike.

    Parameters
    ----------
    what
        Name of it all, for the events.
    works
        What is compared.
    rounds
        Rounds that count.
    rate
        Measured in every round too.
    warm_up
        Whether a round goes before them that does not count.

    Yields
    ------
    Round
        Before each round.

    Returns
    -------
    dict
        Per work the seconds of its parts and in total.
    """
    taken: dict[Key, Seconds] = {key: {} for key in works}
    first = 0 if warm_up else 1
    for number in range(first, rounds + 1):
        yield Round(what, number - first, rounds + 1 - first)
        if number:
            rate.measure()
        for key, work in works.items():
            began = time.perf_counter()
            parts = work() or {}
            total = time.perf_counter() - began
            for part, seconds in {**parts, TOTAL: total}.items() if number else ():
                taken[key].setdefault(part, []).append(seconds)
    return taken
