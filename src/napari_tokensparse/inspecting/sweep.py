"""What a keep ratio costs and saves: one volume at several keep ratios, against no pruning."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from napari_tokensparse.common.tables import plain, write_csv, write_json
from napari_tokensparse.compute.memory import memory_measured
from napari_tokensparse.datasets.checks import grid_problems
from napari_tokensparse.datasets.dataset import whole_labels
from napari_tokensparse.inspecting.costs import Costs
from napari_tokensparse.inspecting.progress import RunProgress, Setting
from napari_tokensparse.inspecting.runs import SettingRun, running_each
from napari_tokensparse.inspecting.thresholds import Thresholds
from napari_tokensparse.model.ratios import keep_ratios as checked_ratios
from napari_tokensparse.scoring.masks import agreement, result_masks, true_masks
from napari_tokensparse.segmenting.infer import SegmentError, check_fit, check_scorer, choose_device
from napari_tokensparse.volumes.region import Box

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from napari_tokensparse.common.tables import Cell
    from napari_tokensparse.model.controls import Scorer
    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.segmenting.infer import Segmentation
    from napari_tokensparse.volumes.volume import Volume

    Dice: TypeAlias = dict[str, float]

REFERENCE = 1.0
"""The keep ratio that all others are compared with: nothing is pruned."""
_COSTS = ("seconds", "network_seconds", "gmacs", "peak_mb", "tokens_kept", "tokens")
SCORERS_OF_A_SWEEP: tuple[Scorer, ...] = ("learned", "random", "intensity")


@dataclass(frozen=True)
class SweepPoint:
    """One keep ratio by one scorer.

    Attributes
    ----------
    scorer
        What tokens were pruned by.
    keep_ratio
        Of each stage, in (0, 1].
    dice
        Per class: Dice with the labels of keep ratio 1.0, in 0..1. Classes absent from both are
        left out; one absent from either has 0.
    labels_dice
        The same with the given labels; None where there are none.
    seconds, network_seconds
        Of the run: in all, and in the network.
    gmacs
        Billions of multiply-accumulates of all its windows.
    peak_mb
        Peak memory in 10⁶ bytes, as `Sweep.memory` says.
    tokens_kept, tokens
        Tokens kept to the end, and processed.
    importance
        The least importance of what was kept; None where shares were. The keep ratio is then the
        one that leaves as many tokens to the end.
    """

    scorer: Scorer
    keep_ratio: float
    dice: Dice
    labels_dice: Dice | None
    seconds: float
    network_seconds: float
    gmacs: float
    peak_mb: float
    tokens_kept: int
    tokens: int
    importance: float | None = None

    @property
    def kept_share(self) -> float:
        """Share of the tokens, the mean over windows, that is kept to the end."""
        return self.tokens_kept / self.tokens if self.tokens else 0.0

    @property
    def mean_dice(self) -> float | None:
        """Mean of ``dice``; None where there is no class."""
        return fmean(self.dice.values()) if self.dice else None

    @property
    def mean_labels_dice(self) -> float | None:
        """Mean of ``labels_dice``; None where there is no class."""
        return fmean(self.labels_dice.values()) if self.labels_dice else None


@dataclass(frozen=True)
class Sweep:
    """A volume at several keep ratios.

    Attributes
    ----------
    model
        The model's name.
    classes
        Names of its classes.
    device, memory
        Where it ran, and what ``peak_mb`` measures there.
    region
        The part of the volume, or None for all of it.
    points
        By scorer, then by ascending keep ratio. At keep ratio 1.0 a scorer decides nothing: it was
        run once, and the point stands for every scorer. Those by importance come last.
    """

    model: str
    classes: tuple[str, ...]
    device: str
    memory: str
    region: Box | None
    points: tuple[SweepPoint, ...]

    @property
    def scorers(self) -> tuple[Scorer, ...]:
        """What tokens were pruned by, in order."""
        return tuple(dict.fromkeys(point.scorer for point in self.points))

    @property
    def has_labels(self) -> bool:
        """Whether the runs were compared with labels too."""
        return any(point.labels_dice is not None for point in self.points)

    def line(self, scorer: Scorer) -> tuple[SweepPoint, ...]:
        """Return the points of one scorer, by ascending keep ratio."""
        by_share = (point for point in self.points if point.importance is None)
        return tuple(point for point in by_share if point.scorer == scorer)

    @property
    def importance_line(self) -> tuple[SweepPoint, ...]:
        """Return the points by importance, by ascending tokens; without pruning at the end."""
        points = [point for point in self.points if point.importance is not None]
        whole = self.line(self.scorers[0])[-1:]
        return (*points, *(replace(point, importance=0.0) for point in whole)) if points else ()

    def to_csv(self, path: Path) -> Path:
        """Write a row per point and class; class ``mean`` is the mean over classes."""
        rows: list[list[Cell]] = []
        for point in self.points:
            dice, true = point.dice, point.labels_dice or {}
            scores: list[list[Cell]] = [["mean", point.mean_dice, point.mean_labels_dice]]
            scores += [[name, dice.get(name), true.get(name)] for name in {**dice, **true}]
            costs: list[Cell] = [getattr(point, name) for name in _COSTS]
            costs += [point.importance] if self.importance_line else []
            rows += [[point.scorer, point.keep_ratio, *score, *costs] for score in scores]
        headers = ["scorer", "keep_ratio", "class", "dice", "labels_dice", *_COSTS]
        headers += ["importance"] if self.importance_line else []
        return write_csv(path, headers, rows)

    def to_json(self, path: Path) -> Path:
        """Write everything."""
        return write_json(path, self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as the JSON file holds them."""
        return {
            "model": self.model,
            "device": self.device,
            "memory": self.memory,
            "region": None if self.region is None else str(self.region),
            "points": [_point_dict(point) for point in self.points],
        }


