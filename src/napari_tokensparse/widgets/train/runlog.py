"""What a training run has told so far, in words and figures; knows nothing of Qt."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import singledispatchmethod
from typing import TYPE_CHECKING

from napari_tokensparse.common.durations import duration
from napari_tokensparse.common.notes import gathered
from napari_tokensparse.model.folder import is_bundle, user_models_folder
from napari_tokensparse.training.events import (
    CaseRead,
    CheckpointSaved,
    Chosen,
    Finished,
    StepDone,
    Validated,
    Validating,
    from_json,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_tokensparse.training.events import Event

_REASONS = {
    "steps": "all steps done",
    "minutes": "time is up",
    "early stopping": "validation no longer got better",
    "stopped": "stopped",
}


@dataclass
class Curves:
    """What is plotted against the step.

    Attributes
    ----------
    steps, loss, lr
        One of each per optimisation step.
    validated
        The steps at which validations took place.
    dice
        Per class, one per validation; NaN where no case held the class.
    """

    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    validated: list[int] = field(default_factory=list)
    dice: dict[str, list[float]] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        """Take in an event; a run that went back to a checkpoint replaces what came after it."""
        if isinstance(event, StepDone):
            self._add_step(event)
        elif isinstance(event, Validated):
            self._add_validation(event)

    def _add_step(self, event: StepDone) -> None:
        if self.steps and event.step <= self.steps[-1]:
            _cut([self.steps, self.loss, self.lr], bisect_left(self.steps, event.step))
            self._cut_validations(event.step)
        self.steps.append(event.step)
        self.loss.append(event.loss)
        self.lr.append(event.lr)

    def _add_validation(self, event: Validated) -> None:
        self._cut_validations(event.step)
        for name in (*self.dice, *event.dice):
            so_far = self.dice.setdefault(name, [math.nan] * len(self.validated))
            if len(so_far) == len(self.validated):
                so_far.append(event.dice.get(name, math.nan))
        self.validated.append(event.step)

    def _cut_validations(self, step: int) -> None:
        _cut([self.validated, *self.dice.values()], bisect_left(self.validated, step))


class RunLog:
    """Turn the events of a run into what a view shows.

    Parameters
    ----------
    clock
        Seconds that never run backwards.

    Attributes
    ----------
    curves
        What to plot.
    share
        Share of the run that is done, in [0, 1], or None before the first step.
    report
        What was found in the data, chosen for the run, measured, and how it ended, a line each.
    finished
        The last event of the run.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: tuple[float, float] | None = None  # when the first step was done, its share
        self._now = "Reading the data …"
        self._validated = ""
        self._held_out = True
        self._notes: list[tuple[str, tuple[str, ...]]] = []
        self.curves = Curves()
        self.share: float | None = None
        self.seconds_left: float | None = None
        self.report: list[str] = []
        self.finished: Finished | None = None

    @property
    def status(self) -> str:
        """One or two lines on how far the run is."""
        return f"{self._now}\n{self._validated}".rstrip()

    def recall(self, file: Path) -> None:
        """Take in the curves of a run that is resumed from its file of events, if there is one."""
        for event in _recorded(file):
            self._draw(event)

    @singledispatchmethod
    def receive(self, event: Event) -> None:
        """Take in the next event."""
        raise TypeError(f"{event!r}: is no event of a training run")

    @receive.register(CaseRead)
    def _(self, event: CaseRead) -> None:
        self._now = f"Checked case {event.done} of {event.total}: {event.name}"
        self.report += [f"{event.name}: {problem}" for problem in event.problems]
        self._notes.append((event.name, event.notes))
        if event.done == event.total:
            self.report += gathered(self._notes)

    @receive.register(Chosen)
    def _(self, event: Chosen) -> None:
        self._now = f"Recipe {event.recipe}: preparing the first step …"
        self.report += event.reasons

    @receive.register(StepDone)
    def _(self, event: StepDone) -> None:
        self._draw(event)
        self.share = event.share
        self._estimate(event.share)
        left = "" if self.seconds_left is None else f", about {duration(self.seconds_left)} left"
        self._now = f"Step {event.step}: loss {event.loss:.3f}, {event.share:.0%} done{left}"
        if event.skipped:
            self._now += f" ({event.skipped} without effect: loss or gradient not finite)"

    @receive.register(Validating)
    def _(self, event: Validating) -> None:
        cases = "1 case" if event.cases == 1 else f"{event.cases} cases"
        self._now = f"Step {event.step}: validating on {cases} …"

    @receive.register(Validated)
    def _(self, event: Validated) -> None:
        self._draw(event)
        classes = ", ".join(f"{name} {dice:.3f}" for name, dice in event.dice.items())
        self.report.append(f"Step {event.step}: mean Dice {event.mean_dice:.3f} ({classes})")
        best = ", the best so far" if event.best else ""
        self._validated = (
            f"Mean Dice {event.mean_dice:.3f} on {_cases(event.held_out)} "
            f"after step {event.step}{best}"
        )

    @receive.register(CheckpointSaved)
    def _(self, event: CheckpointSaved) -> None:
        pass  # every run that ends says so itself

    @receive.register(Finished)
    def _(self, event: Finished) -> None:
        self.finished = event
        self.report += finished_text(event, self._held_out).splitlines()
        self._now, self._validated = finished_text(event, self._held_out), ""

    def _draw(self, event: Event) -> None:
        self.curves.add(event)
        if isinstance(event, Validated):
            self._held_out = event.held_out

    def _estimate(self, share: float) -> None:
        now = self._clock()
        if self._first is None:
            self._first = now, share
        began, at_first = self._first
        if share > at_first:
            self.seconds_left = (now - began) * (1 - share) / (share - at_first)


def finished_text(event: Finished, held_out: bool) -> str:
    """Say how a run ended, where its model is, how good on which cases, and how to use it."""
    lines = [f"Ended after step {event.step}: {_REASONS.get(event.reason, event.reason)}."]
    if is_bundle(event.folder):
        lines.append(f"The model is in {event.folder}; choose it in Segment.")
        if event.best_dice is not None:
            lines.append(f"Its mean Dice is {event.best_dice:.3f} on {_cases(held_out)}.")
        if event.folder.parent != user_models_folder():
            lines.append("After a restart of napari, choose that folder with Browse.")
    if event.reason == "stopped":
        lines.append("Resume goes on from the checkpoint.")
    return "\n".join(lines)


def _cases(held_out: bool) -> str:
    return "held-out cases" if held_out else "the training cases (none is held out)"


def _recorded(file: Path) -> Iterator[Event]:
    if not file.is_file():
        return
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            yield from_json(line)
        except ValueError:
            return  # a kill cut the last line short


def _cut(lists: list[list[int] | list[float]], length: int) -> None:
    for values in lists:
        del values[length:]
