"""How far pruning leaves the labels of a window as they are without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_tokensparse.model.ratios import keep_ratios, live_counts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_tokensparse.segmenting.preview import PreviewSession

RATIOS = tuple(round(0.05 * n, 2) for n in range(1, 21))
"""Keep ratios that `searching` goes through, the smallest first."""


@dataclass(frozen=True)
class Trial:
    """A keep ratio of every stage, and the share of labelled voxels that it leaves as they are."""

    keep_ratio: float
    agreement: float


def agreement(found: NDArray[np.integer], reference: NDArray[np.integer]) -> float:
    """Return which share of the voxels that either labels have the same label in both.

    Examples
    --------
    >>> agreement(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 0]))
    0.33333333333333337
    """
    labelled = int(np.count_nonzero((found != 0) | (reference != 0)))
    different = int(np.count_nonzero(found != reference))
    return 1 - different / labelled if labelled else 1.0


def searching(session: PreviewSession, share: float) -> Iterator[Trial]:
    """Yield trials at ascending keep ratios until one agrees with keep ratio 1.0 as asked.

    Ratios that leave no token of the window are passed over; at 1.0 all agrees.

    Parameters
    ----------
    session
        The window that is looked at.
    share
        Of the labelled voxels, in (0, 1].
    """
    tokens, stages = session.tokens, session.model.config.stages
    for ratio in RATIOS:
        if not live_counts(tokens, keep_ratios(ratio, stages))[-1]:
            continue
        trial = Trial(ratio, agreement(session.update(ratio).labels, session.reference()))
        yield trial
        if trial.agreement >= share:
            return