def sweep(
    volume: Volume,
    model: SCD,
    keep_ratios: Sequence[float],
    *,
    labels: Volume | None = None,
    scorers: Sequence[Scorer] = SCORERS_OF_A_SWEEP,
    by_importance: bool = False,
    region: Box | None = None,
    device: str | torch.device | None = None,
) -> Sweep:
    """Segment a volume at several keep ratios, and compare with keep ratio 1.0.

    Parameters
    ----------
    volume
        The input.
    model
        A loaded model that prunes.
    keep_ratios
        Of each stage, in (0, 1]; 1.0 is always run too.
    labels
        True labels on the input's grid, with the model's label values, to compare with as well.
    scorers
        What tokens are pruned by: ``learned`` and any control.
    by_importance
        Prune by importance as well, by the learned scores and at thresholds that leave about as
        many tokens to the end as the keep ratios do.
    region
        Compare, and run, this part of the volume alone.
    device
        Where to run: the model's own device if not given.

    Raises
    ------
    SegmentError, VolumeError, RegionError, ValueError
        In one plain line: what cannot be used.

    Notes
    -----
    One window is run beforehand, so that the first run does not pay for what a first run sets up.
    """
    *_, result = sweeping(
        volume,
        model,
        keep_ratios,
        labels=labels,
        scorers=scorers,
        by_importance=by_importance,
        region=region,
        device=device,
    )
    assert isinstance(result, Sweep)
    return result


def sweeping(
    volume: Volume,
    model: SCD,
    keep_ratios: Sequence[float],
    *,
    labels: Volume | None = None,
    scorers: Sequence[Scorer] = SCORERS_OF_A_SWEEP,
    by_importance: bool = False,
    region: Box | None = None,
    device: str | torch.device | None = None,
) -> Iterator[RunProgress | Sweep]:
    """Sweep step by step; the parameters are those of `sweep`.

    Yields
    ------
    RunProgress
        Before the first window of a run and after each one. The caller may stop here.
    Sweep
        At the end of each run, with the runs so far: the last is the whole. Keep ratio 1.0 comes
        first, then one scorer after the other.
    """
    info = check_fit(volume, model)
    settings = _settings(model, keep_ratios, scorers)
    thresholds = Thresholds(settings if by_importance else [])
    judge = _Judge(volume, info, labels, region)
    placed = model if device is None else model.to(choose_device(str(device)))
    counted = Costs(placed)
    _warm_up(placed)
    device = next(placed.parameters()).device
    points: list[SweepPoint] = []
    every, runs = chain(settings, thresholds), len(settings) + thresholds.count
    for event in running_each(volume, placed, every, region, runs):
        if isinstance(event, RunProgress):
            yield event
            continue
        thresholds.learn(event)
        points.append(judge.point(event, counted.gmacs(event)))
        yield Sweep(
            model=info.name,
            classes=tuple(c.name for c in info.classes),
            device=str(device),
            memory=memory_measured(device),
            region=region,
            points=_lines(points, scorers),
        )


