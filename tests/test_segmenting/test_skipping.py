"""Windows of pure background are left out, and what a trained model says of them is not missed."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.segmenting.windowing import Windowed
from napari_tokensparse.training.run import running
from napari_tokensparse.training.runconfig import RunConfig
from napari_tokensparse.volumes.reading import read_volume

pytestmark = pytest.mark.deep
SHAPE = (96, 96, 64)


def _case(seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Draw a noisy body with a bright box in it, in a volume that is 0 elsewhere."""
    rng = np.random.default_rng(seed)
    image, label = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.uint8)
    i, j, k = (int(rng.integers(0, n - 40)) for n in SHAPE)
    image[i : i + 40, j : j + 40, k : k + 40] = rng.normal(100, 10, (40, 40, 40)).clip(1)
    i, j, k = (int(rng.integers(4, 22)) + n for n in (i, j, k))
    image[i : i + 14, j : j + 14, k : k + 14] += 80
    label[i : i + 14, j : j + 14, k : k + 14] = 1
    return image, label


def _data_set(folder: Path) -> Path:
    pairs = []
    for number in range(4):
        for kind, array in zip(("image", "label"), _case(number), strict=True):
            nib.save(nib.Nifti1Image(array, np.eye(4)), folder / f"{kind}-{number}.nii.gz")
        pairs.append({"image": f"image-{number}.nii.gz", "label": f"label-{number}.nii.gz"})
    said = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "box"},
        "training": pairs[:3],
        "validation": pairs[3:],
    }
    (folder / "dataset.json").write_text(json.dumps(said))
    return folder


def test_labels_are_as_if_windows_of_background_had_been_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RunConfig(
        data=_data_set(tmp_path),
        output=tmp_path / "model",
        size="nano",
        overrides={"steps": 300, "lr": 5e-3},
    )
    for _ in running(config):
        pass
    model, volume = load_model(config.output), read_volume(tmp_path / "image-3.nii.gz")
    result = segment(volume, model, 0.5)
    assert result.stats.skipped >= 10
    monkeypatch.setattr(Windowed, "is_foreground", lambda self, start: True)
    whole = segment(volume, model, 0.5)
    assert whole.stats.skipped == 0
    truth = _case(3)[1]
    overlap = 2 * (whole.labels[truth > 0] > 0).sum() / (truth.sum() + (whole.labels > 0).sum())
    assert overlap > 0.8
    assert (result.labels == whole.labels).mean() >= 0.9999
