"""How good labels are."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def dice_per_class(
    prediction: NDArray[np.integer], truth: NDArray[np.integer], values: Sequence[int]
) -> NDArray[np.float64]:
    """Dice of each class.

    Parameters
    ----------
    prediction, truth
        Label volumes of the same shape; a value that is not among ``values`` is background.
    values
        Label values of the classes, background left out.

    Returns
    -------
    ndarray
        Shape (len(values),), in 0..1; NaN where the truth holds no voxel of the class.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    _check_shapes(prediction, truth)
    count = len(values) + 1
    pairs = _class_indices(truth, values) * count + _class_indices(prediction, values)
    both = np.bincount(pairs.ravel(), minlength=count**2).reshape(count, count)
    of_truth, of_prediction = both.sum(axis=1)[1:], both.sum(axis=0)[1:]
    dice = np.full(len(values), np.nan)
    np.divide(2 * both.diagonal()[1:], of_truth + of_prediction, out=dice, where=of_truth > 0)
    return dice


def hd95_per_class(
    prediction: NDArray[np.integer],
    truth: NDArray[np.integer],
    values: Sequence[int],
    spacing_mm: Sequence[float],
) -> NDArray[np.float64]:
    """95th percentile of the distance between the surfaces of each class, in mm.

    Parameters
    ----------
    prediction, truth
        Label volumes of the same shape.
    values
        Label values of the classes, background left out.
    spacing_mm
        Voxel size along each axis.

    Returns
    -------
    ndarray
        Shape (len(values),); the larger of both directions; NaN where either side is empty.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    _check_shapes(prediction, truth)
    pairs = [(prediction == value, truth == value) for value in values]
    return np.array([_hd95(found, true, spacing_mm) for found, true in pairs])


def _check_shapes(prediction: NDArray[np.integer], truth: NDArray[np.integer]) -> None:
    if prediction.shape != truth.shape:
        raise ValueError(f"labels of shape {prediction.shape}: truth has shape {truth.shape}")


def _hd95(found: NDArray[np.bool_], true: NDArray[np.bool_], spacing_mm: Sequence[float]) -> float:
    if not found.any() or not true.any():
        return float("nan")
    masks = [torch.from_numpy(np.ascontiguousarray(m))[None, None] for m in (found, true)]
    with warnings.catch_warnings():  # MONAI 1.6 warns of an argument that it passes to itself
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        distance = compute_hausdorff_distance(
            masks[0], masks[1], include_background=True, percentile=95, spacing=list(spacing_mm)
        )
    return float(distance)


def _class_indices(labels: NDArray[np.integer], values: Sequence[int]) -> NDArray[np.intp]:
    table = np.zeros(int(max(labels.max(initial=0), *values)) + 1, np.intp)
    table[list(values)] = np.arange(1, len(values) + 1)
    indices: NDArray[np.intp] = table[labels]
    return indices
