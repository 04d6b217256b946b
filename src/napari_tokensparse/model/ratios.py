"""How many tokens a stage keeps, and which ones a person has decided about; imports no torch.

A rule says how many of the live tokens a stage keeps: a share of them, as the paper does, or as
many as are important enough, so that a window keeps what it needs. Pins stand above either.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

KEEP, FREE, DROP = 1, 0, -1
"""What a pin says of a token: it is never pruned, nothing, it is pruned at the first stage."""


def keep_ratios(keep_ratio: float | Sequence[float], stages: int) -> tuple[float, ...]:
    """Parse what a person sets into one keep ratio per stage.

    Parameters
    ----------
    keep_ratio
        One ratio for all stages or one per stage, each in (0, 1]. 1.0 prunes nothing.
    stages
        Number of pruning stages.

    Raises
    ------
    ValueError
        A ratio is outside (0, 1], or there are not as many as stages.
    """
    ratios = (
        (float(keep_ratio),) * stages
        if isinstance(keep_ratio, (int, float, Real))
        else tuple(float(r) for r in keep_ratio)
    )
    if len(ratios) != stages:
        raise ValueError(f"keep ratio {ratios}: give one number, or one per stage ({stages})")
    for ratio in ratios:
        if not 0.0 < ratio <= 1.0:  # also refuses NaN
            raise ValueError(f"keep ratio {ratio:g}: must be in (0, 1]")
    return ratios


def keep_range(ends: tuple[float, float]) -> tuple[float, float]:
    """Check the lowest and the highest keep ratio that a network is trained for.

    Raises
    ------
    ValueError
        They do not ascend within (0, 1].
    """
    low, high = ends
    if not 0.0 < low <= high <= 1.0:
        raise ValueError(f"keep_range {ends}: must ascend within (0, 1]")
    return ends


def live_counts(tokens: int, ratios: Sequence[float]) -> tuple[int, ...]:
    """Count the tokens alive before stage 1, after stage 1, … after the last stage.

    Each stage keeps ``int(live * keep)`` of the tokens that reach it, so ratios compound
    (paper, section 3.2).
    """
    counts = [tokens]
    for ratio in ratios:
        counts.append(int(counts[-1] * ratio))
    return tuple(counts)


def grid_size(shape: Sequence[int], patch_size: int) -> tuple[int, int, int]:
    """Token grid ``(gh, gw, gd)`` of a window ``(h, w, d)`` in voxels."""
    h, w, d = (n // patch_size for n in shape)
    return h, w, d


def describe_keep_ratio(ratios: Sequence[float]) -> str:
    """Say what keep ratios do, as a person should read it.

    Examples
    --------
    >>> describe_keep_ratio((0.5, 0.5, 0.5))
    '50 % per stage → 12.5 % of tokens reach the end'
    """
    if all(ratio == 1.0 for ratio in ratios):
        return "No pruning: every token reaches the end"
    per_stage = " / ".join(f"{100 * r:.3g}" for r in dict.fromkeys(ratios) or ratios)
    if len(set(ratios)) > 1:
        per_stage = " / ".join(f"{100 * r:.3g}" for r in ratios)
    end = 100 * math.prod(ratios)
    return f"{per_stage} % per stage → {end:.3g} % of tokens reach the end"


def describe_importance(least: float) -> str:
    """Say what a least importance does, as a person should read it.

    Examples
    --------
    >>> describe_importance(0.2)
    'Importance ≥ 0.2: each stage keeps what a window needs, and never fewer than one token'
    """
    if not least:
        return "No pruning: every token reaches the end"
    return (
        f"Importance ≥ {least:g}: each stage keeps what a window needs, and never fewer than one "
        "token"
    )


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

    A token that is pinned to be kept takes nobody's place: it is kept beside what the rule keeps,
    which it may need to be understood by.

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
        ``(B, n)`` to choose the best of, and how many. Of several windows at once, all keep as many
        as the one that needs most.
    """
    if pins is None:
        return scores, rule.count(stage, scores)
    keep, drop = pins == KEEP, pins == DROP
    left = scores.masked_fill(drop, -math.inf)
    most = scores.shape[1] - int(drop.sum(dim=1).max())
    chosen = left.topk(min(rule.count(stage, left), most), dim=1).indices
    beside = keep.scatter(1, chosen, True).sum(dim=1).max()
    return left.masked_fill(keep, math.inf), int(beside)
