"""Masks of each class: of what a model found, and of what a label says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_tokensparse.scoring.metrics import dice
from napari_tokensparse.segmenting.infer import SegmentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.segmenting.infer import Segmentation
    from napari_tokensparse.volumes.region import Box


def result_masks(
    result: Segmentation, info: ModelInfo, box: Box | None = None
) -> Iterator[NDArray[np.bool_]]:
    """Yield what was found of each class or region, in the order of ``info.classes``.

    Parameters
    ----------
    result
        A run.
    info
        The model's classes.
    box
        The part of the input that the masks ``(i, j, k)`` cover: all if not given.
    """
    part = (slice(None),) * 3 if box is None else box.slices
    if result.regions is not None:
        yield from (mask[part] for mask in result.regions)
    else:
        labels = result.labels[part]
        yield from (labels == c.value for c in info.classes)


def true_masks(labels: NDArray[np.integer], info: ModelInfo) -> Iterator[NDArray[np.bool_]]:
    """Yield what a label ``(i, j, k)`` says of each class or region.

    Raises
    ------
    SegmentError
        The model does not say which label values make up its overlapping regions.
    """
    if not (info.exclusive or info.regions):
        raise SegmentError(
            f"model {info.name}: does not say which label values make up its regions; "
            "add info.regions to configs/metadata.json"
        )
    values = [(c.value,) for c in info.classes] if info.exclusive else info.regions
    return (_any_of(labels, each) for each in values)


def agreement(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> float | None:
    """Dice of two masks: 0 where only one of them is empty, None where both are."""
    if not predicted.any() and not true.any():
        return None
    return float(np.nan_to_num(dice(predicted, true)))


def bounds(*masks: NDArray[np.bool_]) -> tuple[slice, slice, slice] | None:
    """Return the smallest box round masks ``(i, j, k)``; None where all are empty."""
    boxes = [box for mask in masks for box in ndimage.find_objects(mask.view(np.uint8))]
    if not boxes:
        return None
    i, j, k = (
        slice(min(one.start for one in along), max(one.stop for one in along))
        for along in zip(*boxes, strict=True)
    )
    return i, j, k


def _any_of(labels: NDArray[np.integer], values: Sequence[int]) -> NDArray[np.bool_]:
    # np.isin makes 8 bytes of each voxel.
    mask = np.zeros(labels.shape, bool)
    for value in values:
        mask |= labels == value
    return mask
