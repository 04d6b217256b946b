"""A patient that never was: the sample brain as FLAIR, with lesions made by rule and chance.

No image or mask of a patient is in it. The same calls give the same voxels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_tokensparse.volumes.samples import sample_path
from napari_tokensparse.volumes.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = "made-up MS patient, FLAIR"
SEED = 2023
# What the sample's T1 and FLAIR show: fluid, fluid and cortex by half, cortex, white matter.
_T1 = (0, 70, 130, 165, 185, 208, 255)
_FLAIR = (14, 20, 80, 168, 166, 140, 136)
_WHITE = 206  # of the T1, and more
_FLUID = 105  # or less
_LESIONS = 26
_AT_VENTRICLES = 10
_RADII_MM = (1.2, 4.5)
_BRIGHTER = (50, 95)
_NOISE = 5.0
_APART_MM = 12


def made_up_patient() -> tuple[Volume, Volume]:
    """Make the patient: FLAIR and the true lesions, on the grid of the sample brain.

    Returns
    -------
    flair, lesions : Volume
        uint8, 1 mm; exactly 0 outside the brain; of the lesions 1 in each.
    """
    from scipy import ndimage

    from napari_tokensparse.volumes.reading import read_volume

    sample = read_volume(sample_path())
    t1 = sample.array[0]
    rng = np.random.default_rng(SEED)
    flair = np.interp(t1, _T1, _FLAIR).astype(np.float32)
    white = t1 >= _WHITE
    share = np.zeros(t1.shape, np.float32)  # of each voxel that is lesion
    brighter = np.zeros(t1.shape, np.float32)
    for place in _places(t1, white, rng):
        _add(share, brighter, place, rng)
    share *= ndimage.gaussian_filter(white.astype(np.float32), 0.8) > 0.4
    soft = ndimage.gaussian_filter(share, 0.7)
    flair += soft * np.maximum(_FLAIR[-2] + brighter - flair, 0)
    flair += rng.normal(0, _NOISE, flair.shape)
    flair = np.where(t1 > 0, flair.round().clip(1, 255), 0).astype(np.uint8)
    truth = (share > 0.5).astype(np.uint8)
    return (
        Volume(flair[None], sample.affine, NAME, modality="MR"),
        Volume(truth[None], sample.affine, "true lesions"),
    )


def _places(
    t1: NDArray[np.uint8], white: NDArray[np.bool_], rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Choose where lesions lie: white matter, the first of them beside the ventricles."""
    from scipy import ndimage

    fluid, _ = ndimage.label((t1 > 0) & (t1 <= _FLUID) & _deep(t1))
    ventricles = fluid == 1 + int(np.bincount(fluid.ravel())[1:].argmax())
    beside = ndimage.binary_dilation(ventricles, iterations=4) & white
    thick = ndimage.binary_erosion(white, iterations=2)
    chosen: list[NDArray[np.int64]] = []
    for where, count in ((beside, _AT_VENTRICLES), (thick, _LESIONS)):
        candidates = np.argwhere(where)
        while len(chosen) < count:
            place = candidates[rng.integers(len(candidates))]
            if all(np.abs(place - other).max() > _APART_MM for other in chosen):
                chosen.append(place)
    return chosen


def _deep(t1: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the middle of the brain's box, where the lateral ventricles are."""
    deep = np.zeros(t1.shape, np.bool_)
    spans = []
    for axis in range(3):
        held = np.nonzero((t1 > 0).any(axis=tuple({0, 1, 2} - {axis})))[0]
        quarter = (held[-1] - held[0]) // 4
        spans.append(slice(held[0] + quarter, held[-1] - quarter))
    deep[tuple(spans)] = True
    return deep


def _add(
    share: NDArray[np.float32],
    brighter: NDArray[np.float32],
    place: NDArray[np.int64],
    rng: np.random.Generator,
) -> None:
    """Add one lesion: an ellipsoid with a rough surface, as bright as it likes."""
    from scipy import ndimage

    radii = np.exp(rng.uniform(*np.log(_RADII_MM))) * rng.uniform(0.7, 1.4, 3)
    reach = int(np.ceil(radii.max() + 3))
    box = tuple(slice(p - reach, p + reach + 1) for p in place.tolist())
    grid = np.indices((2 * reach + 1,) * 3) - reach
    far = np.sqrt(sum((axis / radius) ** 2 for axis, radius in zip(grid, radii, strict=True)))
    rough = ndimage.gaussian_filter(rng.normal(size=far.shape), 1.5) * 4
    held = (0.5 + (1 - far) * radii.mean() + 0.6 * rough).clip(0, 1)
    share[box] = np.maximum(share[box], held)
    brighter[box] = np.maximum(brighter[box], rng.uniform(*_BRIGHTER))
