import platform
import time
from collections.abc import Generator
from typing import Any

import pytest

from napari_tokensparse.benchmarks.timing import MatrixRate, Round, take_turns
from napari_tokensparse.compute.machine import describe_machine


class Counted(MatrixRate):
    """Counts instead of multiplying matrices."""

    def __init__(self) -> None:
        self._seconds: list[float] = []

    def measure(self) -> None:
        self._seconds.append(2.0)


def driven(turns: Generator[Round, None, Any]) -> tuple[list[Round], Any]:
    """Return the rounds and the result."""
    rounds = []
    while True:
        try:
            rounds.append(next(turns))
        except StopIteration as stop:
            return rounds, stop.value


def test_works_take_turns_and_the_first_round_warms_up() -> None:
    done: list[str] = []

    def work(name: str, seconds: float) -> Any:
        def once() -> dict[str, float]:
            time.sleep(seconds)
            done.append(name)
            return {"half": float(len(done))}

        return once

    rate = Counted()
    rounds, taken = driven(take_turns("it", {"a": work("a", 0.02), "b": work("b", 0.0)}, 2, rate))
    assert done == ["a", "b"] * 3
    assert rounds == [Round("it", n, 3) for n in range(3)]
    assert taken["a"]["half"] == [3.0, 5.0] and taken["b"]["half"] == [4.0, 6.0]
    assert len(taken["a"]["total"]) == 2 and min(taken["a"]["total"]) >= 0.02
    assert len(rate._seconds) == 2


def test_without_a_warm_up_every_round_counts() -> None:
    done: list[None] = []
    rounds, taken = driven(
        take_turns("it", {0: lambda: done.append(None)}, 2, Counted(), warm_up=False)
    )
    assert rounds == [Round("it", 0, 2), Round("it", 1, 2)]
    assert len(done) == len(taken[0]["total"]) == 2


def test_the_rate_is_that_of_2048_cubed_multiply_accumulates() -> None:
    assert Counted().gmac_s == pytest.approx(2048**3 / 1e9 / 2.0)


def test_the_machine_is_described_without_its_name() -> None:
    machine = describe_machine()
    assert {"cpu", "cores", "threads", "torch", "os"} <= machine.keys()
    assert all(platform.node() not in str(value) for value in machine.values())
