"""The smallest keep ratio that leaves the labels of a window as they are without pruning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_tokensparse.model.ratios import keep_ratios, live_counts
from napari_tokensparse.segmenting.agreement import agreement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_tokensparse.segmenting.preview import PreviewSession

RATIOS = tuple(round(0.05 * n, 2) for n in range(1, 21))
"""Keep ratios that `searching` goes through, the smallest first."""


@dataclass(frozen=True)
class Trial:
    """A keep ratio of every stage, and the share of labelled voxels that it leaves as they are."""

    keep_ratio: float
    agreement: float


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
