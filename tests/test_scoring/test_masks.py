import numpy as np
import pytest

from napari_tokensparse.scoring.masks import agreement, bounds


@pytest.mark.parametrize(
    ("predicted", "true", "dice"),
    [
        ([1, 1, 1, 0], [1, 1, 0, 0], 2 * 2 / 5),
        ([1, 0, 0, 0], [0, 0, 1, 1], 0.0),
        ([1, 1, 0, 0], [1, 1, 0, 0], 1.0),
        ([0, 0, 0, 0], [0, 1, 0, 0], 0.0),
        ([0, 1, 0, 0], [0, 0, 0, 0], 0.0),
        ([0, 0, 0, 0], [0, 0, 0, 0], None),
    ],
)
def test_dice_of_two_masks_is_nothing_where_both_are_empty(
    predicted: list[int], true: list[int], dice: float | None
) -> None:
    masks = (np.array(m, bool).reshape(1, 2, 2) for m in (predicted, true))
    assert agreement(*masks) == (None if dice is None else pytest.approx(dice))


def test_the_box_round_masks_holds_all_of_them_and_there_is_none_round_nothing() -> None:
    one, two = np.zeros((2, 6, 7, 8), bool)
    assert bounds(one, two) is None
    one[1, 2, 3] = two[4, 0, 6] = True
    assert bounds(one, two) == (slice(1, 5), slice(0, 3), slice(3, 7))
    assert bounds(one) == (slice(1, 2), slice(2, 3), slice(3, 4))
