"""Locked labels survive a run."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tokensparse.widgets.locks import (
    LOCKED_KEY,
    kept_voxels,
    locked_merge,
    locked_values,
    with_lock,
)

NEW = np.array([[0, 1, 2], [2, 3, 0]], np.uint8)
OLD = np.array([[1, 1, 0], [2, 2, 3]], np.uint8)


def test_without_locks_a_run_is_taken_as_it_is() -> None:
    assert np.array_equal(locked_merge(NEW, OLD, ()), NEW)


def test_a_locked_class_keeps_exactly_its_voxels() -> None:
    merged = locked_merge(NEW, OLD, {2})
    assert np.array_equal(merged == 2, OLD == 2)
    assert merged.tolist() == [[0, 1, 0], [2, 2, 0]]  # where 2 would have come, the old label stays


def test_locked_background_keeps_the_outline_of_everything() -> None:
    assert np.array_equal(locked_merge(NEW, OLD, {0}) == 0, OLD == 0)


def test_edited_voxels_keep_their_label_whatever_it_is() -> None:
    edited = np.array([[True, False, True], [False, False, False]])
    assert locked_merge(NEW, OLD, (), edited).tolist() == [[1, 1, 0], [2, 3, 0]]
    both = kept_voxels(NEW, OLD, {3}, edited)
    assert both.tolist() == [[True, False, True], [False, True, True]]
    assert edited.sum() == 2  # the given mask is left as it was


def test_labels_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shapes \(2, 3\) and \(3, 2\): must be on one grid"):
        locked_merge(NEW, OLD.T, {1})


def test_wider_labels_stay_whole() -> None:
    merged = locked_merge(NEW, OLD.astype(np.uint16) + 300, {301})
    assert merged.max() == 301


def test_locks_are_plain_values_in_the_metadata() -> None:
    metadata = with_lock({"mine": 1}, 7, True)
    metadata = with_lock(metadata, 3, True)
    assert metadata == {"mine": 1, LOCKED_KEY: (3, 7)}
    assert locked_values(metadata) == {3, 7} and locked_values({}) == frozenset()
    assert with_lock(metadata, 7, False) == {"mine": 1, LOCKED_KEY: (3,)}
