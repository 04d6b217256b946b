"""How a training run is shown: a bar in a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

from napari_tokensparse.common.durations import duration
from napari_tokensparse.common.notes import gathered
from napari_tokensparse.training.events import CaseRead, Chosen, StepDone, Validated

if TYPE_CHECKING:
    from napari_tokensparse.training.events import Event

QUIET_SECONDS = 20.0
"""Time between two lines about steps where there is no bar."""


class RunDisplay:
    """Shows the events of a run on stderr, as a context.

    Parameters
    ----------
    console
        Where to; a bar is drawn only if it is a terminal.
    list_bad
        Whether bad cases are left out of the run, so that no error lists what is wrong with them.
    """

    def __init__(self, console: Console | None = None, list_bad: bool = False) -> None:
        self._console = console or Console(stderr=True)
        columns = ("{task.description}", BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._task = self._bar.add_task("Reading cases", total=None)
        self._list_bad = list_bad
        self._bad = 0
        self._notes: list[tuple[str, tuple[str, ...]]] = []
        self._dice = ""
        self._said = -QUIET_SECONDS
        self._began: tuple[float, float] | None = None

    def __enter__(self) -> RunDisplay:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:  # elsewhere it would leave an empty line
            self._bar.stop()

    def show(self, event: Event) -> None:
        """Show an event, if it is one that a person wants to see."""
        if isinstance(event, CaseRead):
            self._case(event)
        elif isinstance(event, Chosen):
            self._say(f"Recipe {event.recipe}: " + "\n  ".join(event.reasons))
        elif isinstance(event, StepDone):
            self._step(event)
        elif isinstance(event, Validated):
            self._validated(event)

    def _case(self, event: CaseRead) -> None:
        self._bad += bool(event.problems)
        self._notes.append((event.name, event.notes))
        self._bar.update(self._task, total=event.total, completed=event.done)
        for problem in event.problems if self._list_bad else ():
            self._say(f"Left out {event.name}: {problem}")
        if event.done == event.total:
            bad = f", {self._bad} of them bad" if self._bad else ""
            self._say(f"Read {event.total} case{'s' * (event.total != 1)}{bad}")
            for line in gathered(self._notes):
                self._say(f"Note: {line}")

    def _step(self, event: StepDone) -> None:
        skipped = f", {event.skipped} skipped as not finite" if event.skipped else ""
        text = f"step {event.step}: loss {event.loss:.3f}{self._dice}{skipped}"
        self._bar.update(self._task, description=text, total=1.0, completed=event.share)
        now = time.monotonic()
        left = self._left(now, event.share)
        if not self._console.is_terminal and now - self._said >= QUIET_SECONDS:
            self._said = now
            self._say(f"{text}, {100 * event.share:.0f} % done{left}")

    def _left(self, now: float, share: float) -> str:
        """Say the time left at the pace since the first step shown."""
        if self._began is None:
            self._began = (now, share)
        seconds, done = now - self._began[0], share - self._began[1]
        return f", about {duration(seconds / done * (1 - share))} left" if done > 0 else ""

    def _validated(self, event: Validated) -> None:
        self._dice = f", Dice {event.mean_dice:.3f}"
        classes = ", ".join(f"{name} {dice:.3f}" for name, dice in event.dice.items())
        where = "held-out cases" if event.held_out else "a training case"
        self._say(f"step {event.step}: mean Dice {event.mean_dice:.3f} on {where} ({classes})")

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
