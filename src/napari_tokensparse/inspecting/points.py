"""The runs of a sweep as figures, and how they are compared."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeAlias

from napari_tokensparse.common.tables import plain
from napari_tokensparse.datasets.checks import grid_problems
from napari_tokensparse.datasets.dataset import whole_labels
from napari_tokensparse.scoring.masks import agreement, result_masks, true_masks
from napari_tokensparse.segmenting.infer import SegmentError
from napari_tokensparse.volumes.region import Box
from napari_tokensparse.volumes.turning import turned_like

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from napari_tokensparse.inspecting.runs import SettingRun
    from napari_tokensparse.model.controls import Scorer
    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.segmenting.infer import Segmentation
    from napari_tokensparse.volumes.volume import Volume

    Dice: TypeAlias = dict[str, float]


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

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as the JSON file holds them."""
        true = self.labels_dice
        return {
            "scorer": self.scorer,
            "keep_ratio": self.keep_ratio,
            "mean_dice": plain(self.mean_dice),
            "dice": {name: plain(dice) for name, dice in self.dice.items()},
            "labels_mean_dice": plain(self.mean_labels_dice),
            "labels_dice": true and {name: plain(dice) for name, dice in true.items()},
            "seconds": plain(self.seconds),
            "network_seconds": plain(self.network_seconds),
            "gmacs": plain(self.gmacs),
            "peak_mb": plain(self.peak_mb),
            "tokens_kept": self.tokens_kept,
            "tokens": self.tokens,
            **({} if self.importance is None else {"importance": plain(self.importance)}),
        }


class Judge:
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
        labels = turned_like(whole_labels(labels), volume)
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
