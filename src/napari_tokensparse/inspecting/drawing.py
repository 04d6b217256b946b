"""What the picture of a sweep and the plot in napari share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_tokensparse.model.controls import Scorer

# Okabe and Ito's colours, told apart with any colour vision, and none of the first three stages'.
SCORER_COLOURS: dict[Scorer, str] = {
    "learned": "#d55e00",
    "random": "#8c8c8c",
    "intensity": "#cc79a7",
    "foreground": "#0072b2",
}
RULE_COLOURS = {"share": SCORER_COLOURS["learned"], "importance": "#009e73"}
_TOP = 1.03  # a marker at 1 is not cut


def dice_range(shown: Sequence[float]) -> tuple[float, float]:
    """Choose the ends of an axis of Dice: whole tenths that leave some room.

    Examples
    --------
    >>> dice_range([0.966, 1.0]), dice_range([0.62, 0.68]), dice_range([])
    ((0.9, 1.03), (0.6, 0.7), (0.0, 1.03))
    """
    if not shown:
        return 0.0, _TOP
    low, high = math.floor(10 * min(shown) - 0.1) / 10, math.ceil(10 * max(shown) + 0.1) / 10
    return max(low, 0.0), high if high < 1.0 else _TOP
