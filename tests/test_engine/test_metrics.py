import numpy as np
import pytest

from napari_tokensparse.engine.metrics import dice_per_class


def test_dice_of_known_overlaps() -> None:
    truth = np.array([[[10, 10, 10, 10, 42, 42, 0, 0]]])
    found = np.array([[[10, 10, 0, 0, 42, 42, 42, 99]]])
    dice = dice_per_class(found, truth, [10, 42, 7])
    np.testing.assert_allclose(dice[:2], [2 * 2 / (2 + 4), 2 * 2 / (3 + 2)])
    assert np.isnan(dice[2])  # the truth holds none


def test_labels_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"labels of shape \(1, 1, 2\): truth has shape"):
        dice_per_class(np.zeros((1, 1, 2), int), np.zeros((1, 1, 3), int), [1])
