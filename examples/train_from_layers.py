"""Train on an image and a few painted slices, then segment the image with the new model.

What opens in napari as an image layer and a labels layer is here two arrays. 0 means "not labelled":
only three slices are painted, 1 where the ball is and 2 where it is not.
"""

import tempfile
from pathlib import Path

import numpy as np

from napari_tokensparse import segment
from napari_tokensparse.data.cases import layers_data_set
from napari_tokensparse.data.volume import Volume
from napari_tokensparse.engine.events import Finished, StepDone
from napari_tokensparse.engine.runconfig import RunConfig
from napari_tokensparse.engine.runs import running

voxels = np.stack(np.meshgrid(*[np.arange(32)] * 3, indexing="ij"))
ball = ((voxels - 15.5) ** 2).sum(axis=0) < 81
noise = np.random.default_rng(0).normal(size=ball.shape)
image = Volume((100 + 100 * ball + 10 * noise).astype(np.float32)[None], np.eye(4), "ball")
painted = np.zeros(ball.shape, np.uint8)
for number in (8, 16, 24):
    painted[number] = np.where(ball[number], 1, 2)
labels = Volume(painted[None], np.eye(4), "painted")

data_set = layers_data_set([(image, labels)], zero_is_background=False, names={1: "ball", 2: "rest"})
with tempfile.TemporaryDirectory() as folder:
    config = RunConfig(
        output=Path(folder) / "ball", size="nano", overrides={"steps": 60, "lr": 5e-3}
    )
    for event in running(config, data_set=data_set):
        if isinstance(event, StepDone) and event.step % 20 == 0:
            print(f"step {event.step}: loss {event.loss:.2f}")
        if isinstance(event, Finished):
            print(f"wrote {event.folder.name}: {event.reason}")
    result = segment(image, config.output)
found = result.labels == 1
dice = 2 * (found & ball).sum() / (found.sum() + ball.sum())
print(f"Dice of the ball, painted on 3 of its slices: {dice:.1f}")
