"""Training pairs made from one label map: random anatomy, random contrast (domain randomisation).

After Billot et al., "SynthSeg: Segmentation of brain MRI scans of any contrast and resolution
without retraining", Medical Image Analysis 86 (2023): a label map is deformed, every structure gets
a random intensity, and what a scanner does is imitated (bias field, blur, thick slices, noise). A
share of the samples are real T1 images deformed in the same way. Each sample is a pure function of
its key.

The anatomy is deformed by one map from window coordinates (mm from the window's centre, RAS) to
source voxels, so that every volume is resampled once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from monai.transforms.intensity.array import NormalizeIntensity
from monai.transforms.utils import distance_transform_edt
from pydantic import BaseModel, ConfigDict
from torch.nn import functional

from napari_tokensparse.data.structures import CLASS_COUNT, STRUCTURES, mirrored_classes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

Shape = tuple[int, int, int]
Axes = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

VALIDATION_SEED = 1_000_000_007
"""Seed of the validation samples, so that no training run uses it by chance."""
NATIVE_WINDOW: Shape = (208, 240, 208)
"""Window that holds any deformed brain at 1 mm."""

_FLUID = CLASS_COUNT  # inside the brain mask, no structure of ours: mostly sulcal CSF
_RESIDUE = CLASS_COUNT + 1  # outside the mask: what a generous skull strip leaves
_REACH_MM = 144.0  # half the cube in which the deformation is defined
_WHITE = ("White-Matter", "Brain-Stem", "VentralDC")
_WET = ("Ventricle",)


class SynthesisConfig(BaseModel):
    """Ranges of the random anatomy and the random scanner; a range is sampled uniformly.

    Attributes
    ----------
    rotation_deg, scale, shear : float
        Largest rotation about each axis, relative change of size and shear of each axis.
    warp_mm, fine_warp_mm : float
        Largest standard deviation of the smooth displacement with knots every 32 and 14 mm.
    jitter_voxels : int
        Largest offset of the centred brain along each axis.
    real_share : float
        Share of samples that are deformed real images.
    tissue_share : float
        Share of synthetic contrasts in which structures of one tissue look alike.
    bias, gamma, noise : float
        Largest standard deviation of the log bias field, standard deviation of log gamma, largest
        standard deviation of the noise relative to the brain's intensity range (mostly far less).
    slice_mm : float
        Thickest slice.
    strip_mm : tuple of float
        Where the skull strip cuts, in mm outwards from the brain mask.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rotation_deg: float = 15.0
    scale: float = 0.15
    shear: float = 0.06
    warp_mm: float = 4.0
    fine_warp_mm: float = 1.2
    jitter_voxels: int = 2
    real_share: float = 0.25
    tissue_share: float = 0.5
    bias: float = 0.35
    gamma: float = 0.35
    noise: float = 0.08
    slice_mm: float = 6.0
    strip_mm: tuple[float, float] = (-4.0, 1.0)


class Sample(NamedTuple):
    """One training pair.

    Attributes
    ----------
    image : Tensor, shape (1, h, w, d), float32
        Exactly 0 outside the brain, z-scored over the brain.
    labels : Tensor, shape (h, w, d), uint8
        Class indices 0..27, 0 outside the brain.
    """

    image: torch.Tensor
    labels: torch.Tensor


