"""Where a network is least sure: connected places of low probability, class by class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from skimage.measure import label, regionprops

from napari_tokensparse.inspecting.components import centre_of, component_at
from napari_tokensparse.scoring.masks import bounds, result_masks
from napari_tokensparse.segmenting.probabilities import FULL
from napari_tokensparse.segmenting.result import SegmentError
from napari_tokensparse.volumes.volume import voxel_mm3

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_tokensparse.model.info import LabelClass, ModelInfo
    from napari_tokensparse.segmenting.result import Segmentation
    from napari_tokensparse.volumes.region import Box
    from napari_tokensparse.volumes.volume import Volume
    from napari_tokensparse.volumes.windows import Shape

NOT_KEPT = "the run kept no confidence: ask for it"


@dataclass(frozen=True)
class Doubt:
    """A connected place in a class where the network is not sure.

    Attributes
    ----------
    name, value
        Of the class.
    mm3
        Volume.
    confidence
        Mean probability of the class that won there, in 0..1.
    centre_mm
        Centre (x, y, z) in RAS mm by the file's affine.
    voxel
        (i, j, k) of its voxel nearest to that centre.
    """

    name: str
    value: int
    mm3: float
    confidence: float
    centre_mm: tuple[float, float, float]
    voxel: Shape


def least_sure(
    result: Segmentation,
    volume: Volume,
    info: ModelInfo,
    below: float = 0.5,
    smallest_mm3: float = 0.0,
) -> tuple[Doubt, ...]:
    """List connected places of one class where the winner's probability is low, largest first.

    Parameters
    ----------
    result
        Of a run that kept its confidence.
    volume
        What was segmented.
    info
        The model's classes.
    below
        Which probability is low, in (0, 1].
    smallest_mm3
        Places of less than this are left out.

    Raises
    ------
    SegmentError
        The run kept no confidence.

    Notes
    -----
    Voxels are connected by faces: borders, which are thin, hang together less than by corners.
    """
    confidence = result.confidence
    if confidence is None:
        raise SegmentError(f"{volume.name}: {NOT_KEPT}")
    low = confidence < below * FULL
    masks = zip(info.classes, result_masks(result, info), strict=True)
    places = [
        doubt
        for of, mask in masks
        for doubt in _places(mask & low, confidence, volume.affine, of, smallest_mm3)
    ]
    return tuple(sorted(places, key=lambda doubt: -doubt.mm3))


def place_of(
    result: Segmentation, info: ModelInfo, doubt: Doubt, below: float
) -> tuple[Box, NDArray[np.bool_]]:
    """Return the box of a place, and its mask ``(i, j, k)`` within that.

    Parameters
    ----------
    result, info
        As for `least_sure`, which listed it.
    doubt
        The place.
    below
        As for `least_sure`.
    """
    assert result.confidence is not None  # or it would not be listed
    masks = zip(info.classes, result_masks(result, info), strict=True)
    mask = next(mask for of, mask in masks if of.value == doubt.value)
    low = mask & (result.confidence < below * FULL)
    return component_at(low, doubt.voxel, by_faces=True)


def _places(
    mask: NDArray[np.bool_],
    confidence: NDArray[np.uint8],
    affine: NDArray[np.float64],
    of: LabelClass,
    smallest_mm3: float,
) -> list[Doubt]:
    part = bounds(mask)
    if part is None:
        return []
    first, mm3 = np.array([span.start for span in part]), voxel_mm3(affine)
    numbered = label(mask[part], connectivity=1)
    large = (
        region
        for region in regionprops(numbered, confidence[part])
        if region.num_pixels * mm3 >= smallest_mm3
    )
    return [
        Doubt(
            of.name,
            of.value,
            float(region.num_pixels * mm3),
            float(region.intensity_mean) / FULL,
            *centre_of(region, first, affine),
        )
        for region in large
    ]