class _Judge:
    """Compares runs with the first of them, and with true labels."""

    def __init__(
        self, volume: Volume, info: ModelInfo, labels: Volume | None, region: Box | None
    ) -> None:
        self._info = info
        self._box = region or Box((0, 0, 0), volume.shape)
        self._box.check(volume.shape, volume.name)
        self._reference: Segmentation | None = None
        self._truth = None if labels is None else self._checked(labels, volume)

    def point(self, run: SettingRun, gmacs: float) -> SweepPoint:
        """Give a run its figures."""
        self._reference = self._reference or run.segmentation
        stats, least = run.segmentation.stats, run.setting.importance
        kept, processed = stats.tokens["kept"], stats.tokens["processed"]
        ratio = run.setting.keep_ratios[0]
        if least is not None and processed:
            ratio = (kept / processed) ** (1 / len(run.setting.keep_ratios))
        return SweepPoint(
            scorer=run.setting.scorer,
            keep_ratio=ratio,
            importance=least,
            dice=self._dice(run.segmentation, self._masks(self._reference)),
            labels_dice=self._labels_dice(run.segmentation),
            seconds=stats.seconds["total"],
            network_seconds=stats.seconds["network"],
            gmacs=gmacs,
            peak_mb=run.peak_mb,
            tokens_kept=kept,
            tokens=processed,
        )

    def _masks(self, result: Segmentation) -> Iterator[NDArray[np.bool_]]:
        return result_masks(result, self._info, self._box)

    def _dice(self, result: Segmentation, true: Iterable[NDArray[np.bool_]]) -> Dice:
        triples = zip(self._info.classes, self._masks(result), true, strict=True)
        scores = ((c.name, agreement(predicted, expected)) for c, predicted, expected in triples)
        return {name: dice for name, dice in scores if dice is not None}

    def _labels_dice(self, result: Segmentation) -> Dice | None:
        if self._truth is None:
            return None
        return self._dice(result, true_masks(self._truth, self._info))

    def _checked(self, labels: Volume, volume: Volume) -> NDArray[np.integer]:
        labels = whole_labels(labels)
        problems = grid_problems(volume, labels)
        if problems:
            raise SegmentError("; ".join(problems))
        truth: NDArray[np.integer] = labels.array[0][self._box.slices]
        if not any(mask.any() for mask in true_masks(truth, self._info)):
            where = "" if self._box.shape == volume.shape else f" in region {self._box}"
            raise SegmentError(
                f"{labels.name}: holds no label of model {self._info.name}{where}; "
                "choose labels with its values"
            )
        return truth


def _settings(model: SCD, ratios: Sequence[float], scorers: Sequence[Scorer]) -> list[Setting]:
    """Order the runs: the reference, then one scorer after the other."""
    stages = model.config.stages
    if not stages:
        raise SegmentError("this model prunes no tokens: there is no keep ratio to sweep")
    if not ratios or not scorers:
        raise SegmentError("nothing to sweep: give at least one keep ratio and one scorer")
    chosen = {checked_ratios(ratio, stages) for ratio in ratios} - {(REFERENCE,) * stages}
    first, *others = dict.fromkeys(scorers)
    settings = [
        Setting(each, scorer)
        for scorer in (first, *others)
        for each in sorted(chosen, reverse=True)
    ]
    for scorer in scorers:
        check_scorer(scorer)
    return [Setting((REFERENCE,) * stages, first), *settings]


def _warm_up(model: SCD) -> None:
    config, device = model.config, next(model.parameters()).device
    with torch.inference_mode():
        model(torch.zeros(1, config.in_channels, *config.window, device=device), REFERENCE)


def _lines(points: Sequence[SweepPoint], scorers: Sequence[Scorer]) -> tuple[SweepPoint, ...]:
    """Order the points by scorer and keep ratio; the reference stands at the end of each line."""
    reference, *runs = points
    others = [point for point in runs if point.importance is None]
    by_importance = sorted(
        (point for point in runs if point.importance is not None), key=lambda p: p.tokens_kept
    )
    by_share = tuple(
        point
        for scorer in dict.fromkeys(scorers)
        for point in [
            *sorted((p for p in others if p.scorer == scorer), key=lambda p: p.keep_ratio),
            replace(reference, scorer=scorer),
        ]
    )
    return (*by_share, *by_importance)


def _point_dict(point: SweepPoint) -> dict[str, Any]:
    true = point.labels_dice
    return {
        "scorer": point.scorer,
        "keep_ratio": point.keep_ratio,
        "mean_dice": plain(point.mean_dice),
        "dice": {name: plain(dice) for name, dice in point.dice.items()},
        "labels_mean_dice": plain(point.mean_labels_dice),
        "labels_dice": true and {name: plain(dice) for name, dice in true.items()},
        "seconds": plain(point.seconds),
        "network_seconds": plain(point.network_seconds),
        "gmacs": plain(point.gmacs),
        "peak_mb": plain(point.peak_mb),
        "tokens_kept": point.tokens_kept,
        "tokens": point.tokens,
        **({} if point.importance is None else {"importance": plain(point.importance)}),
    }
