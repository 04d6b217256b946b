"""Train the bundled model ``brain-structures`` and write its model folder.

The run is seeded and goes on from its checkpoint when called again::

    pip install --group train-default-model
    python tools/train_default_model.py RUN_FOLDER --minutes 60

On Linux, ``MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=16000000000`` in the environment keeps freed
memory with the process; without it a fifth of the time goes into page faults.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from brain_atlas import build_atlas, training_t1s
from napari_tokensparse.data.structures import CLASS_COUNT
from napari_tokensparse.data.synthesis import Synthesizer
from napari_tokensparse.engine.events import StepDone
from napari_tokensparse.engine.train import Setting, train
from napari_tokensparse.engine.trainconfig import TrainConfig
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD

SPACING_MM = 3.0
CONFIG = TrainConfig(
    steps=2450, lr=2e-3, warmup_steps=50, schedule="constant", cooldown=0.25, keep_range=(0.05, 1.0)
)


def frequency_weights(labels: np.ndarray) -> torch.Tensor:
    """Weights ``(K,)`` of the classes: frequency to the power -0.5, mean 1."""
    counts = np.bincount(labels.ravel(), minlength=CLASS_COUNT).astype(np.float64)
    weights = np.maximum(counts, 1) ** -0.5
    return torch.tensor(weights / weights.mean(), dtype=torch.float32)


def main() -> None:
    """Train for some minutes, printing the mean loss now and then."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the checkpoint lies")
    parser.add_argument("--minutes", type=float, default=60.0)
    arguments = parser.parse_args()
    torch.manual_seed(CONFIG.seed)
    torch.set_flush_denormal(True)  # the background is exactly 0 and its gradients vanish
    labels, _ = build_atlas()
    model = SCD(preset("brain-structures"))
    sampler = Synthesizer(
        labels, [t1 for _, t1, _ in training_t1s()], model.config.window, SPACING_MM
    )
    end, losses = time.monotonic() + 60 * arguments.minutes, []
    setting = Setting(
        sampler,
        arguments.folder,
        class_weights=frequency_weights(labels),
        stop=lambda: time.monotonic() > end,
    )
    for event in train(model, CONFIG, setting):
        if isinstance(event, StepDone):
            losses.append(event.loss)
            continue
        print(f"step {event.step}: loss {np.mean(losses):.3f}", flush=True)
        losses.clear()


if __name__ == "__main__":
    main()