class Synthesizer:
    """Makes training pairs from a label map and, optionally, real images of the same anatomy.

    Parameters
    ----------
    labels : ndarray, shape (i, j, k), uint8
        Class indices 0..27 on a 1 mm grid in RAS order.
    images : sequence of ndarray, shape (i, j, k)
        Real images on the same grid, exactly 0 outside the brain. They also give the brain mask;
        without any, it is the closed label map.
    window : tuple of int
        Shape (h, w, d) of the samples.
    spacing_mm : float
        Voxel size of the samples, 1 to 3 mm.
    config : SynthesisConfig
        Ranges of the randomness.

    Raises
    ------
    ValueError
        A shape or the spacing does not fit.
    """

    def __init__(
        self,
        labels: npt.NDArray[np.uint8],
        images: Sequence[npt.NDArray[np.float32]],
        window: Shape,
        spacing_mm: float,
        config: SynthesisConfig | None = None,
    ) -> None:
        if not 1.0 <= spacing_mm <= 3.0:
            raise ValueError(f"spacing {spacing_mm} mm: must be from 1 to 3")
        for image in images:
            if image.shape != labels.shape:
                raise ValueError(f"image shape {image.shape}: must be the labels' {labels.shape}")
        self.window = window
        self.spacing_mm = spacing_mm
        self.config = config or SynthesisConfig()
        depth = _depth_outside(_brain_mask(labels, images))
        self._depth = torch.from_numpy(depth)
        self._centre = _box_centre(torch.from_numpy(labels > 0))
        self._classes = torch.from_numpy(_generation_classes(labels, depth))
        self._images = [_box_blur(_unit_range(image), spacing_mm) for image in images]
        self._mirrored = torch.from_numpy(mirrored_classes())

    def sample(self, seed: int, step: int) -> Sample:
        """Make the training pair of a key; the same key gives the same pair, bit for bit.

        Parameters
        ----------
        seed, step : int
            The key, both non-negative. Validation uses a seed that training does not.

        Returns
        -------
        Sample
            The brain's bounding box is centred in the window up to the jitter, as inference centres
            it, and cropped where it is larger.
        """
        rng = keyed_generator(seed, step)
        warp = random_warp(self.config, rng)
        grid = self._grid(warp, rng)
        classes = _resample(self._classes, grid, "nearest").to(torch.uint8)
        intensity = self._real(grid, rng)
        inside = self._inside(grid, classes, intensity, rng)
        if intensity is None:
            intensity = self._synthetic(grid, classes, rng)
        image = _scan(intensity, inside, self.spacing_mm, self.config, rng)
        classes[(classes >= CLASS_COUNT) | ~inside] = 0
        labels = self._mirrored[classes.int()] if warp.mirror else classes
        return Sample(image[None], labels)

    def _grid(self, warp: Warp, rng: torch.Generator) -> torch.Tensor:
        """Make the sampling grid that centres the deformed brain in the window, jitter added."""
        jitter = _uniform(rng, -1, 1, 3) * self.config.jitter_voxels
        centre = self._deformed_centre(warp) - jitter.round() * self.spacing_mm
        axes = _axes(self.window, self.spacing_mm)
        shifted = (axes[0] + centre[0], axes[1] + centre[1], axes[2] + centre[2])
        return self._normalised(warp.source_mm(shifted))

    def _deformed_centre(self, warp: Warp, spacing_mm: float = 5.0) -> torch.Tensor:
        """Find the centre of the deformed brain's bounding box, in mm, on a coarse grid."""
        count = round(1.25 * max(self._depth.shape) / spacing_mm)
        axes = _axes((count, count, count), spacing_mm)
        depth = _resample(self._depth, self._normalised(warp.source_mm(axes)), "bilinear")
        return (_box_centre(depth < 0) - (count - 1) / 2) * spacing_mm

    def _normalised(self, source_mm: torch.Tensor) -> torch.Tensor:
        """(3, h, w, d) mm from the source brain's centre to `grid_sample` coordinates."""
        extent = torch.tensor(self._depth.shape, dtype=torch.float32) - 1
        scale = 2 / extent
        offset = self._centre * scale - 1
        axes = [source_mm[axis] * scale[axis] + offset[axis] for axis in (2, 1, 0)]
        return torch.stack(axes, dim=-1)[None]

    def _real(self, grid: torch.Tensor, rng: torch.Generator) -> torch.Tensor | None:
        """Deform a real image, now and then inverted; None when the sample is to be synthetic."""
        chosen, inverted = _uniform(rng, 0, 1, 2).tolist()
        if chosen >= self.config.real_share or not self._images:
            return None
        pick = int(torch.randint(len(self._images), (), generator=rng))
        image = _resample(self._images[pick], grid, "bilinear")
        return 1 - image if inverted < 0.3 else image

    def _synthetic(
        self, grid: torch.Tensor, classes: torch.Tensor, rng: torch.Generator
    ) -> torch.Tensor:
        """Give the deformed anatomy a random contrast, partial volume included."""
        contrast = random_contrast(self.config.tissue_share, rng)
        clean = _box_blur(contrast.mean[self._classes.int()], self.spacing_mm)
        texture = torch.randn(classes.shape, generator=rng) * contrast.sd[classes.int()]
        return _resample(clean, grid, "bilinear") + texture

    def _inside(
        self,
        grid: torch.Tensor,
        classes: torch.Tensor,
        real: torch.Tensor | None,
        rng: torch.Generator,
    ) -> torch.Tensor:
        """Brain mask of a skull strip that cuts unevenly; it never cuts into a structure."""
        low, high = self.config.strip_mm
        axes = _axes(self.window, self.spacing_mm)
        cut = smooth_field(axes, 40.0, rng) + float(_uniform(rng, low, high))
        if real is not None:
            cut = cut.clamp(max=0)  # outside its own mask a real image shows nothing
        kept = _resample(self._depth, grid, "bilinear") < cut
        return kept | ((classes > 0) & (classes < CLASS_COUNT))


