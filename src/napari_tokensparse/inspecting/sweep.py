"""What a keep ratio costs and saves: one volume at several keep ratios, against no pruning."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from napari_tokensparse.common.tables import write_csv, write_json
from napari_tokensparse.compute.memory import memory_measured
from napari_tokensparse.inspecting.costs import Costs
from napari_tokensparse.inspecting.points import Judge, SweepPoint
from napari_tokensparse.inspecting.progress import RunProgress, Setting
from napari_tokensparse.inspecting.runs import running_each
from napari_tokensparse.inspecting.thresholds import Thresholds
from napari_tokensparse.model.ratios import keep_ratios as checked_ratios
from napari_tokensparse.segmenting.infer import SegmentError, check_fit, check_scorer, choose_device

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from napari_tokensparse.common.tables import Cell
    from napari_tokensparse.model.controls import Scorer
    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.volumes.region import Box
    from napari_tokensparse.volumes.volume import Volume

REFERENCE = 1.0
"""The keep ratio that all others are compared with: nothing is pruned."""
_COSTS = ("seconds", "network_seconds", "gmacs", "peak_mb", "tokens_kept", "tokens")
SCORERS_OF_A_SWEEP: tuple[Scorer, ...] = ("learned", "random", "intensity")


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
            "points": [point.as_dict() for point in self.points],
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
    judge = Judge(volume, info, labels, region)
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
