import numpy as np
import pytest

from napari_tokensparse.scoring.masks import agreement


@pytest.mark.parametrize(
    ("found", "true", "dice"),
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
    found: list[int], true: list[int], dice: float | None
) -> None:
    masks = (np.array(m, bool).reshape(1, 2, 2) for m in (found, true))
    assert agreement(*masks) == (None if dice is None else pytest.approx(dice))
