import numpy as np
import pytest

from napari_tokensparse.segmenting.certainty import leave_out_unsure


def test_a_piece_stays_whole_if_it_is_sure_somewhere() -> None:
    labels = np.zeros((8, 4, 4), np.uint8)
    labels[1:3, 1, 1] = 2
    labels[3, 2, 1] = 2  # touches the first at an edge only: a piece of its own
    labels[5:7, 1:3, 1] = 2
    labels[5:7, 3, 1] = 7  # another class, side by side with it
    confidence = np.full(labels.shape, 140, np.uint8)
    confidence[2, 1, 1] = 230
    confidence[5, 1, 1] = 229
    confidence[6, 3, 1] = 255
    confidence[0, 0, 0] = 255  # of background
    expected = labels.copy()
    expected[3, 2, 1] = 0
    expected[5:7, 1:3, 1] = 0
    assert leave_out_unsure(labels, confidence, 0.9) == 2  # 0.9 * 255 = 229.5
    assert np.array_equal(labels, expected)


@pytest.mark.parametrize("least", [0.0, 0.5])
def test_nothing_is_left_out_of_what_is_sure_enough(least: float) -> None:
    labels = np.zeros((3, 3, 3), np.uint16)
    labels[1] = 900
    before = labels.copy()
    assert leave_out_unsure(labels, np.full(labels.shape, 128, np.uint8), least) == 0
    assert np.array_equal(labels, before)
    assert leave_out_unsure(np.zeros_like(labels), np.zeros(labels.shape, np.uint8), 0.9) == 0


def test_labels_of_any_order_in_memory_are_changed_in_place() -> None:
    labels = np.asfortranarray(np.ones((4, 5, 6), np.uint8))[::-1]
    assert leave_out_unsure(labels, np.full(labels.shape, 100, np.uint8), 0.9) == 1
    assert not labels.any()
