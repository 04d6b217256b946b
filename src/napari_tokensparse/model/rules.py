"""How many tokens a stage keeps, and which ones a person has decided about.

A rule says how many of the live tokens a stage keeps: a share of them, as the paper does, or as
many as are important enough, so that a window keeps what it needs. Pins stand above either.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from napari_tokensparse.model.ratios import keep_ratios

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

KEEP, FREE, DROP = 1, 0, -1
"""What a pin says of a token: it is never pruned, nothing, it is pruned at the first stage."""


@dataclass(frozen=True)
class Share:
    """Each stage keeps ``int(live * keep)`` of the tokens that reach it (paper, section 3.2).

    Attributes
    ----------
    ratios
        Keep ratio of each stage, in (0, 1].
    """

    ratios: tuple[float, ...]

    def count(self, stage: int, scores: Tensor) -> int:
        """Return a share of the live tokens, whatever their scores."""
        return int(scores.shape[1] * self.ratios[stage])


@dataclass(frozen=True)
class Importance:
    """Each stage keeps the tokens whose importance is at least so much, and never fewer than one.

    Of several windows at once, all keep as many as the one that needs most.

    Attributes
    ----------
    least
        Importance in [0, 1]: the exponential of a score. 0 prunes nothing.
    """

    least: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.least <= 1.0:  # also refuses NaN
            raise ValueError(f"importance {self.least:g}: must be in [0, 1]")

    def count(self, stage: int, scores: Tensor) -> int:
        """Return how many tokens are important enough."""
        least = math.log(self.least) if self.least else -math.inf
        enough = (scores >= least).sum(dim=1).max()
        return min(scores.shape[1], max(1, int(enough)))


Rule: TypeAlias = Share | Importance


def rule_of(chosen: float | Sequence[float] | Rule, stages: int) -> Rule:
    """Make a rule of what a person sets: keep ratios, or a rule that is one already.

    Raises
    ------
    ValueError
        A keep ratio is outside (0, 1], or there are not as many as stages.
    """
    if isinstance(chosen, (Share, Importance)):
        return chosen
    return Share(keep_ratios(chosen, stages))


def pinned(rule: Rule, stage: int, scores: Tensor, pins: Tensor | None) -> tuple[Tensor, int]:
    """Rank the live tokens, and count how many of them are kept.

    Parameters
    ----------
    rule
        Says how many, of tokens that nobody has pinned.
    stage
        0, 1, …
    scores
        ``(B, n)`` of the live tokens.
    pins
        ``(B, n)`` int8, `KEEP`, `FREE` or `DROP` of each; None where there are none. In a batch,
        every window has as many of either kind.

    Returns
    -------
    ranking, count
        ``(B, n)`` to choose the best of, and how many.
    """
    if pins is None:
        return scores, rule.count(stage, scores)
    keep, drop = pins == KEEP, pins == DROP
    ranking = scores.masked_fill(keep, math.inf).masked_fill(drop, -math.inf)
    fewest, most = int(keep.sum(dim=1).max()), scores.shape[1] - int(drop.sum(dim=1).max())
    return ranking, min(max(rule.count(stage, ranking), fewest), most)
