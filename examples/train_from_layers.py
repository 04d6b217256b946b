"""Train on an image and its labels as two layers hold them, then segment with the new model.

Usage: ``python examples/train_from_layers.py [STEPS]``.

What opens in napari as an image layer and a labels layer is here two arrays.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from napari_tokensparse import segment
from napari_tokensparse.datasets.cases import layers_data_set
from napari_tokensparse.training.events import Finished, StepDone
from napari_tokensparse.training.run import running
from napari_tokensparse.training.runconfig import RunConfig
from napari_tokensparse.volumes.volume import Volume

voxels = np.stack(np.meshgrid(*[np.arange(32)] * 3, indexing="ij"))
ball = ((voxels - 15.5) ** 2).sum(axis=0) < 81
noise = np.random.default_rng(0).normal(size=ball.shape)
image = Volume((100 + 100 * ball + 10 * noise).astype(np.float32)[None], np.eye(4), "ball")
labels = Volume(ball[None].astype(np.uint8), np.eye(4), "painted")

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 60
data_set = layers_data_set([(image, labels)], zero_is_background=True, names={1: "ball"})
with tempfile.TemporaryDirectory() as folder:
    config = RunConfig(
        output=Path(folder) / "ball", size="nano", overrides={"steps": steps, "lr": 5e-3}
    )
    for event in running(config, data_set=data_set):
        if isinstance(event, StepDone) and event.step % 20 == 0:
            print(f"step {event.step}: loss {event.loss:.2f}")
        if isinstance(event, Finished):
            print(f"wrote {event.folder.name}: {event.reason}")
    result = segment(image, config.output)
labelled = result.labels == 1
dice = 2 * (labelled & ball).sum() / (labelled.sum() + ball.sum())
print(f"Dice of the ball: {dice:.1f}")