def as_scan(image: torch.Tensor) -> torch.Tensor:
    """Turn a sample's image into one as a skull-stripped file holds it: positive in the brain.

    With a `Synthesizer` of `NATIVE_WINDOW` and 1 mm this gives the input of a whole-pipeline check.

    Parameters
    ----------
    image : Tensor
        Normalised image, exactly 0 outside the brain.

    Returns
    -------
    Tensor
        The same shape; normalising it gives the same z-scores again.
    """
    return torch.where(image != 0, 100 * (image - image.min() + 1), 0.0)


@dataclass(frozen=True)
class Warp:
    """Map from mm in the window to mm in the source, both from the respective centre.

    Attributes
    ----------
    matrix : Tensor, shape (3, 3)
        Linear part.
    knots : tuple of (spacing in mm, Tensor of shape (3, n, n, n))
        Cubic B-spline coefficients of the displacement, in mm, one entry per octave.
    mirror : bool
        Whether left and right are exchanged.
    """

    matrix: torch.Tensor
    knots: tuple[tuple[float, torch.Tensor], ...]
    mirror: bool

    def source_mm(self, axes: Axes) -> torch.Tensor:
        """Evaluate the map on the grid that three axes span.

        Parameters
        ----------
        axes : three Tensors, shapes (h,), (w,), (d,)
            Coordinates in mm from the window's centre.

        Returns
        -------
        Tensor, shape (3, h, w, d)
            Millimetres from the source's centre.
        """
        x, y, z = axes[0][:, None, None], axes[1][:, None], axes[2]
        rows = [row[0] * x + (row[1] * y + row[2] * z) for row in self.matrix]
        points = torch.stack(rows)
        for spacing, coefficients in self.knots:
            points += _spline(coefficients, axes, spacing)
        if self.mirror:
            points[0].neg_()
        return points


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


def keyed_generator(seed: int, step: int) -> torch.Generator:
    """Make the random generator of a key, independent of all other keys.

    Parameters
    ----------
    seed, step : int
        The key, both non-negative.

    Returns
    -------
    Generator
    """
    state = np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def random_warp(config: SynthesisConfig, rng: torch.Generator) -> Warp:
    """Draw a deformation: rotation, scaling, shear, two octaves of smooth displacement, a mirror.

    Parameters
    ----------
    config : SynthesisConfig
        Ranges.
    rng : Generator
        Source of the randomness.

    Returns
    -------
    Warp
    """
    octaves = ((32.0, config.warp_mm), (14.0, config.fine_warp_mm))
    knots = tuple(
        (spacing, _knots(3, spacing, rng) * _uniform(rng, 0, largest))
        for spacing, largest in octaves
    )
    mirror = bool(torch.randint(2, (), generator=rng))
    return Warp(_random_matrix(config, rng), knots, mirror)


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
    mean = _uniform(rng, 0, 1, _RESIDUE + 1)
    if float(_uniform(rng, 0, 1)) < tissue_share:
        tissue_mean = _uniform(rng, 0, 1, 4)
        mean = tissue_mean[_tissues()] + 0.25 * (mean - 0.5)
    mean[_RESIDUE] = (mean[_RESIDUE] + mean[_FLUID]) / 2
    sd = _uniform(rng, 0, 0.06, _RESIDUE + 1)
    return Contrast(_both_sides_alike(mean), _both_sides_alike(sd))


