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

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from monai.transforms.utils import distance_transform_edt
from pydantic import BaseModel, ConfigDict
from torch.nn import functional

from brain.appearance import FLUID, RESIDUE, box_blur, random_contrast, scan
from brain.deformation import Warp, grid_axes, random_warp, smooth_field, uniform
from brain.structures import CLASS_COUNT, mirrored_classes
from napari_tokensparse.model.noise import keyed_generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from brain.deformation import Shape

__all__ = [
    "NATIVE_WINDOW",
    "VALIDATION_SEED",
    "Sample",
    "SynthesisConfig",
    "Synthesizer",
    "as_scan",
]

VALIDATION_SEED = 1_000_000_007
"""Seed of the validation samples, so that no training run uses it by chance."""
NATIVE_WINDOW: Shape = (208, 240, 208)
"""Window that holds any deformed brain at 1 mm."""


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
    slice_mm, slice_share : float
        Thickest slice, and the share of samples that have thick slices.
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
    slice_share: float = 0.5
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
        self._images = [box_blur(_unit_range(image), spacing_mm) for image in images]
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
        image = scan(intensity, inside, self.spacing_mm, self.config, rng)
        classes[(classes >= CLASS_COUNT) | ~inside] = 0
        labels = self._mirrored[classes.int()] if warp.mirror else classes
        return Sample(image[None], labels)

    def windows(self, seed: int, index: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Make what a training step takes of a key: one pair, the labels as int64."""
        sample = self.sample(seed, index)
        return [(sample.image, sample.labels.long())]

    def _grid(self, warp: Warp, rng: torch.Generator) -> torch.Tensor:
        """Make the sampling grid that centres the deformed brain in the window, jitter added."""
        jitter = uniform(rng, -1, 1, 3) * self.config.jitter_voxels
        centre = self._deformed_centre(warp) - jitter.round() * self.spacing_mm
        axes = grid_axes(self.window, self.spacing_mm)
        shifted = (axes[0] + centre[0], axes[1] + centre[1], axes[2] + centre[2])
        return self._normalised(warp.source_mm(shifted))

    def _deformed_centre(self, warp: Warp, spacing_mm: float = 5.0) -> torch.Tensor:
        """Find the centre of the deformed brain's bounding box, in mm, on a coarse grid."""
        count = round(1.25 * max(self._depth.shape) / spacing_mm)
        axes = grid_axes((count, count, count), spacing_mm)
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
        chosen, inverted = uniform(rng, 0, 1, 2).tolist()
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
        clean = box_blur(contrast.mean[self._classes.int()], self.spacing_mm)
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
        axes = grid_axes(self.window, self.spacing_mm)
        cut = smooth_field(axes, 40.0, rng) + float(uniform(rng, low, high))
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


def _resample(volume: torch.Tensor, grid: torch.Tensor, mode: str) -> torch.Tensor:
    """Sample a (i, j, k) volume at a grid of shape (1, h, w, d, 3); beyond it, its border."""
    sampled: torch.Tensor = functional.grid_sample(
        volume[None, None].float(), grid, mode=mode, padding_mode="border", align_corners=True
    )[0, 0]
    return sampled


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
    unlabelled = np.where(depth < 0, FLUID, RESIDUE)
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
