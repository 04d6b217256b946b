"""Figures of a run of four tokens and two stages, computed by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from napari_tokensparse.inspecting.tokens import (
    StageScore,
    TokenState,
    class_fates,
    cut_for_keep_ratio,
    keep_ratio_for_cut,
    stage_histogram,
    stage_states,
    token_at,
)
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.segmenting.infer import Segmentation, Stats, segment
from napari_tokensparse.segmenting.tokenmaps import TokenMaps, TokenPlaces
from napari_tokensparse.volumes.preprocess import AxisMap
from napari_tokensparse.volumes.region import Box
from napari_tokensparse.volumes.volume import Volume

NAN = math.nan
INFO = ModelInfo(
    name="hand",
    channels=("T1",),
    classes=(
        LabelClass(value=5, name="five", color=(255, 0, 0)),
        LabelClass(value=2, name="two", color=(0, 255, 0)),
    ),
)
# Voxels of 2 x 3 x 4 mm, i towards the patient's left, in tokens of 2 x 2 x 2.
VOLUME = Volume(
    np.zeros((1, 4, 2, 4), np.uint8),
    np.array([[-2.0, 0, 0, 10], [0, 3, 0, 20], [0, 0, 4, 30], [0, 0, 0, 1]]),
    "hand",
)


def in_grid(*values: float) -> np.ndarray:
    """Four tokens (0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 0, 1)."""
    return np.array(values, np.float32).reshape(2, 1, 2)


@pytest.fixture
def result() -> Segmentation:
    """Stage 1 prunes the third token, stage 2 the first; the other two are kept."""
    axes = (AxisMap(0, 1.0, 0.0), AxisMap(1, 1.0, 0.0), AxisMap(2, 1.0, 0.0))
    tokens = TokenMaps(
        importance=(in_grid(0.6, 0.7, 0.2, 0.9), in_grid(0.1, 0.3, NAN, 0.8)),
        rank=(in_grid(1 / 3, 2 / 3, 0, 1), in_grid(0, 0.5, NAN, 1)),
        pruned_at=in_grid(2, 3, 1, 3).astype(np.uint8),
        among=(in_grid(4, 4, 4, 4).astype(np.int32), in_grid(3, 3, 3, 3).astype(np.int32)),
        places=TokenPlaces((4, 2, 4), axes, (2, 1, 2), 2),
    )
    labels = np.zeros((4, 2, 4), np.uint8)
    labels[:2, :, :2] = 5  # the first token but for one voxel, which is 2
    labels[0, 0, 0] = 2
    labels[0, 0, 2:] = 2  # two of eight voxels of the second: background is its majority
    labels[2:, :, 2] = 2  # half of the fourth, the rest is background
    stats = Stats(1, 0, (0.75, 2 / 3), (4, 3, 2), tokens.counts(), {"total": 1.0})
    return Segmentation(labels, tokens, stats)


def test_a_voxel_tells_its_token(result: Segmentation) -> None:
    token = token_at(result, (1, 0, 1), VOLUME, INFO)
    assert token is not None
    assert (token.position, token.grid) == ((0, 0, 0), (2, 1, 2))
    assert token.box == Box((0, 0, 0), (2, 2, 2))
    assert token.centre_mm == (10 - 2 * 0.5, 20 + 3 * 0.5, 30 + 4 * 0.5)
    assert token.size_mm == (4.0, 6.0, 8.0)
    assert token.stages == (
        StageScore(np.float32(0.6), np.float32(1 / 3), place=3, of=4, kept=True),
        StageScore(np.float32(0.1), 0.0, place=3, of=3, kept=False),
    )
    assert (token.pruned_at, token.kept, token.predicted) == (2, False, "five")


def test_a_token_has_scores_of_the_stages_that_it_reached_alone(result: Segmentation) -> None:
    third = token_at(result, (2, 0, 0), VOLUME, INFO)
    assert third is not None
    assert [(s.place, s.kept) for s in third.stages] == [(4, False)]
    assert (third.pruned_at, third.predicted) == (1, "background")
    fourth = token_at(result, (3, 1, 2), VOLUME, INFO)
    assert fourth is not None
    assert [(s.place, s.of, s.kept) for s in fourth.stages] == [(1, 4, True), (1, 3, True)]
    assert (fourth.kept, fourth.predicted) == (True, "two")


def test_a_token_that_was_not_processed_has_no_scores(result: Segmentation) -> None:
    skipped = replace(result.tokens, pruned_at=np.zeros((2, 1, 2), np.uint8))
    token = token_at(replace(result, tokens=skipped), (0, 0, 0), VOLUME, INFO)
    assert token is not None
    assert (token.stages, token.pruned_at, token.kept) == ((), 0, False)


def test_a_voxel_that_preprocessing_left_out_has_no_token(result: Segmentation) -> None:
    axes = (AxisMap(0, 1.0, -1.0), *result.tokens.places.axes[1:])
    cropped = replace(
        result, tokens=replace(result.tokens, places=replace(result.tokens.places, axes=axes))
    )
    assert token_at(cropped, (0, 0, 0), VOLUME, INFO) is None
    assert token_at(cropped, (1, 0, 0), VOLUME, INFO) is not None


@pytest.mark.parametrize("voxel", [(4, 0, 0), (0, -1, 0)])
def test_a_voxel_outside_the_volume_is_refused(
    result: Segmentation, voxel: tuple[int, int, int]
) -> None:
    with pytest.raises(IndexError, match=r"must lie within hand, \(4, 2, 4\)"):
        token_at(result, voxel, VOLUME, INFO)


def test_all_regions_at_a_voxel_are_named(result: Segmentation) -> None:
    regions = np.zeros((2, 4, 2, 4), bool)
    regions[:, 0, 0, 0] = True
    regions[1, 1, 0, 0] = True
    overlapping = replace(result, regions=regions)
    named = [token_at(overlapping, (i, 0, 0), VOLUME, INFO) for i in range(3)]
    assert [token.predicted for token in named if token] == ["five, two", "two", "background"]


def test_every_token_has_a_state_at_every_stage(result: Segmentation) -> None:
    gone, pruned, live = TokenState.GONE, TokenState.PRUNED, TokenState.LIVE
    tokens = result.tokens
    assert stage_states(tokens, 1).ravel().tolist() == [live, live, pruned, live]
    assert stage_states(tokens, 2).ravel().tolist() == [pruned, live, gone, live]
    skipped = replace(tokens, pruned_at=tokens.pruned_at * 0)
    assert (stage_states(skipped, 2) == TokenState.NOT_PROCESSED).all()


def test_the_histogram_counts_kept_and_pruned_tokens(result: Segmentation) -> None:
    first = stage_histogram(result.tokens, 1, bins=4)
    assert first.edges.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert first.kept.tolist() == [0, 0, 2, 1]
    assert first.pruned.tolist() == [1, 0, 0, 0]
    assert (first.lowest_kept, first.highest_pruned) == pytest.approx((0.6, 0.2))
    assert first.cut == first.lowest_kept
    second = stage_histogram(result.tokens, 2, bins=2)
    assert (second.kept.tolist(), second.pruned.tolist()) == ([1, 1], [1, 0])


def test_a_logarithmic_histogram_spans_the_importances_there_are(result: Segmentation) -> None:
    spread = replace(result.tokens, importance=(in_grid(1e-12, 1.0, 1e-6, 0.0),))
    histogram = stage_histogram(spread, 1, bins=2, log=True)
    assert histogram.edges == pytest.approx([1e-12 / 1.05, 1e-6, 1.05], rel=1e-6)
    assert histogram.kept.tolist() == [2, 1]  # 0 counts as the lowest
    assert histogram.pruned.sum() == 1
    same = replace(result.tokens, importance=(in_grid(*[0.5] * 4),))
    assert stage_histogram(same, 1, bins=3, log=True).kept.tolist() == [0, 3, 0]
    none = replace(result.tokens, importance=(in_grid(*[NAN] * 4),), pruned_at=in_grid(*[0] * 4))
    assert stage_histogram(none, 1, bins=3, log=True).kept.tolist() == [0, 0, 0]


def test_several_windows_each_have_their_own_cut(result: Segmentation) -> None:
    # Two windows of two tokens; each keeps its better one: 0.6 of (0.6, 0.2), 0.9 of (0.7, 0.9).
    two = replace(result.tokens, pruned_at=in_grid(2, 1, 1, 2).astype(np.uint8))
    histogram = stage_histogram(two, 1)
    assert (histogram.lowest_kept, histogram.highest_pruned) == pytest.approx((0.6, 0.7))
    assert histogram.cut == pytest.approx(0.7)  # two tokens lie there or above, as were kept


def test_a_stage_that_prunes_nothing_or_all_has_a_cut(result: Segmentation) -> None:
    nothing = stage_histogram(replace(result.tokens, pruned_at=in_grid(*[3] * 4)), 1)
    assert math.isnan(nothing.highest_pruned)
    assert nothing.cut == pytest.approx(0.2)
    everything = stage_histogram(replace(result.tokens, pruned_at=in_grid(*[1] * 4)), 1)
    assert math.isnan(everything.lowest_kept)
    assert everything.cut == 1.0


@pytest.mark.parametrize(
    ("stage", "cut", "ratio"),
    [(1, 0.0, 1.0), (1, 0.65, 0.5), (1, 0.95, 0.25), (2, 0.2, 2 / 3), (2, 0.5, 1 / 3)],
)
def test_a_cut_gives_the_share_of_tokens_from_there_on(
    result: Segmentation, stage: int, cut: float, ratio: float
) -> None:
    assert keep_ratio_for_cut(result.tokens, stage, cut) == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("stage", "ratio", "cut"), [(1, 1.0, 0.2), (1, 0.5, 0.7), (1, 0.1, 1.0), (2, 0.7, 0.3)]
)
def test_a_ratio_gives_the_cut_that_keeps_as_many_tokens(
    result: Segmentation, stage: int, ratio: float, cut: float
) -> None:
    assert cut_for_keep_ratio(result.tokens, stage, ratio) == pytest.approx(cut)


def test_the_ratio_of_a_cut_keeps_as_many_tokens_as_lie_above_it(result: Segmentation) -> None:
    values = np.linspace(0.01, 0.99, 49, dtype=np.float32).reshape(7, 7, 1)
    tokens = replace(result.tokens, importance=(values,))
    for n in range(1, 50):  # 1 / 49 * 49 is less than 1
        ratio = keep_ratio_for_cut(tokens, 1, float(values.ravel()[-n]))
        assert int(49 * ratio) == n


def test_a_stage_that_no_token_reached_keeps_all(result: Segmentation) -> None:
    tokens = replace(result.tokens, importance=(in_grid(NAN, NAN, NAN, NAN),))
    assert keep_ratio_for_cut(tokens, 1, 0.5) == 1.0


def test_classes_are_counted_by_tokens_and_by_volume(result: Segmentation) -> None:
    background, two, five = class_fates(result, VOLUME, INFO)
    voxel = 2 * 3 * 4
    # Fates: not processed, pruned at 1, pruned at 2, kept.
    # The fourth token has four voxels of background and four of two: the lower value counts.
    assert (background.name, background.tokens) == ("background", (0, 1, 0, 2))
    assert background.mm3 == pytest.approx((0.0, 8 * voxel, 0.0, (6 + 4) * voxel))
    assert (two.value, two.name, two.tokens) == (2, "two", (0, 0, 0, 0))
    assert two.mm3 == pytest.approx((0.0, 0.0, 1 * voxel, (2 + 4) * voxel))
    assert (five.value, five.name, five.tokens) == (5, "five", (0, 0, 1, 0))
    assert five.mm3 == pytest.approx((0.0, 0.0, 7 * voxel, 0.0))


def test_voxels_outside_the_token_grid_are_not_processed(result: Segmentation) -> None:
    axes = (AxisMap(0, 1.0, -1.0), *result.tokens.places.axes[1:])  # row 0 lies outside
    cropped = replace(
        result, tokens=replace(result.tokens, places=replace(result.tokens.places, axes=axes))
    )
    background, two, five = class_fates(cropped, VOLUME, INFO)
    voxel = 2 * 3 * 4
    left_out = [c.mm3[0] for c in (background, two, five)]
    assert left_out == pytest.approx([2 * voxel, 3 * voxel, 3 * voxel])
    total = sum(sum(c.mm3) for c in (background, two, five))
    assert total == pytest.approx(32 * voxel)


def test_a_run_of_several_windows_adds_up(write_nano) -> None:
    rng = np.random.default_rng(0)
    volume = Volume(rng.integers(1, 200, (1, 40, 48, 32)), np.eye(4), "scan")
    network = load_model(write_nano())
    result = segment(volume, network, 0.5)
    assert result.stats.windows == 4
    assert network.info is not None
    fates = class_fates(result, volume, network.info)
    counts = result.stats.tokens
    by_fate = [sum(c.tokens[n] for c in fates) for n in range(5)]
    assert by_fate[1:] == [*(counts[f"pruned at {n}"] for n in (1, 2, 3)), counts["kept"]]
    assert sum(sum(c.mm3) for c in fates) == 40 * 48 * 32
    for voxel in ((0, 0, 0), (20, 24, 16), (39, 47, 31)):
        token = token_at(result, voxel, volume, network.info)
        assert token is not None
        for score, live, kept in zip(token.stages, (64, 32, 16), (32, 16, 8), strict=False):
            assert score.of == live
            assert score.kept == (score.place <= kept)
