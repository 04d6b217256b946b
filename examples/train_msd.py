"""Train on a data set in the form of the Medical Segmentation Decathlon, then evaluate.

Usage: ``python examples/train_msd.py [MINUTES [FOLDER]]``; without a folder, a tiny
data set of bright boxes is made.
"""

import json
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

from napari_tokensparse import load_model
from napari_tokensparse.datasets.cases import read_data_set
from napari_tokensparse.scoring.evaluate import evaluating
from napari_tokensparse.training.events import Chosen, Validated
from napari_tokensparse.training.run import running
from napari_tokensparse.training.runconfig import RunConfig


def boxes(folder: Path) -> Path:
    """Write three volumes with a bright box each."""
    random = np.random.default_rng(0)
    for number in range(3):
        label = np.zeros((40, 36, 32), np.uint8)
        i, j, k = random.integers(4, 16, size=3)
        label[i : i + 14, j : j + 14, k : k + 14] = 1
        image = (100 + 80 * label + random.normal(0, 10, label.shape)).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / f"image-{number}.nii.gz")
        nib.save(nib.Nifti1Image(label, np.eye(4)), folder / f"label-{number}.nii.gz")
    pairs = [{"image": f"image-{n}.nii.gz", "label": f"label-{n}.nii.gz"} for n in range(3)]
    said = {
        "name": "boxes",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "box"},
        "training": pairs[:2],
        "validation": pairs[2:],
    }
    (folder / "dataset.json").write_text(json.dumps(said))
    return folder


with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as output:
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 0.3
    data = Path(sys.argv[2]) if len(sys.argv) > 2 else boxes(Path(made))
    config = RunConfig(data=data, output=Path(output) / "model", max_minutes=minutes)
    for event in running(config):
        if isinstance(event, Chosen):
            print("\n".join(event.reasons))
        if isinstance(event, Validated):
            print(f"step {event.step}: mean Dice {event.mean_dice:.2f}")
    data_set, model = read_data_set(data), load_model(config.output)
    for scores in evaluating(data_set.validation or data_set.training, model, [1.0, 0.5]):
        dice = ", ".join(f"{name} {value:.1f}" for name, value in scores.dice.items())
        print(f"{scores.case} at keep ratio {scores.keep_ratio[0]:g}: {dice}")
