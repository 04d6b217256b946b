"""The least that may be kept of a window's tokens, so that its labels stay as without pruning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_tokensparse.model.ratios import Importance, keep_ratios, live_counts
from napari_tokensparse.segmenting.agreement import agreement

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from napari_tokensparse.segmenting.preview import Preview, PreviewSession

RATIOS = tuple(round(0.05 * n, 2) for n in range(1, 21))
"""Keep ratios that `searching` goes through, the smallest first."""
_SMALL = (0.02, 0.01, 0.005, 0.002, 0.001, 0.0)
IMPORTANCES = (*(round(1 - ratio, 2) for ratio in RATIOS[:-1]), *_SMALL)
"""Least importances that it goes through, the largest first."""


@dataclass(frozen=True)
class Trial:
    """A keep ratio of every stage, or a least importance, and what it makes of the window.

    Attributes
    ----------
    value
        The keep ratio or the importance.
    preview
        The window so.
    agreement
        Share of the labelled voxels that it leaves as they are without pruning.
    """

    value: float
    preview: Preview
    agreement: float

    @property
    def by_importance(self) -> bool:
        """Whether tokens are kept by their importance."""
        return self.preview.importance is not None


def searching(
    session: PreviewSession,
    share: float,
    *,
    by_importance: bool = False,
    pins: NDArray[np.int8] | None = None,
) -> Iterator[Trial]:
    """Yield trials of which each keeps more until one agrees with keep ratio 1.0 as asked.

    Ratios that leave no token of the window are passed over. At the last value nothing is pruned,
    and all agrees; unless tokens are pinned that are dropped all the same.

    Parameters
    ----------
    session
        The window that is looked at.
    share
        Of the labelled voxels, in (0, 1].
    by_importance
        Try least importances, and not keep ratios.
    pins
        As `PreviewSession.update` takes them.
    """
    tokens, stages = session.tokens, session.model.config.stages
    for value in IMPORTANCES if by_importance else RATIOS:
        rule = Importance(value) if by_importance else value
        if not by_importance and not live_counts(tokens, keep_ratios(value, stages))[-1]:
            continue
        reference, preview = session.reference(), session.update(rule, pins)
        trial = Trial(value, preview, agreement(preview.labels, reference))
        yield trial
        if trial.agreement >= share:
            return
