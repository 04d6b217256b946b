from collections.abc import Callable

import numpy as np
import pytest

from napari_tokensparse.model.scd import SCD
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.segmenting.options import options_for
from napari_tokensparse.segmenting.pins import (
    pins_of,
    read,
    tokens_under,
    written,
)
from napari_tokensparse.segmenting.result import SegmentError
from napari_tokensparse.segmenting.tokenmaps import TokenPlaces
from napari_tokensparse.volumes.preprocess import AxisMap
from napari_tokensparse.volumes.volume import Volume

GRID = (2, 3, 4)


@pytest.fixture(scope="module")
def model(make_model: Callable[..., SCD]) -> SCD:
    return make_model()


@pytest.fixture(scope="module")
def volume() -> Volume:
    """Two windows of 32 voxels, one behind the other."""
    noise = np.random.default_rng(0).normal(size=(1, 32, 32, 48)).astype(np.float32)
    return Volume(noise, np.eye(4), "noise")


def test_tokens_are_written_as_spans_and_read_back() -> None:
    tokens = np.zeros(GRID, bool)
    tokens.reshape(-1)[[0, 1, 2, 7, 22, 23]] = True
    assert written(tokens) == "0-2,7,22-23"
    assert np.array_equal(read("0-2, 7,22-23", GRID), tokens)
    assert written(np.zeros(GRID, bool)) is None


@pytest.mark.parametrize("text", ["", "a", "3-1", "24", "0-24", "1--2", "-1"])
def test_pins_that_name_no_token_are_refused_in_a_line(text: str) -> None:
    with pytest.raises(SegmentError, match=r"^pins ") as refused:
        read(text, GRID)
    assert "\n" not in str(refused.value)


def test_a_mask_chooses_the_tokens_that_hold_one_of_its_voxels() -> None:
    axes = (AxisMap(2, 1.0, 0.0), AxisMap(0, -1.0, 15.0), AxisMap(1, 2.0, 0.0))
    places = TokenPlaces((32, 16, 12), axes, GRID, 8)
    mask = np.zeros(places.shape, bool)
    mask[9, 15, 4] = mask[31, 0, 0] = True
    chosen = tokens_under(mask, places)
    assert np.argwhere(chosen).tolist() == [[0, 1, 1], [1, 0, 3]]
    with pytest.raises(SegmentError, match="must be the scan's"):
        tokens_under(mask[1:], places)


def test_of_a_token_that_is_kept_and_dropped_keeping_wins(model: SCD) -> None:
    pins = pins_of(options_for(model, pin="1-2", drop="2-3"), GRID)
    assert pins is not None
    assert pins.reshape(-1)[:5].tolist() == [0, 1, 1, -1, 0]
    assert pins_of(options_for(model), GRID) is None


def test_a_run_keeps_what_is_pinned_and_prunes_what_is_dropped_first(
    model: SCD, volume: Volume
) -> None:
    free = segment(volume, model, 0.5)
    lost, stages = free.tokens.pruned_at == 1, free.tokens.stages
    kept = free.tokens.pruned_at == stages + 1
    chosen = segment(volume, model, 0.5, pin=written(lost), drop=written(kept)).tokens.pruned_at
    assert lost.sum() > 0 and kept.sum() > 0
    assert (chosen[lost] == stages + 1).all()
    assert (chosen[kept] == 1).all()
    with pytest.raises(SegmentError, match="the volume's tokens"):
        segment(volume, model, pin="0-9999")


def test_windows_keep_as_many_tokens_as_are_important_enough(model: SCD, volume: Volume) -> None:
    everything = segment(volume, model, 1.0)
    first = everything.tokens.importance[0]
    least = float(np.median(first))
    result = segment(volume, model, importance=least)
    tokens = result.tokens
    assert np.array_equal(tokens.pruned_at == 1, first < least)
    live = tokens.among[1]
    assert len(np.unique(live)) > 1  # windows differ
    assert result.stats.importance == least
    assert result.stats.tokens_per_stage[1] == live.max()
    same = segment(volume, model, importance=0.0)
    assert np.array_equal(same.labels, everything.labels)
    with pytest.raises(ValueError, match=r"^importance 2: must be in \[0, 1\]$"):
        segment(volume, model, importance=2.0)
