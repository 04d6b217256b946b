"""Arrays in a small part of their memory."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from napari_tokensparse.widgets.packed import Packed


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, bool])
def test_an_array_comes_back_as_it_was(dtype: type) -> None:
    array = np.random.default_rng(0).integers(0, 2, (3, 4, 5)).astype(dtype)
    for given in (array, array.T, array[::-1], array[:, :0]):
        packed = pickle.loads(pickle.dumps(Packed.of(given)))
        back = packed.array()
        assert np.array_equal(back, given) and back.dtype == given.dtype
    back = Packed.of(array).array()
    back[0] = 0  # it may be written to


def test_labels_take_little_memory() -> None:
    labels = np.zeros((64, 64, 64), np.uint8)
    labels[10:40, 20:50, 5:60] = 3
    assert Packed.of(labels).nbytes < labels.nbytes / 50
