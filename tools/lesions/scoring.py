"""How well lesions are found: voxel by voxel, lesion by lesion, and by their size."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import ndimage

from napari_tokensparse.scoring.metrics import dice

if TYPE_CHECKING:
    import numpy.typing as npt

LEAST_MM3 = 3
"""Smaller lesions are not counted, neither true ones nor those that were marked."""
SIZES_MM3 = (3, 10, 30, 100, 1_000_000)
"""Edges of the groups of sizes."""
_TOUCHING = np.ones((3, 3, 3), dtype=np.bool_)


class Score(NamedTuple):
    """How well one scan's lesions were found.

    Attributes
    ----------
    dice
        Of all voxels.
    sensitivity, precision, f1
        Of lesions: the share of true ones that a marked voxel lies in, the share of marked ones
        that a true voxel lies in, and their harmonic mean.
    volume_ml, marked_ml
        Of the true lesions and of the marked ones.
    lost
        Of every group of sizes, how many true lesions no marked voxel lies in.
    lesions
        How many there are of every group.
    """

    dice: float
    sensitivity: float
    precision: float
    f1: float
    volume_ml: float
    marked_ml: float
    lost: list[int]
    lesions: list[int]


def score(marked: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> Score:
    """Compare masks on one grid of 1 mm."""
    sizes, hit = _overlapped(true, marked)
    _, right = _overlapped(marked, true)
    sensitivity = float(hit.mean()) if hit.size else float("nan")
    precision = float(right.mean()) if right.size else 0.0
    both = sensitivity + precision
    groups = np.digitize(sizes, SIZES_MM3) - 1
    count = len(SIZES_MM3) - 1
    return Score(
        dice(marked, true),
        sensitivity,
        precision,
        2 * sensitivity * precision / both if both else 0.0,
        true.sum() / 1000,
        marked.sum() / 1000,
        np.bincount(groups[~hit], minlength=count).tolist(),
        np.bincount(groups, minlength=count).tolist(),
    )


def _overlapped(
    mask: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Sizes of a mask's lesions in mm³, and whether a voxel of the other mask lies in each."""
    labels, count = ndimage.label(mask, structure=_TOUCHING)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    hit = np.bincount(labels[other], minlength=count + 1)[1:] > 0
    counted = sizes >= LEAST_MM3
    return sizes[counted], hit[counted]


def best_threshold(
    image: npt.NDArray[np.float32],
    where: npt.NDArray[np.bool_],
    true: npt.NDArray[np.bool_],
    steps: int = 60,
) -> tuple[float, npt.NDArray[np.bool_]]:
    """Find the threshold of an image's voxels in a mask that gives the best Dice.

    It is chosen by the truth, so nobody could do better by a threshold.
    """
    levels = np.quantile(image[where], np.linspace(0.8, 0.9999, steps))
    scores = [(dice(where & (image > level), true), float(level)) for level in levels]
    level = max(scores)[1]
    return level, where & (image > level)