def smooth_field(axes: Axes, knot_mm: float, rng: torch.Generator) -> torch.Tensor:
    """Draw a smooth random field of zero mean and unit variance.

    Parameters
    ----------
    axes : three Tensors, shapes (h,), (w,), (d,)
        Coordinates in mm.
    knot_mm : float
        Distance between the knots of its cubic B-spline.
    rng : Generator
        Source of the randomness.

    Returns
    -------
    Tensor, shape (h, w, d)
    """
    return _spline(_knots(1, knot_mm, rng), axes, knot_mm)[0]


def _scan(
    image: torch.Tensor,
    inside: torch.Tensor,
    spacing_mm: float,
    config: SynthesisConfig,
    rng: torch.Generator,
) -> torch.Tensor:
    """Imitate the scanner, then bring the brain to the intensities that inference sees."""
    bias = smooth_field(_axes(_shape(image), spacing_mm), 60.0, rng)
    image = image * torch.exp(bias * _uniform(rng, 0, config.bias))
    image = _gaussian_blur(image, float(_uniform(rng, 0, 1.0)))
    if float(_uniform(rng, 0, 1)) < 0.5:
        thickness = float(_uniform(rng, spacing_mm, max(spacing_mm, config.slice_mm)))
        axis = int(torch.randint(3, (), generator=rng))
        image = _thick_slices(image, axis, thickness / spacing_mm)
    noise = torch.randn(image.shape, generator=rng) * _uniform(rng, 0, 1) ** 2 * config.noise
    image = _to_unit(image, inside) + noise
    gamma = math.exp(config.gamma * float(torch.randn((), generator=rng)))
    image = image.clamp(min=0) ** gamma
    return _normalise(image + 1, inside)  # + 1: no voxel of the brain is 0 by chance


