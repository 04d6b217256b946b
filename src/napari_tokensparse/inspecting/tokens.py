"""What became of the tokens of a finished run: at a voxel, at a stage, per class."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokensparse.segmenting.tokenmaps import NOT_PROCESSED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.segmenting.infer import Segmentation
    from napari_tokensparse.segmenting.tokenmaps import TokenMaps
    from napari_tokensparse.volumes.region import Box
    from napari_tokensparse.volumes.volume import Volume
    from napari_tokensparse.volumes.windows import Shape

BACKGROUND = "background"
_BINS = 50
_MARGIN = 1.05  # the logarithmic histogram's range is this much wider
_ROWS_AT_ONCE = 16


@dataclass(frozen=True)
class StageScore:
    """What one stage thought of a token that reached it.

    Attributes
    ----------
    importance
        In (0, 1).
    rank
        Percentile among the live tokens of the token's window: 1 the most, 0 the least important.
    place, of
        The same as a place, 1 the most important, among so many live tokens.
    kept
        Whether the token went on.
    """

    importance: float
    rank: float
    place: int
    of: int
    kept: bool


@dataclass(frozen=True)
class Token:
    """The token that covers a voxel.

    Attributes
    ----------
    position, grid
        (h, w, d) on the model's token grid, and that grid's size.
    box
        The input voxels whose centres lie in the token.
    centre_mm
        The token's centre (x, y, z) in RAS mm.
    size_mm
        Its size along the input's axes (i, j, k) in mm; it need not end where a voxel does, and may
        reach beyond the input.
    stages
        One score per stage that it reached, the first stage first.
    pruned_at
        0 not processed, 1..S pruned at that stage, S + 1 kept to the end.
    kept
        Whether it was kept to the end.
    pinned
        1 where a person kept it, -1 where it was dropped, 0 where its scores decided.
    predicted
        Name of the class at the voxel; of several overlapping regions, all with commas between.
    """

    position: Shape
    grid: Shape
    box: Box
    centre_mm: tuple[float, float, float]
    size_mm: tuple[float, float, float]
    stages: tuple[StageScore, ...]
    pruned_at: int
    kept: bool
    pinned: int
    predicted: str


class TokenState(IntEnum):
    """What a token is at one stage."""

    NOT_PROCESSED = 0
    GONE = 1
    PRUNED = 2
    LIVE = 3


@dataclass(frozen=True, eq=False)
class StageHistogram:
    """How a stage's importances are spread over its live tokens.

    Every window prunes by its own order, so over a volume of several windows the lowest kept
    importance may lie below the highest pruned one.

    Attributes
    ----------
    edges
        ``(bins + 1,)`` importances.
    kept, pruned
        ``(bins,)`` tokens that the stage kept and pruned.
    lowest_kept, highest_pruned
        Importances; NaN where there is no such token.
    cut
        The importance from which on there are as many tokens as the stage kept: with one window,
        the lowest kept. 1 where it kept none.
    """

    edges: NDArray[np.float64]
    kept: NDArray[np.int64]
    pruned: NDArray[np.int64]
    lowest_kept: float
    highest_pruned: float
    cut: float


@dataclass(frozen=True)
class ClassFates:
    """What became of one class.

    Attributes
    ----------
    value, name
        Of the class in the labels; 0 is background.
    tokens
        Tokens most of whose voxels are of the class, by their pruned-at: not processed, pruned at
        1..S, kept. Of classes with as many voxels, the lower value counts.
    mm3
        Volume in mm³ of the class's voxels, by the pruned-at of the token that covers each; those
        outside the token grid are not processed.
    """

    value: int
    name: str
    tokens: tuple[int, ...]
    mm3: tuple[float, ...]


def token_at(result: Segmentation, voxel: Shape, volume: Volume, info: ModelInfo) -> Token | None:
    """Say all about the token that covers a voxel.

    Parameters
    ----------
    result
        A run on ``volume``.
    voxel
        (i, j, k) on the input's grid.
    volume
        What was segmented.
    info
        Names of the classes.

    Returns
    -------
    Token or None
        None where preprocessing left the voxel out.

    Raises
    ------
    IndexError
        The voxel lies outside the volume.
    """
    for n, length in zip(voxel, volume.shape, strict=True):
        if not 0 <= n < length:
            raise IndexError(f"voxel {voxel}: must lie within {volume.name}, {volume.shape}")
    tokens = result.tokens
    position = tokens.token_of(voxel)
    if position is None:
        return None
    lower, upper = tokens.edges(position)
    centre = volume.affine @ [*(lower + upper) / 2, 1.0]
    pruned_at = int(tokens.pruned_at[position])
    h, w, d = tokens.pruned_at.shape
    return Token(
        position=position,
        grid=(h, w, d),
        box=tokens.box(position),
        centre_mm=_triple(centre[:3]),
        size_mm=_triple((upper - lower) * volume.spacing),
        stages=_stage_scores(result, position, pruned_at),
        pruned_at=pruned_at,
        kept=pruned_at == tokens.stages + 1,
        pinned=0 if tokens.pins is None else int(tokens.pins[position]),
        predicted=_predicted(result, voxel, info),
    )


def stage_states(tokens: TokenMaps, stage: int) -> NDArray[np.uint8]:
    """Say of every token what it is at a stage, counted from 1: `TokenState`, ``(gh, gw, gd)``.

    Gone are those pruned before the stage; live are those that go on after it.
    """
    at = tokens.pruned_at
    states = np.full(at.shape, TokenState.LIVE, np.uint8)
    states[at < stage] = TokenState.GONE
    states[at == stage] = TokenState.PRUNED
    states[at == NOT_PROCESSED] = TokenState.NOT_PROCESSED
    return states


def stage_histogram(
    tokens: TokenMaps, stage: int, bins: int = _BINS, *, log: bool = False
) -> StageHistogram:
    """Count a stage's importances.

    Parameters
    ----------
    tokens
        Maps of a run.
    stage
        Counted from 1.
    bins
        How many.
    log
        Whether bins are as wide in the logarithm and span the importances there are, rather than
        0 to 1.
    """
    importance, states = tokens.importance[stage - 1], stage_states(tokens, stage)
    kept = importance[states == TokenState.LIVE]
    pruned = importance[states == TokenState.PRUNED]
    live = np.concatenate([kept, pruned])
    edges = _log_edges(live, bins) if log else np.linspace(0.0, 1.0, bins + 1)
    return StageHistogram(
        edges=edges,
        kept=_counted(kept, edges),
        pruned=_counted(pruned, edges),
        lowest_kept=float(kept.min()) if kept.size else math.nan,
        highest_pruned=float(pruned.max()) if pruned.size else math.nan,
        cut=_cut(live, kept.size),
    )


def cut_for_keep_ratio(tokens: TokenMaps, stage: int, keep_ratio: float) -> float:
    """Turn a stage's keep ratio, in (0, 1], into a cut on its importances.

    It is the importance from which on ``int(n * keep_ratio)`` of the stage's n live tokens lie; 1
    where that is none.
    """
    importance = tokens.importance[stage - 1]
    live = importance[np.isfinite(importance)]
    return _cut(live, int(len(live) * keep_ratio))


def keep_ratio_for_cut(tokens: TokenMaps, stage: int, cut: float) -> float:
    """Turn a cut on a stage's importances into that stage's keep ratio.

    It is the share of the stage's live tokens, over all windows, with an importance of at least
    ``cut``: every window then keeps that share of its own. At least one token is kept.

    Parameters
    ----------
    tokens
        Maps of a run.
    stage
        Counted from 1.
    cut
        Importance.

    Returns
    -------
    float
        In (0, 1]; 1 where no token reached the stage. ``int(n * ratio)`` of all n live tokens is
        the number from the cut on.
    """
    importance = tokens.importance[stage - 1]
    live = int(np.isfinite(importance).sum())
    if not live:
        return 1.0
    kept = max(int((importance >= cut).sum()), 1)
    ratio = kept / live
    return ratio if int(live * ratio) == kept else math.nextafter(ratio, 1.0)


def class_fates(result: Segmentation, volume: Volume, info: ModelInfo) -> tuple[ClassFates, ...]:
    """Count, for background and every class, what became of its tokens and of its voxels.

    Overlapping regions are counted as they are painted in the labels.

    Parameters
    ----------
    result
        A run on ``volume``.
    volume
        What was segmented.
    info
        Values and names of the classes.
    """
    names = {0: BACKGROUND, **{c.value: c.name for c in info.classes}}
    values = sorted(names)
    voxels = _voxels_of_tokens(result, values)
    outside, inside = voxels[0], voxels[1:]
    pruned_at, fates = result.tokens.pruned_at.ravel(), result.tokens.stages + 2
    majority = np.where(inside.any(axis=1), inside.argmax(axis=1), -1)
    rows = []
    for column, value in enumerate(values):
        tokens = np.bincount(pruned_at[majority == column], minlength=fates)
        by_fate = np.bincount(pruned_at, weights=inside[:, column], minlength=fates)
        by_fate[NOT_PROCESSED] += outside[column]
        mm3 = (by_fate * volume.voxel_mm3).tolist()
        rows.append(ClassFates(value, names[value], tuple(tokens.tolist()), tuple(mm3)))
    return tuple(rows)


def _stage_scores(result: Segmentation, position: Shape, pruned_at: int) -> tuple[StageScore, ...]:
    tokens = result.tokens
    scores = []
    for stage in range(1, min(pruned_at, tokens.stages) + 1):
        live = int(tokens.among[stage - 1][position])
        rank = float(tokens.rank[stage - 1][position])
        scores.append(
            StageScore(
                importance=float(tokens.importance[stage - 1][position]),
                rank=rank,
                place=1 + round((1.0 - rank) * (live - 1)),
                of=live,
                kept=pruned_at > stage,
            )
        )
    return tuple(scores)


def _predicted(result: Segmentation, voxel: Shape, info: ModelInfo) -> str:
    if result.regions is not None:
        inside = result.regions[(slice(None), *voxel)]
        names = [c.name for c, here in zip(info.classes, inside, strict=True) if here]
        return ", ".join(names) or BACKGROUND
    value = int(result.labels[voxel])
    return {c.value: c.name for c in info.classes}.get(value, BACKGROUND)


def _voxels_of_tokens(result: Segmentation, values: Sequence[int]) -> NDArray[np.int64]:
    """Count voxels ``(1 + L, K)``: of no token and of each, with each label value."""
    tokens, labels = result.tokens, result.labels
    length = tokens.pruned_at.size
    numbers = np.arange(1, length + 1).reshape(tokens.pruned_at.shape)
    column_of = np.zeros(max(values) + 1, np.int64)
    column_of[list(values)] = np.arange(len(values))
    counts = np.zeros((1 + length) * len(values), np.int64)
    for first in range(0, len(labels), _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        pairs = tokens.on_input_grid(numbers, rows) * len(values) + column_of[labels[rows]]
        counts += np.bincount(pairs.ravel(), minlength=len(counts))
    return counts.reshape(1 + length, len(values))


def _log_edges(values: NDArray[np.float32], bins: int) -> NDArray[np.float64]:
    positive = values[values > 0]
    low, high = (positive.min(), positive.max()) if positive.size else (0.1, 1.0)
    return np.geomspace(low / _MARGIN, high * _MARGIN, bins + 1, dtype=np.float64)


def _counted(values: NDArray[np.float32], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.histogram(values.clip(edges[0], edges[-1]), edges)[0]


def _cut(values: NDArray[np.float32], kept: int) -> float:
    return float(np.sort(values)[-kept]) if kept else 1.0


def _triple(values: NDArray[Any]) -> tuple[float, float, float]:
    first, second, third = values.tolist()
    return first, second, third
