"""A phantom of a torso: lungs, liver, spine and vessels, and small lesions in one organ.

What there is to find lies in a few windows of many, and in some there is nothing: by a share a
window of muscle keeps as many tokens as one full of lesions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float32]

SHAPE = (144, 112, 160)
SPACING_MM = 3.0
AIR, FAT, MUSCLE, LUNG, LIVER, BONE = -1000.0, -100.0, 50.0, -820.0, 105.0, 420.0
_NOISE_HU = 18.0


class Phantom(NamedTuple):
    """A scan and what is to be found, both ``(h, w, d)``.

    Attributes
    ----------
    image
        Hounsfield units.
    lesions
        Whether a voxel is of a lesion.
    """

    image: Array
    lesions: npt.NDArray[np.bool_]


def phantom(seed: int) -> Phantom:
    """Make a phantom; the same seed makes the same one."""
    rng = np.random.default_rng(seed)
    # Offsets from the middle in mm: left to right, back to front, feet to head.
    axes = (SPACING_MM * (np.arange(n) - n / 2) for n in SHAPE)
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    wide, deep = rng.uniform(165, 195), rng.uniform(115, 135)
    radius = np.sqrt((x / wide) ** 2 + (y / deep) ** 2) + 0 * z
    image = np.full(SHAPE, AIR, np.float32)
    image[radius < 1] = FAT
    image[radius < rng.uniform(0.82, 0.93)] = MUSCLE
    lungs = np.zeros(SHAPE, bool)
    for side in (-1, 1):
        middle = (side * rng.uniform(72, 84), rng.uniform(-5, 10), rng.uniform(110, 130))
        lungs |= _ellipsoid((x, y, z), middle, (52, 72, rng.uniform(105, 125)))
    image[lungs] = LUNG
    liver = _ellipsoid((x, y, z), (-60, 10, rng.uniform(-55, -35)), (85, 72, 62)) & ~lungs
    liver &= radius < 0.8
    image[liver] = LIVER
    spine = (x**2 + (y + 70) ** 2 < 18**2) & (np.mod(z + rng.uniform(0, 30), 32) < 25)
    image[spine] = BONE
    threads = _filaments(rng)
    image[threads & lungs] = 20.0
    image[threads & liver] = LIVER + 55.0
    organ, contrast = (lungs, 860.0) if rng.random() < 0.5 else (liver, -rng.uniform(45, 65))
    lesions = _lesions(organ, (x, y, z), rng)
    image[lesions] = (LUNG if contrast > 0 else LIVER) + contrast
    image = ndimage.gaussian_filter(image, 0.5)
    image += ndimage.gaussian_filter(rng.normal(0, 2.2 * _NOISE_HU, SHAPE), 0.6)
    return Phantom(image.astype(np.float32), lesions)


def _ellipsoid(
    axes: tuple[Array, Array, Array],
    middle: tuple[float, float, float],
    half: tuple[float, float, float],
) -> npt.NDArray[np.bool_]:
    parts = (((a - m) / r) ** 2 for a, m, r in zip(axes, middle, half, strict=True))
    inside: npt.NDArray[np.bool_] = sum(parts, start=np.zeros(SHAPE)) < 1
    return inside


def _filaments(rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Vessels: where two smooth fields both pass 0."""
    fields = (ndimage.gaussian_filter(rng.normal(size=SHAPE), 5.0) for _ in range(2))
    one, other = (field / field.std() for field in fields)
    thin: npt.NDArray[np.bool_] = np.hypot(one, other) < 0.22
    return thin


def _lesions(
    organ: npt.NDArray[np.bool_], axes: tuple[Array, Array, Array], rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Balls of 4 to 11 mm radius round a few middles within an organ."""
    places = np.argwhere(ndimage.binary_erosion(organ, iterations=3))
    lesions = np.zeros(SHAPE, bool)
    for seat in places[rng.integers(len(places), size=rng.integers(1, 4))]:
        near = places[np.linalg.norm(places - seat, axis=1) < 45 / SPACING_MM]
        for place in near[rng.integers(len(near), size=rng.integers(2, 9))]:
            middle = [float(a.flat[n]) for a, n in zip(axes, place, strict=True)]
            size = rng.uniform(4, 11)
            lesions |= _ellipsoid(axes, (middle[0], middle[1], middle[2]), (size, size, size))
    return lesions & organ
