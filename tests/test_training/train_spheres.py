"""Train a tiny network on balls in noise: ``train_spheres.py FOLDER [field=value ...]``.

A process of its own, for tests that kill it or run two of them. The first
process prints a line for each event.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
import yaml

from napari_tokensparse.model.noise import keyed_generator
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.training.events import to_json
from napari_tokensparse.training.loop import TrainSetup, train
from napari_tokensparse.training.trainconfig import TrainConfig


class Spheres:
    """A bright ball in noise at a place that the key decides; two windows of each volume."""

    def windows(self, seed: int, index: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [self._window(keyed_generator(seed, index, 0, n)) for n in range(2)]

    def _window(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        centre = 8 + 16 * torch.rand(3, 1, 1, 1, generator=generator)
        voxels = torch.stack(torch.meshgrid(*[torch.arange(32.0)] * 3, indexing="ij"))
        ball = (voxels - centre).square().sum(dim=0) < 49
        image = ball + 0.2 * torch.randn(32, 32, 32, generator=generator)
        return image[None], ball.long()


SHALLOW: dict[str, Any] = {"depth": 4, "prune_after": (0, 1, 2), "decoder": "linear"}
"""A step of it takes a fifth of the time of the whole preset's."""


def network(**changes: Any) -> SCD:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return SCD(preset("nano", **{**SHALLOW, "drop_path": 0.2, **changes}))


def main() -> None:
    folder, *fields = sys.argv[1:]
    given = {k: yaml.safe_load(v) for k, v in (f.split("=") for f in fields)}
    config = TrainConfig(**{"precision": "float32", **given})  # the same on any processor
    for event in train(network(), config, TrainSetup(Spheres(), Path(folder))):
        if os.environ.get("RANK", "0") == "0":
            print(to_json(event), flush=True)


if __name__ == "__main__":
    main()
