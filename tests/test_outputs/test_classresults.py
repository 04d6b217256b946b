"""What was found of each class, computed by hand on four tokens and two stages."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.outputs.classresults import class_results, write_class_results
from napari_tokensparse.outputs.receipts import class_volumes
from napari_tokensparse.segmenting.infer import Segmentation, Stats
from napari_tokensparse.segmenting.tokenmaps import TokenMaps, TokenPlaces
from napari_tokensparse.volumes.preprocess import AxisMap
from napari_tokensparse.volumes.region import Box
from napari_tokensparse.volumes.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

NAN = math.nan
INFO = ModelInfo(
    name="hand",
    channels=("T1",),
    classes=(
        LabelClass(value=5, name="five", color=(255, 0, 0)),
        LabelClass(value=2, name="two", color=(0, 255, 0)),
    ),
)
# Voxels of 2 x 3 x 4 mm, i towards the patient's left, in tokens of 2 x 2 x 2; intensity is i.
VOLUME = Volume(
    np.broadcast_to(np.arange(4, dtype=np.int16)[:, None, None], (1, 4, 2, 4)),
    np.array([[-2.0, 0, 0, 10], [0, 3, 0, 20], [0, 0, 4, 30], [0, 0, 0, 1]]),
    "hand",
)

AXES = (AxisMap(0, 1.0, 0.0), AxisMap(1, 1.0, 0.0), AxisMap(2, 1.0, 0.0))


def in_grid(*values: float) -> np.ndarray:
    """Four tokens (0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 0, 1)."""
    return np.array(values, np.float32).reshape(2, 1, 2)


@pytest.fixture
def result() -> Segmentation:
    """Stage 1 prunes the third token, stage 2 the first; class 5 is the first two and a voxel."""
    tokens = TokenMaps(
        importance=(in_grid(0.6, 0.7, 0.2, 0.9), in_grid(0.1, 0.3, NAN, 0.8)),
        rank=(in_grid(1 / 3, 2 / 3, 0, 1), in_grid(0, 0.5, NAN, 1)),
        pruned_at=in_grid(2, 3, 1, 3).astype(np.uint8),
        among=(in_grid(4, 4, 4, 4).astype(np.int32), in_grid(3, 3, 3, 3).astype(np.int32)),
        places=TokenPlaces((4, 2, 4), AXES, (2, 1, 2), 2),
    )
    labels = np.zeros((4, 2, 4), np.uint8)
    labels[:2] = 5
    labels[3, 1, 0] = 5
    return Segmentation(labels, tokens, Stats(1, 0, (0.75, 0.7), (4, 3, 2), tokens.counts(), {}))


def test_a_class_has_its_size_place_intensity_and_tokens(result: Segmentation) -> None:
    five, _ = class_results(result, VOLUME, INFO)
    assert (five.value, five.name, five.voxels) == (5, "five", 17)
    assert five.mm3 == pytest.approx(17 * 24)
    assert five.ml == pytest.approx(0.408)
    assert five.box == Box((0, 0, 0), (4, 2, 4))
    assert five.bounds_mm == ((3, 11), (18.5, 24.5), (28, 44))
    assert five.intensity == pytest.approx(((8 * 0 + 8 * 1 + 3) / 17,))
    assert five.kept == pytest.approx(8 / 17)
    assert five.importance == pytest.approx((8 * 0.1 + 8 * 0.3 + 0.2) / 17)


def test_a_class_that_was_not_found_has_no_place_and_no_means(result: Segmentation) -> None:
    _, two = class_results(result, VOLUME, INFO)
    assert (two.voxels, two.mm3, two.box, two.bounds_mm) == (0, 0, None, None)
    assert np.isnan([*two.intensity, two.kept, two.importance]).all()


def test_values_of_no_class_are_left_out(result: Segmentation) -> None:
    before, volumes = class_results(result, VOLUME, INFO), class_volumes(result, VOLUME, INFO)
    result.labels[3, 0, 0] = 201  # as a person may paint
    assert str(class_results(result, VOLUME, INFO)) == str(before)  # nan is not itself
    assert class_volumes(result, VOLUME, INFO) == volumes


def test_tokens_that_were_not_processed_are_not_kept_and_left_out_of_the_importance(
    result: Segmentation,
) -> None:
    tokens = replace(
        result.tokens,
        importance=(in_grid(NAN, 0.7, 0.2, 0.9), in_grid(NAN, 0.3, NAN, 0.8)),
        pruned_at=in_grid(0, 3, 1, 3).astype(np.uint8),
    )
    five, _ = class_results(replace(result, tokens=tokens), VOLUME, INFO)
    assert five.kept == pytest.approx(8 / 17)
    assert five.importance == pytest.approx((8 * 0.3 + 0.2) / 9)


def test_overlapping_regions_are_measured_whole_whatever_is_painted_over_them(
    result: Segmentation,
) -> None:
    regions = np.stack([result.labels == 5, np.zeros_like(result.labels, bool)])
    regions[1, 1, 0, 2:] = True  # two voxels of the first region, in the second token
    labels = np.where(regions[1], 2, result.labels).astype(np.uint8)
    five, two = class_results(replace(result, labels=labels, regions=regions), VOLUME, INFO)
    assert (five.voxels, two.voxels) == (17, 2)
    assert two.box == Box((1, 0, 2), (2, 1, 4))
    assert two.intensity == (1.0,)
    assert two.kept == 1.0
    assert two.importance == pytest.approx(0.3)


def test_a_volume_of_many_rows_is_summed_over_all_of_them(result: Segmentation) -> None:
    tokens = replace(result.tokens, places=replace(result.tokens.places, shape=(40, 2, 4)))
    labels = np.full((40, 2, 4), 2, np.uint16)
    volume = Volume(np.ones((2, 40, 2, 4), np.float32), np.eye(4), "long")
    five, two = class_results(replace(result, labels=labels, tokens=tokens), volume, INFO)
    assert (five.voxels, two.voxels, two.intensity) == (0, 320, (1.0, 1.0))
    assert two.kept == pytest.approx(2 * 8 / 320)  # the rest lies outside the token grid


def test_the_table_is_csv_with_the_unknown_left_empty(result: Segmentation, tmp_path: Path) -> None:
    results = class_results(result, VOLUME, INFO)
    path = write_class_results(tmp_path / "table.csv", results, INFO.channels)
    with path.open(newline="", encoding="utf-8") as file:
        five, two = csv.DictReader(file)
    assert {n: five[n] for n in ("id", "name", "voxels", "volume_mm3", "volume_ml")} == {
        "id": "5",
        "name": "five",
        "voxels": "17",
        "volume_mm3": "408.0",
        "volume_ml": "0.408",
    }
    assert [five[f"{axis}_stop"] for axis in "ijk"] == ["4", "2", "4"]
    assert (five["x_min_mm"], five["z_max_mm"]) == ("3.0", "44.0")
    assert (five["mean_intensity"], five["kept_share"]) == ("0.647059", "0.470588")
    assert five["mean_last_importance"] == "0.2"
    assert (two["voxels"], two["i_start"], two["kept_share"], two["mean_intensity"]) == (
        *("0", "", "", ""),
    )


def test_each_of_several_channels_has_its_own_column(result: Segmentation, tmp_path: Path) -> None:
    array = np.stack([VOLUME.array[0], 2 * VOLUME.array[0]])
    results = class_results(result, Volume(array, VOLUME.affine, "two"), INFO)
    path = write_class_results(tmp_path / "table.csv", results, ("T1", "T2"))
    with path.open(newline="", encoding="utf-8") as file:
        five, _ = csv.DictReader(file)
    assert (five["mean_intensity_T1"], five["mean_intensity_T2"]) == ("0.647059", "1.294118")
