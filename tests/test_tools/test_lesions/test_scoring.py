import numpy as np
import numpy.typing as npt
import pytest

from lesions.scoring import best_threshold, score


def mask(*boxes: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Lesions along one line, each from one voxel to another, 2 x 2 thick."""
    made = np.zeros((40, 6, 6), np.bool_)
    for first, end in boxes:
        made[first:end, 2:4, 2:4] = True
    return made


def test_a_lesion_is_found_by_one_voxel_and_groups_go_by_size() -> None:
    true = mask((0, 2), (5, 10), (15, 16), (20, 30))  # 8, 20, 4 and 40 mm³
    marked = mask((1, 3), (29, 33), (36, 38))
    scores = score(marked, true)
    assert scores.lesions == [2, 1, 1, 0]
    assert scores.lost == [1, 1, 0, 0]
    assert scores.sensitivity == pytest.approx(2 / 4)
    assert scores.precision == pytest.approx(2 / 3)
    assert scores.f1 == pytest.approx(2 * (1 / 2) * (2 / 3) / (1 / 2 + 2 / 3))
    assert scores.dice == pytest.approx(2 * 8 / (72 + 32))
    assert (scores.volume_ml, scores.marked_ml) == (0.072, 0.032)


def test_specks_below_3_mm3_are_not_counted() -> None:
    true, marked = mask((5, 10)), mask((6, 9))
    true[20, 2, 2:4] = True
    marked[30, 2, 2:4] = True
    scores = score(marked, true)
    assert (scores.sensitivity, scores.precision, scores.lesions) == (1.0, 1.0, [0, 1, 0, 0])


def test_nothing_marked_scores_nothing() -> None:
    scores = score(mask(), mask((5, 10)))
    assert (scores.dice, scores.sensitivity, scores.precision, scores.f1) == (0, 0, 0, 0)


def test_the_best_threshold_is_looked_for_within_a_mask() -> None:
    true = mask((5, 10))
    image = np.random.default_rng(0).normal(0, 0.1, true.shape).astype(np.float32)
    image[true] += 1
    image[30:] = 2  # brighter, but not within the mask
    within = np.zeros_like(true)
    within[:25] = True
    level, marked = best_threshold(image, within, true)
    assert 0.3 < level < 1
    assert score(marked, true).dice > 0.95