def _normalise(image: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Apply exactly what inference applies to a skull-stripped image."""
    normalised = NormalizeIntensity(nonzero=True)(image * inside)
    return torch.as_tensor(normalised, dtype=torch.float32)


def _to_unit(image: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Scale so that the brain's intensities span 0..1."""
    brain = image[inside]
    low, high = (brain.min(), brain.max()) if brain.numel() else (0.0, 1.0)
    return (image - low) / max(float(high - low), 1e-6)


def _thick_slices(image: torch.Tensor, axis: int, factor: float) -> torch.Tensor:
    """Average into slices `factor` voxels thick along an axis and interpolate back."""
    shape = list(image.shape)
    shape[axis] = max(2, round(shape[axis] / factor))
    thick = functional.interpolate(image[None, None], size=shape, mode="area")
    return functional.interpolate(thick, size=image.shape, mode="trilinear")[0, 0]


def _gaussian_blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Blur by a Gaussian of at most one voxel with three taps per axis."""
    side = math.exp(-0.5 / max(sigma, 1e-3) ** 2)
    return _three_taps(image, side)


def _box_blur(image: torch.Tensor, width: float) -> torch.Tensor:
    """Average over a box of `width` voxels, 1 to 3: the partial volume of larger voxels."""
    return _three_taps(image, (width - 1) / 2)


def _three_taps(image: torch.Tensor, side: float) -> torch.Tensor:
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


def _resample(volume: torch.Tensor, grid: torch.Tensor, mode: str) -> torch.Tensor:
    """Sample a (i, j, k) volume at a grid of shape (1, h, w, d, 3); beyond it, its border."""
    sampled: torch.Tensor = functional.grid_sample(
        volume[None, None].float(), grid, mode=mode, padding_mode="border", align_corners=True
    )[0, 0]
    return sampled


def _spline(coefficients: torch.Tensor, axes: Axes, spacing: float) -> torch.Tensor:
    """Evaluate cubic B-splines (c, n, n, n) on axes, unit variance for unit coefficients."""
    h, w, d = (_spline_weights(axis, coefficients.shape[-1], spacing) for axis in axes)
    field = torch.einsum("cxyz,dz->cxyd", coefficients, d)
    field = torch.einsum("cxyd,wy->cxwd", field, w)
    return torch.einsum("cxwd,hx->chwd", field, h)


def _spline_weights(axis: torch.Tensor, count: int, spacing: float) -> torch.Tensor:
    """Weights (len(axis), count) of the knots, each row of unit length."""
    knots = (torch.arange(count) - (count - 1) / 2) * spacing
    t = ((axis[:, None] - knots) / spacing).abs()
    near, far = 2 / 3 - t**2 + t**3 / 2, (2 - t).clamp(min=0) ** 3 / 6
    weights = torch.where(t < 1, near, far)
    length: torch.Tensor = torch.linalg.vector_norm(weights, dim=1, keepdim=True)
    return weights.div(length)


def _knots(channels: int, spacing: float, rng: torch.Generator) -> torch.Tensor:
    """Independent normal coefficients that cover the reach, shape (channels, n, n, n)."""
    count = 2 * math.ceil(_REACH_MM / spacing) + 3
    return torch.randn((channels, count, count, count), generator=rng)


def _random_matrix(config: SynthesisConfig, rng: torch.Generator) -> torch.Tensor:
    """Rotation · shear · scale, shape (3, 3)."""
    angles = _uniform(rng, -1, 1, 3) * math.radians(config.rotation_deg)
    generators = torch.zeros(3, 3)
    for angle, (i, j) in zip(angles, ((1, 2), (2, 0), (0, 1)), strict=True):
        generators[i, j], generators[j, i] = -angle, angle
    shear = torch.eye(3) + torch.triu(_uniform(rng, -1, 1, 3, 3), diagonal=1) * config.shear
    size = 1 + (_uniform(rng, -1, 1) + _uniform(rng, -1, 1, 3) / 2) * config.scale / 1.5
    return torch.linalg.matrix_exp(generators) @ shear @ torch.diag(size)


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


def _brain_mask(
    labels: npt.NDArray[np.uint8], images: Sequence[npt.NDArray[np.float32]]
) -> npt.NDArray[np.bool_]:
    """Brain with its sulci: where an image is not 0, or else the closed label map."""
    mask = labels > 0
    if images:
        return np.asarray(np.any([mask, *(image != 0 for image in images)], axis=0))
    grown = _distance_to(np.pad(mask, 8)) <= 6
    closed: npt.NDArray[np.bool_] = _distance_to(~grown)[8:-8, 8:-8, 8:-8] > 6
    return closed | mask


def _depth_outside(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Signed distance to the mask's surface in mm, positive outside."""
    return np.where(mask, 0.5 - _distance_to(~mask), _distance_to(mask) - 0.5).astype(np.float32)


def _distance_to(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Distance of each voxel to the mask's nearest voxel, 0 inside."""
    distance: npt.NDArray[np.float32] = np.asarray(distance_transform_edt((~mask)[None]))[0]
    return distance


def _generation_classes(
    labels: npt.NDArray[np.uint8], depth: npt.NDArray[np.float32]
) -> npt.NDArray[np.uint8]:
    """Label map in which the unlabelled voxels are fluid or residue."""
    unlabelled = np.where(depth < 0, _FLUID, _RESIDUE)
    return np.where(labels > 0, labels, unlabelled).astype(np.uint8)


def _unit_range(image: npt.NDArray[np.float32]) -> torch.Tensor:
    """Scale so that the brain's 99.5th percentile is 1."""
    top = float(np.percentile(image[image != 0], 99.5))
    return torch.from_numpy((image / top).astype(np.float32))


def _box_centre(mask: torch.Tensor) -> torch.Tensor:
    """Centre of a mask's bounding box in voxels, shape (3,)."""
    where = mask.nonzero()
    if not len(where):
        raise ValueError("no brain in the label map: it has no voxel above 0")
    return (where.amin(dim=0) + where.amax(dim=0)) / 2


def _axes(shape: Shape, spacing_mm: float) -> Axes:
    """Coordinates of a grid's voxels in mm from its centre, one tensor per axis."""
    h, w, d = ((torch.arange(n) - (n - 1) / 2) * spacing_mm for n in shape)
    return h, w, d


def _shape(image: torch.Tensor) -> Shape:
    h, w, d = image.shape
    return h, w, d


def _uniform(rng: torch.Generator, low: float, high: float, *shape: int) -> torch.Tensor:
    return low + (high - low) * torch.rand(shape, generator=rng)
