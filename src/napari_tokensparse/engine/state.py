"""What a training run keeps on disk: the state that a resume needs, and the best weights."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

STATE_FILE = "state.pt"
BEST_FILE = "best.pt"


@dataclass(frozen=True)
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
    """

    step: int = 0
    seconds: float = 0.0
    skipped: int = 0
    in_a_row: int = 0
    best_dice: float | None = None
    since_best: int = 0
    reason: str = ""


def counters(folder: Path) -> Counters:
    """How far the run in ``folder`` is; nothing done where there is no checkpoint."""
    path = folder / STATE_FILE
    return Counters(**read(path)["counters"]) if path.exists() else Counters()


def averaged_weights(folder: Path) -> dict[str, Tensor]:
    """Averaged weights of the last checkpoint in ``folder``."""
    prefix = "module."
    saved = read(folder / STATE_FILE)["ema"]
    return {k.removeprefix(prefix): v for k, v in saved.items() if k.startswith(prefix)}


def best_weights(folder: Path) -> dict[str, Tensor]:
    """Averaged weights of the best validation, or the last ones where there was none."""
    path = folder / BEST_FILE
    return dict(read(path)) if path.exists() else averaged_weights(folder)


def write(path: Path, state: Any) -> None:
    """Write a state under a temporary name, then rename: a kill leaves the previous file."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path) -> dict[str, Any]:
    """Read a state onto the CPU; nothing but tensors and plain values is unpickled."""
    saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return saved
