"""The runs of a viewer, as many as a little memory holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from qtpy.QtCore import (  # type: ignore[attr-defined]  # Signal is renamed by qtpy
    QObject,
    Signal,
)

from napari_tokensparse.widgets.history.record import Run, mean_dice, reference_of
from napari_tokensparse.widgets.workers import Worker, in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import napari

    Pair = tuple[int, int]

MOST_RUNS = 30
MOST_BYTES = 512 * 2**20


class History(QObject):
    """Remembers runs, the latest last, and compares each with its reference in a thread.

    Signals
    -------
    changed
        A run came or went, or a comparison is done.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.runs: tuple[Run, ...] = ()
        self._count = 0
        self._agreement: dict[Pair, float | None] = {}
        self._asked: set[Pair] = set()
        self._worker: Worker | None = None

    def next_number(self) -> int:
        """Return the number of the next run."""
        self._count += 1
        return self._count

    def add(self, run: Run) -> None:
        """Remember a run; the oldest are forgotten where all are too many or too large."""
        runs = [*self.runs, run][-MOST_RUNS:]
        while len(runs) > 1 and sum(one.nbytes for one in runs) > MOST_BYTES:
            del runs[0]
        self.runs = tuple(runs)
        self.changed.emit()
        self._compare()

    def numbered(self, number: int | None) -> Run | None:
        """Return the run of a number; None if it is forgotten."""
        return next((run for run in self.runs if run.number == number), None)

    def agreement(self, run: Run) -> tuple[Run, float | None] | None:
        """Return what a run was compared with, and the mean Dice; None where that is not known.

        The Dice is None where both runs found nothing.
        """
        reference = reference_of(run, self.runs)
        if reference is None or (run.number, reference.number) not in self._agreement:
            return None
        return reference, self._agreement[run.number, reference.number]

    def forget_image(self, layer: Any) -> None:
        """Let go of an image that was removed; the labels of its runs stay."""
        mine = [run.image[0] == layer.unique_id for run in self.runs]
        if any(mine):
            both = zip(self.runs, mine, strict=True)
            self.runs = tuple(run.without_image() if its else run for run, its in both)
            self.changed.emit()

    def _compare(self) -> None:
        """Compare what was not compared yet, unless that is being done."""
        if self._worker is not None:
            return
        pairs = [(run, reference_of(run, self.runs)) for run in self.runs]
        missing = {
            (a.number, b.number): (a, b)
            for a, b in pairs
            if b is not None and (a.number, b.number) not in self._asked
        }
        if not missing:
            return
        self._asked |= set(missing)
        self._worker = in_thread(_agreements, list(missing.values()))
        self._worker.yielded.connect(self._take)
        self._worker.finished.connect(self._compared)
        self._worker.start()

    def _take(self, compared: tuple[Pair, float | None]) -> None:
        self._agreement[compared[0]] = compared[1]
        self.changed.emit()

    def _compared(self) -> None:
        self._worker = None
        self._compare()


def _agreements(
    pairs: Sequence[tuple[Run, Run]],
) -> Iterator[tuple[Pair, float | None]]:
    for run, reference in pairs:
        values = [c.value for c in run.info.classes]
        dice = mean_dice(run.given.array(), reference.given.array(), values)
        yield (run.number, reference.number), dice


_HISTORIES: WeakKeyDictionary[napari.Viewer, History] = WeakKeyDictionary()


def history_of(viewer: napari.Viewer) -> History:
    """Return the runs of a viewer, which outlive the widget that made them."""
    viewer = getattr(viewer, "__wrapped__", viewer)  # as in `results_of`
    if viewer not in _HISTORIES:
        history = _HISTORIES[viewer] = History()
        viewer.layers.events.removed.connect(lambda event: history.forget_image(event.value))
    return _HISTORIES[viewer]
