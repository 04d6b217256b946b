"""Keep ratios and token counts: plain arithmetic, without torch."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


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
