"""How far two labellings of one grid agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def agreement(labels: NDArray[np.integer], reference: NDArray[np.integer]) -> float:
    """Return which share of the voxels that either labels have the same label in both.

    Examples
    --------
    >>> agreement(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 0]))
    0.33333333333333337
    """
    labelled = int(np.count_nonzero((labels != 0) | (reference != 0)))
    different = int(np.count_nonzero(labels != reference))
    return 1 - different / labelled if labelled else 1.0
