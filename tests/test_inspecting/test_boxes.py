"""Tokens as boxes: where they lie, and which hold background alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_tokensparse.inspecting.boxes import holding_content, token_boxes
from napari_tokensparse.segmenting.result import Segmentation, Stats
from napari_tokensparse.segmenting.tokenmaps import TokenMaps, TokenPlaces
from napari_tokensparse.volumes.preprocess import AxisMap
from napari_tokensparse.volumes.volume import Volume

NAN = np.float32(np.nan)


def in_row(*values: float) -> np.ndarray:
    """Lay values out along the model's last axis, which is the input's first, reversed."""
    return np.array(values, np.float32).reshape(1, 1, len(values))


@pytest.fixture
def result() -> Segmentation:
    """Three tokens of 4 voxels' side, the last one padded by one voxel, and one not processed."""
    axes = (AxisMap(2, -1.0, 14.0), AxisMap(1, 1.0, 0.0), AxisMap(0, 1.0, 0.0))
    tokens = TokenMaps(
        importance=(in_row(0.2, 0.5, 0.4, NAN), in_row(NAN, 0.25, 0.75, NAN)),
        rank=(in_row(0, 1, 0.5, NAN), in_row(NAN, 0, 1, NAN)),
        pruned_at=in_row(1, 2, 3, 0).astype(np.uint8),
        among=(in_row(3, 3, 3, 0).astype(np.int32), in_row(2, 2, 2, 0).astype(np.int32)),
        places=TokenPlaces((15, 4, 4), axes, (1, 1, 4), 4),
    )
    stats = Stats(1, 0, (0.5, 0.5), (3, 2, 1), {}, {})
    return Segmentation(np.zeros((15, 4, 4), np.uint8), tokens, stats)


def volume_with(content: Any, background: float = 0.0) -> Volume:
    array = np.full((1, 15, 4, 4), background, np.float32)
    array[content] = 100.0
    return Volume(array, np.eye(4), "scan")


def test_boxes_lie_where_their_voxels_are_and_end_with_the_input(result: Segmentation) -> None:
    boxes = token_boxes(result, volume_with(np.s_[0, 1:14, 1:3, 1:3]))
    assert boxes.pruned_at.tolist() == [1, 2, 3]
    # Token 0 of the model holds input voxels 14..11, token 1 holds 10..7, token 2 holds 6..3.
    assert boxes.lower[:, 0].tolist() == [10.5, 6.5, 2.5]
    assert boxes.upper[:, 0].tolist() == [14.5, 10.5, 6.5]
    assert boxes.lower[:, 1:].tolist() == [[-0.5, -0.5]] * 3
    assert boxes.upper[:, 1:].tolist() == [[3.5, 3.5]] * 3
    assert boxes.importance(1).tolist() == pytest.approx([0.2, 0.5, 0.4])
    np.testing.assert_allclose(boxes.importance(2), [np.nan, 0.25, 0.75])
    assert boxes.rank(1).tolist() == [0.0, 1.0, 0.5]


def test_tokens_of_background_alone_are_left_out(result: Segmentation) -> None:
    boxes = token_boxes(result, volume_with(np.s_[0, 4:6, 1:3, 1:3], background=-7.0))
    assert boxes.pruned_at.tolist() == [3]


def test_background_that_is_noise_is_told_by_a_threshold(result: Segmentation) -> None:
    volume = volume_with(np.s_[0, 8:10, 1:3, 1:3])
    noise = np.random.default_rng(0).normal(0, 2, volume.array.shape)
    noisy = Volume((volume.array + noise).astype(np.float32), np.eye(4), "scan")
    assert holding_content(result.tokens, noisy).ravel().tolist() == [False, True, False, False]


def test_any_channel_may_hold_something(result: Segmentation) -> None:
    first, second = volume_with(np.s_[0, 4:6, 1:3, 1:3]), volume_with(np.s_[0, 12:14, 1:3, 1:3])
    both = Volume(np.concatenate([first.array, second.array]), np.eye(4), "scan")
    assert token_boxes(result, both).pruned_at.tolist() == [1, 3]
