"""Score a model on labelled cases: Dice and HD95 of every class, on each case's own grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_tokensparse.datasets.checks import grid_problems
from napari_tokensparse.datasets.dataset import case_notes
from napari_tokensparse.scoring.masks import found_masks, true_masks
from napari_tokensparse.scoring.metrics import dice_per_class, hd95_per_class
from napari_tokensparse.segmenting.concerns import concerns
from napari_tokensparse.segmenting.infer import SegmentError, check_fit, segment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from napari_tokensparse.datasets.dataset import Case
    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.segmenting.infer import Segmentation


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
    image, label = case.read_image(), case.read_label()
    problems = grid_problems(image, label)
    if problems:
        raise SegmentError("; ".join(problems))
    info = check_fit(image, model)
    result = segment(image, model, keep_ratio, device=device)
    masks = _masks(result, label.array[0], info, unlabelled)
    dice = {name: float(dice_per_class(*pair, [1])[0]) for name, pair in masks.items()}
    far = {
        name: float(hd95_per_class(*pair, [1], image.spacing)[0]) if hd95 else math.nan
        for name, pair in masks.items()
    }
    notes = (*case_notes(image, label), *concerns(image, info), *result.stats.notes)
    return CaseScores(case.name, result.stats.keep_ratios, dice, far, result.labels, notes)


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


def _masks(
    result: Segmentation, truth: NDArray[np.integer], info: ModelInfo, unlabelled: int | None
) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Masks of each class or region by name: what was found, and what is true."""
    known = np.ones(truth.shape, bool) if unlabelled is None else truth != unlabelled
    masks = zip(found_masks(result, info), true_masks(truth, info), strict=True)
    return {
        c.name: ((found & known).astype(np.uint8), (true & known).astype(np.uint8))
        for c, (found, true) in zip(info.classes, masks, strict=True)
    }
