"""Score a model on labelled cases: Dice and HD95 of every class, on each case's own grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_tokensparse.datasets.checks import grid_problems
from napari_tokensparse.datasets.dataset import case_notes
from napari_tokensparse.scoring.masks import bounds, result_masks, true_masks
from napari_tokensparse.scoring.metrics import dice
from napari_tokensparse.scoring.metrics import hd95 as hd95_mm
from napari_tokensparse.segmenting.concerns import concerns
from napari_tokensparse.segmenting.infer import SegmentError, check_fit, segment
from napari_tokensparse.volumes.turning import turned_like

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_tokensparse.datasets.dataset import Case
    from napari_tokensparse.model.scd import SCD


@dataclass(frozen=True, eq=False)
class CaseScores:
    """How well a model segments one case.

    Attributes
    ----------
    case
        Its name.
    keep_ratio
        Per stage.
    dice
        Per class or region, in 0..1; NaN where the truth holds none of it.
    hd95_mm
        95th percentile of the surface distance per class; NaN where either side is empty.
    labels
        What the model found, on the case's grid.
    notes
        What a person should know of the case and its run, one sentence each.
    """

    case: str
    keep_ratio: tuple[float, ...]
    dice: dict[str, float]
    hd95_mm: dict[str, float]
    labels: NDArray[np.unsignedinteger]
    notes: tuple[str, ...] = ()


def score_case(
    case: Case,
    model: SCD,
    keep_ratio: float | Sequence[float] | None = None,
    unlabelled: int | None = None,
    *,
    device: str | None = None,
    hd95: bool = True,
) -> CaseScores:
    """Segment a case and compare with its label, on the case's own grid.

    Parameters
    ----------
    case
        Image and label.
    model
        A network with its `ModelInfo`; regions need their label values there.
    keep_ratio
        As for `segment`.
    unlabelled
        Label value of voxels that are left out of the comparison.
    device
        Where to run: the model's own if not given.
    hd95
        Whether to measure surface distances, which takes longer.

    Raises
    ------
    SegmentError, VolumeError
        The case does not fit the model, or the label its image.
    """
    image = case.read_image()
    label = turned_like(case.read_label(), image)
    problems = grid_problems(image, label)
    if problems:
        raise SegmentError("; ".join(problems))
    info = check_fit(image, model)
    true = true_masks(label.array[0], info)  # each is made when its turn comes
    result = segment(image, model, keep_ratio, device=device)
    known = None if unlabelled is None else label.array[0] != unlabelled
    masks = zip(result_masks(result, info), true, strict=True)
    scores = [_scores(*pair, known, image.spacing if hd95 else None) for pair in masks]
    return CaseScores(
        case.name,
        result.stats.keep_ratios,
        {c.name: dice for c, (dice, _) in zip(info.classes, scores, strict=True)},
        {c.name: far for c, (_, far) in zip(info.classes, scores, strict=True)},
        result.labels,
        (*case_notes(image, label), *concerns(image, info), *result.stats.notes),
    )


def evaluating(
    cases: Iterable[Case],
    model: SCD,
    keep_ratios: Sequence[float | Sequence[float] | None] = (None,),
    unlabelled: int | None = None,
    *,
    device: str | None = None,
    hd95: bool = True,
) -> Iterator[CaseScores]:
    """Score every case at every keep ratio; the parameters are those of `score_case`."""
    for case in cases:
        for keep_ratio in keep_ratios:
            yield score_case(case, model, keep_ratio, unlabelled, device=device, hd95=hd95)


def _scores(
    predicted: NDArray[np.bool_],
    true: NDArray[np.bool_],
    known: NDArray[np.bool_] | None,
    spacing: Sequence[float] | None,
) -> tuple[float, float]:
    """Dice and HD95 in mm of one class; no spacing, no HD95."""
    if known is not None:
        predicted, true = predicted & known, true & known
    box = bounds(predicted, true)
    if box is None:
        return math.nan, math.nan
    predicted, true = predicted[box], true[box]
    return dice(predicted, true), math.nan if spacing is None else hd95_mm(predicted, true, spacing)
