"""How a run is put on its devices: Accelerate, its precision, and a launcher's processes."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from accelerate import Accelerator
from accelerate.state import AcceleratorState

from napari_tokensparse.compute.precision import mixed_precision

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_tokensparse.training.trainconfig import TrainConfig


def choose_precision(device: str, config: TrainConfig) -> str:
    """Choose the precision; several processes of a CPU do not measure, for they might differ."""
    if device == "cpu" and config.precision == "auto" and _is_shared():
        return mixed_precision(device, "float32")
    return mixed_precision(device, config.precision)


def _is_shared() -> bool:
    """Whether a launcher started several processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def make_accelerator(device: str, precision: str) -> Accelerator:
    """Make the accelerator of a run: on the given device, or by rank under a launcher."""
    if _is_shared():
        return Accelerator(cpu=device == "cpu", mixed_precision=precision)
    # Accelerate keeps its first device for the whole process; a second run may want another.
    AcceleratorState._reset_state(reset_partial_state=True)
    with _environment("ACCELERATE_TORCH_DEVICE", device):
        return Accelerator(cpu=device == "cpu", mixed_precision=precision)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
