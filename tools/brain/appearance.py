"""Random looks: what the tissues show and what a scanner makes of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from monai.transforms.intensity.array import NormalizeIntensity
from torch.nn import functional

from brain.deformation import grid_axes, smooth_field, uniform
from brain.structures import CLASS_COUNT, STRUCTURES, mirrored_classes

if TYPE_CHECKING:
    from brain.synthesis import SynthesisConfig

FLUID = CLASS_COUNT
"""Generation class inside the brain mask that is no structure of ours: mostly sulcal CSF."""
RESIDUE = CLASS_COUNT + 1
"""Generation class outside the brain mask: what a generous skull strip leaves."""

_WHITE = ("White-Matter", "Brain-Stem", "VentralDC")
_WET = ("Ventricle",)


class Contrast(NamedTuple):
    """Random look of the tissues.

    Attributes
    ----------
    mean, sd : Tensor, shape (30,)
        Intensity and its standard deviation for the 28 classes, fluid and residue. A structure has
        the same values on both sides.
    """

    mean: torch.Tensor
    sd: torch.Tensor


def random_contrast(tissue_share: float, rng: torch.Generator) -> Contrast:
    """Draw the look of the tissues, the same on both sides.

    Parameters
    ----------
    tissue_share : float
        Probability that white matter, grey matter and fluid each have one mean, from which their
        structures differ little; else every structure is independent.
    rng : Generator
        Source of the randomness.

    Returns
    -------
    Contrast
    """
    mean = uniform(rng, 0, 1, RESIDUE + 1)
    if float(uniform(rng, 0, 1)) < tissue_share:
        tissue_mean = uniform(rng, 0, 1, 4)
        mean = tissue_mean[_tissues()] + 0.25 * (mean - 0.5)
    mean[RESIDUE] = (mean[RESIDUE] + mean[FLUID]) / 2
    sd = uniform(rng, 0, 0.06, RESIDUE + 1)
    return Contrast(_both_sides_alike(mean), _both_sides_alike(sd))


def scan(
    image: torch.Tensor,
    inside: torch.Tensor,
    spacing_mm: float,
    config: SynthesisConfig,
    rng: torch.Generator,
    brain: torch.Tensor | None = None,
) -> torch.Tensor:
    """Imitate the scanner, then bring the brain to the intensities that inference sees.

    Parameters
    ----------
    image : Tensor, shape (h, w, d)
        Intensity of the anatomy.
    inside : Tensor, shape (h, w, d), bool
        What is not air: a brain, or a whole head.
    spacing_mm : float
        Voxel size.
    config : SynthesisConfig
        Ranges.
    rng : Generator
        Source of the randomness.
    brain : Tensor, shape (h, w, d), bool, optional
        Where the range of intensities is what noise is relative to; all that is inside by default.

    Returns
    -------
    Tensor, shape (h, w, d)
        Z-scored over what is inside, exactly 0 elsewhere.
    """
    h, w, d = image.shape
    bias = smooth_field(grid_axes((h, w, d), spacing_mm), 60.0, rng)
    bias = torch.exp(bias * uniform(rng, 0, config.bias))
    image = image * bias.to(image.device)
    image = _gaussian_blur(image, float(uniform(rng, 0, 1.0)))
    if float(uniform(rng, 0, 1)) < config.slice_share:
        thickness = float(uniform(rng, spacing_mm, max(spacing_mm, config.slice_mm)))
        axis = int(torch.randint(3, (), generator=rng))
        image = thick_slices(image, axis, thickness / spacing_mm)
    noise = torch.randn(image.shape, generator=rng) * uniform(rng, 0, 1) ** 2 * config.noise
    image = _to_unit(image, inside if brain is None else brain) + noise.to(image.device)
    gamma = math.exp(config.gamma * float(torch.randn((), generator=rng)))
    image = image.clamp(min=0) ** gamma
    return _normalise(image + 1, inside)  # + 1: no voxel of the brain is 0 by chance


def box_blur(image: torch.Tensor, width: float) -> torch.Tensor:
    """Average over a box of `width` voxels, 1 to 3: the partial volume of larger voxels.

    Parameters
    ----------
    image : Tensor, shape (i, j, k)
        Intensities.
    width : float
        Edge of the box in voxels.

    Returns
    -------
    Tensor
        The same shape.
    """
    return three_taps(image, (width - 1) / 2)


def _normalise(image: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Apply exactly what inference applies to a skull-stripped image."""
    normalised = NormalizeIntensity(nonzero=True)(image * inside)
    plain: torch.Tensor = torch.as_tensor(normalised).as_subclass(torch.Tensor)
    return plain


def _to_unit(image: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Scale so that the intensities inside span 0..1."""
    brain = image[inside]
    low, high = (brain.min(), brain.max()) if brain.numel() else (0.0, 1.0)
    return (image - low) / max(float(high - low), 1e-6)


def thick_slices(image: torch.Tensor, axis: int, factor: float) -> torch.Tensor:
    """Average into slices `factor` voxels thick along an axis and interpolate back."""
    shape = list(image.shape)
    shape[axis] = max(2, round(shape[axis] / factor))
    thick = functional.interpolate(image[None, None], size=shape, mode="area")
    return functional.interpolate(thick, size=image.shape, mode="trilinear")[0, 0]


def _gaussian_blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Blur by a Gaussian of at most one voxel with three taps per axis."""
    side = math.exp(-0.5 / max(sigma, 1e-3) ** 2)
    return three_taps(image, side)


def three_taps(image: torch.Tensor, side: float) -> torch.Tensor:
    """Convolve each axis with (side, 1, side), normalised; the border is left as it is."""
    if side == 0:
        return image
    for axis in range(image.ndim):
        length = image.shape[axis] - 2
        blurred = image.clone()
        neighbours = image.narrow(axis, 0, length) + image.narrow(axis, 2, length)
        blurred.narrow(axis, 1, length).add_(neighbours, alpha=side).div_(1 + 2 * side)
        image = blurred
    return image


def _tissues() -> torch.Tensor:
    """Tissue of each generation class: 0 white, 1 grey, 2 fluid, 3 residue."""
    table = [3, *(_tissue(structure.name) for structure in STRUCTURES), 2, 3]
    return torch.tensor(table)


def _tissue(name: str) -> int:
    if any(part in name for part in _WHITE):
        return 0
    return 2 if any(part in name for part in _WET) else 1


def _both_sides_alike(values: torch.Tensor) -> torch.Tensor:
    """Give each structure the value of whichever side has the lower class index."""
    mirrored = torch.from_numpy(mirrored_classes()).long()
    first = torch.minimum(mirrored, torch.arange(CLASS_COUNT))
    return torch.cat([values[first], values[CLASS_COUNT:]])
