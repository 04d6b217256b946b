"""What a training run keeps on disk: the state that a resume needs, and the best weights."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ConfigDict, NonNegativeFloat, NonNegativeInt, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from napari_tokensparse.common.files import write_error
from napari_tokensparse.model.pickled import PickledError, read_pickled
from napari_tokensparse.training.folder import BEST_FILE, STATE_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor


class StateError(ValueError):
    """A file of a training run that cannot be used; one plain line says why."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Counters:
    """How far a run is.

    Attributes
    ----------
    step, seconds
        Steps done and seconds spent, validation included.
    skipped, in_a_row
        Steps that were not finite, in all and since the last one that was.
    best_dice, since_best
        Best mean Dice so far, and validations since.
    reason
        Why the run ended; empty while it goes on.
    precision
        What Accelerate calls the mixed precision that the run began with: a resume keeps it.
    """

    step: NonNegativeInt = 0
    seconds: NonNegativeFloat = 0.0
    skipped: NonNegativeInt = 0
    in_a_row: NonNegativeInt = 0
    best_dice: float | None = None
    since_best: NonNegativeInt = 0
    reason: str = ""
    precision: str = ""


_COUNTERS = TypeAdapter(Counters)


def counters(folder: Path) -> Counters:
    """How far the run in ``folder`` is; nothing done where there is no checkpoint."""
    path = folder / STATE_FILE
    return counters_of(read(path), path) if path.exists() else Counters()


def counters_of(saved: Mapping[str, Any], path: Path) -> Counters:
    """Counters of a state that was read from ``path``.

    Raises
    ------
    StateError
        They are not there, or not numbers.
    """
    try:
        return _COUNTERS.validate_python(saved["counters"])
    except (KeyError, ValidationError) as error:
        raise StateError(f"{path}: does not say how far its run is; start a new run") from error


def check_moments(optimizer: torch.optim.Optimizer) -> None:
    """Refuse moments of another shape than their parameter's, as read from a stranger's state.

    Raises
    ------
    ValueError
        There is one.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.ndim and value.shape != parameter.shape:
                raise ValueError(f"{name} of shape {tuple(value.shape)}")


def averaged_weights(folder: Path) -> dict[str, Tensor]:
    """Averaged weights of the last checkpoint in ``folder``."""
    prefix = "module."
    saved = read(folder / STATE_FILE).get("ema")
    if not isinstance(saved, dict):
        raise StateError(f"{folder / STATE_FILE}: holds no averaged weights; start a new run")
    weights = {k.removeprefix(prefix): v for k, v in saved.items() if k.startswith(prefix)}
    return _without_token_head(weights)


def best_weights(folder: Path) -> dict[str, Tensor]:
    """Averaged weights of the best validation, or the last ones where there was none."""
    path = folder / BEST_FILE
    return _without_token_head(read(path)) if path.exists() else averaged_weights(folder)


def _without_token_head(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the head that only training has."""
    return {name: value for name, value in weights.items() if not name.startswith("token_head.")}


def write(path: Path, state: Any) -> None:
    """Write a state under a temporary name, then rename: a kill leaves the previous file.

    Raises
    ------
    WriteError
        (an ``OSError``) It cannot be written, on a full disk for example.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch makes its own of what the system says
        raise write_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path) -> dict[str, Any]:
    """Read a state onto the CPU; nothing but tensors and plain values is unpickled.

    Raises
    ------
    StateError
        It is damaged, or not a state.
    """
    try:
        saved = read_pickled(path)
    except (OSError, PickledError) as error:
        raise StateError(f"{path}: is not a state of a training run ({error})") from error
    if not isinstance(saved, dict) or not all(isinstance(key, str) for key in saved):
        raise StateError(f"{path}: is not a state of a training run (no names and values)")
    return saved
