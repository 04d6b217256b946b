"""What a training run tells: frozen events, also as lines of JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path  # noqa: TC003  # read when the events are read back

from pydantic import TypeAdapter


@dataclass(frozen=True)
class CaseRead:
    """One case of the data set was checked; ``problems`` is empty where it is good.

    ``notes`` are what a person should know of it besides.
    """

    done: int
    total: int
    name: str
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chosen:
    """What the run uses, and why; ``steps_per_epoch`` steps see every volume once."""

    recipe: str
    reasons: tuple[str, ...]
    steps_per_epoch: int


@dataclass(frozen=True)
class StepDone:
    """One optimisation step.

    Attributes
    ----------
    step
        Its number, from 1.
    loss, lr, keep_ratio, seconds
        Mean loss of its windows, step size, keep ratio per stage and time it took.
    skipped
        Steps so far whose loss or gradient was not finite; they changed nothing.
    share
        Share of the run that is done, in [0, 1].
    """

    step: int
    loss: float
    lr: float
    keep_ratio: float
    seconds: float
    skipped: int
    share: float


@dataclass(frozen=True)
class Validating:
    """Averaged weights after ``step`` steps are about to be validated on ``cases`` cases."""

    step: int
    cases: int


@dataclass(frozen=True)
class Validated:
    """Averaged weights on whole volumes, on their own grids.

    Attributes
    ----------
    step
        Steps behind the weights.
    dice, hd95_mm
        Mean over the cases, per class or region; classes that no case holds are left out.
    mean_dice
        Mean over ``dice``.
    best
        Whether no validation before was better.
    held_out
        Whether the cases were kept out of training.
    case, preview
        Name of the first case and its labels as a file.
    """

    step: int
    dice: dict[str, float]
    hd95_mm: dict[str, float]
    mean_dice: float
    best: bool
    held_out: bool
    case: str
    preview: Path | None


@dataclass(frozen=True)
class CheckpointSaved:
    """The state after ``step`` steps is on disk at ``path``."""

    step: int
    path: Path


@dataclass(frozen=True)
class Finished:
    """The run ended; ``reason`` is "steps", "minutes", "early stopping" or "stopped"."""

    step: int
    folder: Path
    best_dice: float | None
    reason: str


Event = CaseRead | Chosen | StepDone | Validating | Validated | CheckpointSaved | Finished
_KINDS: dict[str, TypeAdapter[Event]] = {
    kind.__name__: TypeAdapter(kind)
    for kind in (CaseRead, Chosen, StepDone, Validating, Validated, CheckpointSaved, Finished)
}


def to_json(event: Event) -> str:
    """Write an event as one line of JSON."""
    return json.dumps({"event": type(event).__name__, **asdict(event)}, default=str)


def from_json(line: str) -> Event:
    """Read an event back from its line.

    Raises
    ------
    ValueError
        The line is no event.
    """
    try:
        said = json.loads(line)
        return _KINDS[said.pop("event")].validate_python(said)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{line[:80]!r}: is no event of a training run") from error
