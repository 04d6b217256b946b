"""How far a batch is, in words and rows; knows nothing of Qt."""

from __future__ import annotations

import time
from functools import singledispatchmethod
from typing import TYPE_CHECKING

from napari_tokensparse.common.durations import duration
from napari_tokensparse.manyscans.onebyone import Working
from napari_tokensparse.manyscans.scans import ScanResult
from napari_tokensparse.widgets.batch.run import BatchRequest, Planned, Tabled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_tokensparse.common.tables import Cell

HEADERS = ("scan", "status", "time (s)", "kept (%)", "what to know")
_RAN = ("done", "failed")
_LISTED = 3  # failures that a line names


class BatchLog:
    """Turn the events of a batch into what a view shows.

    Parameters
    ----------
    request
        What was asked for.
    clock
        Seconds that never run backwards.

    Attributes
    ----------
    results
        What became of the scans so far.
    summary
        The table of all scans, once it is written.
    error
        Why the batch ended early; empty where it did not.
    """

    def __init__(self, request: BatchRequest, clock: Callable[[], float] = time.monotonic) -> None:
        self.request = request
        self._clock = clock
        self._names: tuple[str, ...] = ()
        self._began: float | None = None
        self._current: Working | None = None
        self._cancelled = False
        self.results: dict[str, ScanResult] = {}
        self.summary: Path | None = None
        self.error = ""

    @singledispatchmethod
    def receive(self, event: Planned | Working | ScanResult | Tabled) -> None:
        """Take in the next event."""
        raise TypeError(f"{event!r}: is no event of a batch")

    @receive.register(Planned)
    def _(self, event: Planned) -> None:
        self._names = tuple(case.name for case in event.cases)
        self._began = self._clock()

    @receive.register(Working)
    def _(self, event: Working) -> None:
        self._current = event

    @receive.register(ScanResult)
    def _(self, event: ScanResult) -> None:
        self._current = None
        self.results[event.case.name] = event

    @receive.register(Tabled)
    def _(self, event: Tabled) -> None:
        self.summary = event.summary

    def fail(self, error: str) -> None:
        """Take in that the batch cannot go on."""
        self._current, self.error = None, error

    def cancel(self) -> None:
        """Take in that a person cancelled, and that it has ended."""
        self._current, self._cancelled = None, True

    @property
    def share(self) -> float | None:
        """Share of the scans that is done, windows of the one at work included; None at first."""
        return (len(self.results) + self._part) / len(self._names) if self._names else None

    @property
    def status(self) -> str:
        """Some lines on how far the batch is."""
        if self.error:
            return self.error
        if not self._names:
            return "Cancelled." if self._cancelled else "Looking for scans …"
        if self._current is None and (self._cancelled or len(self.results) == len(self._names)):
            return self._ended()
        at = min(len(self.results) + 1, len(self._names))
        name = "" if self._current is None else f": {self._current.case.name}"
        text = f"Scan {at} of {len(self._names)}{name}"
        if self._current is not None and self._current.total:
            text += f", window {self._current.done} of {self._current.total}"
        left = self._left()
        text += "" if left is None else f", about {duration(left)} left"
        return "\n".join([text, *self._counts()])

    def rows(self) -> list[tuple[Cell, ...]]:
        """Return a row for each scan: those that failed first, then by their order."""
        known = [self._row(name) for name in self._names]
        return sorted(known, key=lambda row: row[1] != "failed")

    @property
    def _part(self) -> float:
        """Share of the scan at work that is done."""
        now = self._current
        return now.done / now.total if now is not None and now.total else 0.0

    def _left(self) -> float | None:
        ran = sum(result.status in _RAN for result in self.results.values()) + self._part
        if self._began is None or ran < 0.05:  # too early to say
            return None
        left = len(self._names) - len(self.results) - self._part
        return (self._clock() - self._began) / ran * left

    def _row(self, name: str) -> tuple[Cell, ...]:
        result = self.results.get(name)
        if result is None:
            now = self._current is not None and self._current.case.name == name
            left = "not run" if self._cancelled or self.error else "waiting"
            return name, "at work" if now else left, None, None, None
        said = result.error or "; ".join(result.notes) or None
        if result.receipt is None:
            return name, result.status, None, None, said
        tokens = result.receipt.tokens.tokens
        kept = 100 * tokens["kept"] / tokens["processed"] if tokens["processed"] else None
        return name, result.status, result.receipt.seconds["total"], kept, said

    def _counts(self) -> list[str]:
        """Say how many scans ended how, and why some failed."""
        counts: dict[str, int] = {}
        for result in self.results.values():
            counts[result.status] = counts.get(result.status, 0) + 1
        said = ", ".join(f"{count} {status}" for status, count in counts.items())
        failed = [one for one in self.results.values() if one.status == "failed"]
        lines = [f"{one.case.name}: {one.error}" for one in failed[:_LISTED]]
        more = len(failed) - _LISTED
        lines += [f"and {more} more, as the table lists"] if more > 0 else []
        return [f"{said}.", *lines] if said else []

    def _ended(self) -> str:
        left = len(self._names) - len(self.results)
        were = "1 scan was" if left == 1 else f"{left} scans were"
        lines = [f"Cancelled; {were} not run." if left else "All scans are through."]
        lines += self._counts()
        if self.results:
            lines.append(f"Labels and summary.csv are in {self.request.folder}.")
        return "\n".join(lines)
