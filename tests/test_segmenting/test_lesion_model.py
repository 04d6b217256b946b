"""The bundled model of lesions, on the patient that never was."""

from __future__ import annotations

import numpy as np

from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.folder import bundled_models_folder
from napari_tokensparse.model.presets import preset
from napari_tokensparse.scoring.metrics import dice
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.volumes.madeup import made_up_patient
from napari_tokensparse.volumes.region import Box

LEAST_DICE = 0.4
"""Lowest Dice that the model may have there."""


def test_it_finds_the_lesions_where_most_of_them_lie() -> None:
    flair, lesions = made_up_patient()
    truth = lesions.array[0] > 0
    counts = [truth.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
    middle = [int(np.convolve(c, np.ones(21), "same").argmax()) for c in counts]
    i, j, k = (m - 10 for m in middle)
    box = Box((i, j, k), (i + 21, j + 21, k + 21))
    inside = (slice(i, i + 21), slice(j, j + 21), slice(k, k + 21))
    model = load_model("ms-lesions")
    result = segment(flair, model, 0.5, region=box, overlap=0.25)
    assert truth[inside].sum() > 100
    assert dice(result.labels[inside] > 0, truth[inside]) >= LEAST_DICE
    tokens = result.stats.tokens
    assert 0 < tokens["kept"] < tokens["processed"] - tokens["pruned at 1"]


def test_it_is_the_preset_in_8_mb_and_names_its_class() -> None:
    model = load_model("ms-lesions")
    assert model.config == preset("ms-lesions")
    assert [c.name for c in model.info.classes] == ["lesion"]
    folder = bundled_models_folder() / "ms-lesions"
    assert sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) < 8_000_000
