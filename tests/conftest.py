"""What every test shares."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# No test, nor a process that it starts, reads or writes the settings of the person's own napari.
os.environ["NAPARI_CONFIG"] = ""

METADATA = {"version": "1", "task": "test", "description": "", "authors": "", "copyright": ""}


@pytest.fixture
def write_nano(tmp_path: Path) -> Callable[..., Path]:
    """Write a model folder of random weights: one class, windows of 32³ voxels of the input."""
    import torch

    from napari_tokensparse.model.bundle import write_bundle
    from napari_tokensparse.model.info import LabelClass, ModelInfo
    from napari_tokensparse.model.presets import preset
    from napari_tokensparse.model.scd import SCD

    def write(name: str = "nano", channels: int = 1) -> Path:
        info = ModelInfo(
            name=name,
            channels=tuple(f"channel {n}" for n in range(channels)),
            classes=(LabelClass(value=7, name="seven", color=(255, 0, 0)),),
            preprocessing=({"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},),
        )
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = SCD(preset("nano", in_channels=channels), info).eval()
        write_bundle(tmp_path / name, model, METADATA, "# nano")
        return tmp_path / name

    return write
