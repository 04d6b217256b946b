"""Training samples of ``brain-structures`` from label maps of many people, whole heads included.

Domain randomisation after Billot et al., "SynthSeg: Segmentation of brain MRI scans of any contrast
and resolution without retraining", Medical Image Analysis 86 (2023), with targets that are shares:
every 3 mm voxel is looked up at eight places, which say how much of it each structure has, and of
whose intensities its own is the mean. That is what the model's preprocessing does to a scan: it
resamples to half the voxel size and averages eight voxels to one.

Each sample is a pure function of its key and the device; all but the small draws happens there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from brain.appearance import scan
from brain.atlas import LEFT_WHITE_MATTER, RIGHT_WHITE_MATTER, build_atlas, training_t1s
from brain.deformation import grid_axes, random_warp, smooth_field, uniform
from brain.looks import (
    FIRST_OUTSIDE,
    FLUID,
    LEFT_LESION,
    LOOKS,
    OTHER_TISSUE,
    OUTSIDE_IDS,
    RIGHT_LESION,
    PeopleConfig,
    paint_surroundings,
    random_looks,
    target_table,
)
from brain.structures import (
    BY_SIDE,
    CLASS_COUNT,
    ids_to_classes,
    merge_ids,
    mirrored_classes,
)
from napari_tokensparse.model.noise import keyed_generator

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from brain.deformation import Warp

TRAINING, CHOOSING, CARD = range(1, 13), (13, 14), (15, 16)
"""Numbers of the people to train on, to choose by, and of whom nothing is chosen."""

SPACING_MM = 3.0
_FLUID_IDS, _LESION_IDS = (24, 30, 62, 72), {25: LEFT_LESION, 57: RIGHT_LESION}
_COARSE_MM = 2  # of the signed distance to the brain's surface
_CLOSING_MM = 6


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One label map, ready to be looked up.

    Attributes
    ----------
    looks
        ``(i, j, k)`` uint8 generation classes on a 1 mm RAS grid; 0 is air.
    depth
        ``(i', j', k')`` signed distance to the brain's surface in mm, positive outside, on a grid
        of 2 mm whose first voxel is the first of ``looks``.
    centre
        Middle of the brain's bounding box, in voxels of ``looks``.
    images
        Real scans of it, ``(i, j, k)`` float32, 0 outside the brain.
    has_head
        Whether what lies outside the brain is labelled.
    """

    looks: torch.Tensor
    depth: torch.Tensor
    centre: torch.Tensor
    images: tuple[torch.Tensor, ...] = ()
    has_head: bool = True


class Sample(NamedTuple):
    """One training pair: image ``(1, h, w, d)`` and shares ``(28, h, w, d)`` float16."""

    image: torch.Tensor
    shares: torch.Tensor


def read_person(path: Path) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """Read a label map, turned to RAS: FreeSurfer's ids ``(i, j, k)``, and the affine."""
    image = nib.as_closest_canonical(nib.load(path))
    return np.asanyarray(image.dataobj).astype(np.int32), np.asarray(image.affine)


def structure_classes(ids: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
    """Turn FreeSurfer's ids on a RAS grid into class indices 0..27.

    Lesions and white matter of unknown side go to the white matter of the nearer side.
    """
    merged = merge_ids(ids)
    merged[ids == 25], merged[ids == 57] = LEFT_WHITE_MATTER, RIGHT_WHITE_MATTER
    where = np.nonzero(merged == BY_SIDE)
    if where[0].size:
        sides = [
            np.nonzero((merged == side).any(axis=(1, 2)))[0].mean()
            for side in (LEFT_WHITE_MATTER, RIGHT_WHITE_MATTER)
        ]
        left = np.abs(where[0] - sides[0]) < np.abs(where[0] - sides[1])
        merged[where] = np.where(left, LEFT_WHITE_MATTER, RIGHT_WHITE_MATTER)
    return ids_to_classes(merged)


def anatomy_of(ids: npt.NDArray[np.int32], device: str = "cpu") -> Anatomy:
    """Prepare a person's label map of FreeSurfer's ids on a 1 mm RAS grid."""
    classes = structure_classes(ids)
    looks = classes.copy()
    brain = (ids > 0) & (ids < 500) & ~np.isin(ids, _FLUID_IDS)
    looks[brain & (classes == 0)] = OTHER_TISSUE
    looks[np.isin(ids, _FLUID_IDS)] = FLUID
    for source, look in _LESION_IDS.items():
        looks[ids == source] = look
    looks[ids >= 500] = LOOKS - 1
    for look, source in enumerate(OUTSIDE_IDS, start=FIRST_OUTSIDE):
        looks[ids == source] = look
    box = ndimage.find_objects((looks > 0).astype(np.uint8))[0]
    return _anatomy(looks[box], brain[box], (), has_head=True, device=device)


def atlas_anatomy(device: str = "cpu") -> Anatomy:
    """Prepare the average anatomy with its two T1-weighted averages."""
    labels, _ = build_atlas()
    t1s = [image for _, image, _ in training_t1s()]
    brain = np.any([labels > 0, *(image != 0 for image in t1s)], axis=0)
    looks = np.where(labels > 0, labels, np.where(brain, FLUID, 0)).astype(np.uint8)
    images = tuple(image / np.percentile(image[image != 0], 99.5) for image in t1s)
    return _anatomy(looks, brain, images, has_head=False, device=device)


def _anatomy(
    looks: npt.NDArray[np.uint8],
    brain: npt.NDArray[np.bool_],
    images: Sequence[npt.NDArray[np.float32]],
    has_head: bool,
    device: str,
) -> Anatomy:
    coarse = brain[::_COARSE_MM, ::_COARSE_MM, ::_COARSE_MM]
    margin = _CLOSING_MM // _COARSE_MM + 1
    grown = _distance_to(np.pad(coarse, margin)) <= _CLOSING_MM
    inside = (_distance_to(~grown) > _CLOSING_MM)[(slice(margin, -margin),) * 3] | coarse
    depth = np.where(inside, 0.5 - _distance_to(~inside), _distance_to(inside) - 0.5)
    spans = [np.nonzero(brain.any(axis=tuple({0, 1, 2} - {axis})))[0] for axis in range(3)]
    centre = torch.tensor([(span[0] + span[-1]) / 2 for span in spans], dtype=torch.float32)
    return Anatomy(
        torch.from_numpy(looks).contiguous().to(device),
        torch.from_numpy(depth.astype(np.float32)).to(device),
        centre.to(device),
        tuple(torch.from_numpy(image.astype(np.float32)).to(device) for image in images),
        has_head,
    )


def _distance_to(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Distance in mm of each voxel of the coarse grid to the mask, 0 inside."""
    depth: npt.NDArray[np.float64] = ndimage.distance_transform_edt(~mask, sampling=_COARSE_MM)
    return depth


class People:
    """Makes training pairs from several anatomies; a `Sampler` of the training loop.

    Parameters
    ----------
    anatomies
        Those with real images are taken twice as often.
    window
        Shape (h, w, d) of the samples, in voxels of 3 mm.
    config
        Ranges of the randomness.
    """

    def __init__(
        self, anatomies: Sequence[Anatomy], window: tuple[int, int, int], config: PeopleConfig
    ) -> None:
        self._anatomies, self._window, self._config = anatomies, window, config
        self._weights = torch.tensor([2.0 if each.images else 1.0 for each in anatomies])
        device = anatomies[0].looks.device
        self._device = device
        self._targets = target_table().to(device)
        self._mirrored = torch.from_numpy(mirrored_classes()).long().to(device)

    def windows(self, seed: int, index: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Make what a training step takes of a key: one pair."""
        sample = self.sample(seed, index)
        return [(sample.image, sample.shares)]

    def sample(self, seed: int, index: int) -> Sample:
        """Make the pair of a key; the same key gives the same pair on one kind of device."""
        rng = keyed_generator(seed, index)
        config = self._config
        anatomy = self._anatomies[int(torch.multinomial(self._weights, 1, generator=rng))]
        warp = random_warp(config, rng)
        chances = uniform(rng, 0, 1, 4).tolist()
        with_head = anatomy.has_head and chances[0] < config.head_share
        middle, size = self._extent(anatomy, warp)
        reach = config.head_shift_mm if with_head else config.shift_mm
        shift = (uniform(rng, -1, 1, 3) * reach / SPACING_MM).round() * SPACING_MM
        box = self._whole() if with_head else self._box(size, shift)
        points = self._points(anatomy, warp, middle - shift, box)
        looks = look_up(anatomy.looks, points)
        eighths = _eighths(looks)  # (h, w, d, 8)
        image = None
        if anatomy.images and chances[1] < config.real_share:
            picked = anatomy.images[int(torch.randint(len(anatomy.images), (), generator=rng))]
            image = F.avg_pool3d(interpolated(picked, points)[None], 2)[0]
            image = 1 - image if chances[2] < 0.2 else image
        real = image is not None
        shares = self._shares(eighths)
        if image is None:
            image = self._painted(eighths, with_head, rng)
        inside = self._inside(anatomy, points, shares, with_head, real, rng)
        brain = shares[0] < 0.5 if with_head else None
        image = scan(image, inside, SPACING_MM, config, rng, brain)
        shares[0] = torch.where(inside, shares[0], 1.0)
        shares[1:] *= inside
        if warp.mirror:
            shares = shares[self._mirrored]
        return self._laid(image, shares, box)

    def _whole(self) -> tuple[slice, slice, slice]:
        h, w, d = (slice(0, n) for n in self._window)
        return h, w, d

    def _box(self, size: torch.Tensor, shift: torch.Tensor) -> tuple[slice, slice, slice]:
        """Voxels of the window that the deformed brain can reach."""
        spans = []
        for n, millimetres, moved in zip(self._window, size.tolist(), shift.tolist(), strict=True):
            middle = n / 2 + moved / SPACING_MM
            half = (millimetres / 2 + self._config.strip_mm[1] + 4) / SPACING_MM
            spans.append(slice(max(0, int(middle - half)), min(n, int(middle + half) + 1)))
        h, w, d = spans
        return h, w, d

    def _extent(
        self, anatomy: Anatomy, warp: Warp, step: float = 6.0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Middle and size, in mm, of the deformed brain's bounding box, on a coarse grid."""
        count = 40
        axes = grid_axes((count, count, count), step)
        depth = self._depth(anatomy, self._source(anatomy, warp, axes))
        where = (depth < 0).nonzero().float()
        if not len(where):
            raise ValueError("a deformed brain lies outside the coarse grid")
        low, high = where.amin(dim=0).cpu(), where.amax(dim=0).cpu()
        return ((low + high) / 2 - (count - 1) / 2) * step, (high - low + 1) * step

    def _points(
        self,
        anatomy: Anatomy,
        warp: Warp,
        centre: torch.Tensor,
        box: tuple[slice, slice, slice],
    ) -> torch.Tensor:
        """Source voxels ``(3, 2h, 2w, 2d)`` of the eight places of each voxel of a box."""
        axes = []
        for n, span, middle in zip(self._window, box, centre.tolist(), strict=True):
            halves = torch.arange(2 * span.start, 2 * span.stop, dtype=torch.float32)
            axes.append((halves - (2 * n - 1) / 2) * (SPACING_MM / 2) + middle)
        first, second, third = axes
        return self._source(anatomy, warp, (first, second, third))

    def _source(
        self, anatomy: Anatomy, warp: Warp, axes: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        """Follow a warp from mm in the window to voxels of the label map."""
        placed = warp.to(self._device)
        h, w, d = (axis.to(self._device) for axis in axes)
        return placed.source_mm((h, w, d)) + anatomy.centre[:, None, None, None]

    def _depth(self, anatomy: Anatomy, points: torch.Tensor) -> torch.Tensor:
        return interpolated(anatomy.depth, points / _COARSE_MM)

    def _shares(self, eighths: torch.Tensor) -> torch.Tensor:
        """Shares ``(28, h, w, d)`` of the classes, from generation classes ``(h, w, d, 8)``."""
        classes = self._targets[eighths.long()].flatten(0, 2)
        counts = torch.zeros(len(classes), CLASS_COUNT, device=self._device)
        counts.scatter_add_(
            1, classes, torch.full((), 0.125, device=self._device).expand(classes.shape)
        )
        return counts.view(*eighths.shape[:3], CLASS_COUNT).movedim(-1, 0)

    def _painted(
        self, eighths: torch.Tensor, with_head: bool, rng: torch.Generator
    ) -> torch.Tensor:
        """Give the anatomy a contrast: the mean of a voxel's eight places, and texture."""
        looks = random_looks(self._config, rng)
        which = eighths.long()
        places = looks.mean.to(self._device)[which]
        if with_head:
            places = paint_surroundings(places, which, looks, SPACING_MM, rng)
        clean = places.mean(dim=-1)
        texture = _normal_like(clean, rng) * looks.sd.to(self._device)[which[..., 0]]
        return clean + texture

    def _inside(
        self,
        anatomy: Anatomy,
        points: torch.Tensor,
        shares: torch.Tensor,
        with_head: bool,
        real: bool,
        rng: torch.Generator,
    ) -> torch.Tensor:
        """Tell what is not air: of a head all that was scanned; else an uneven skull strip."""
        _, h, w, d = shares.shape
        field = smooth_field(grid_axes((h, w, d), SPACING_MM), 40.0, rng).to(self._device)
        cut = field + float(uniform(rng, *self._config.strip_mm))
        clean_air = float(uniform(rng, 0, 1)) < 0.5
        middle = F.avg_pool3d(points[None], 2)[0]
        if with_head:
            limits = torch.tensor(anatomy.looks.shape, device=self._device)[:, None, None, None]
            covered = ((middle >= 0) & (middle < limits)).all(dim=0)
            air = look_up(anatomy.looks, middle) == 0
            return covered & ~air if clean_air else covered
        cut = cut.clamp(max=0) if real else cut  # outside its mask a real scan shows nothing
        return (self._depth(anatomy, middle) < cut) | (shares[1:].sum(dim=0) > 0.5)

    def _laid(
        self, image: torch.Tensor, shares: torch.Tensor, box: tuple[slice, slice, slice]
    ) -> Sample:
        """Lay a box into the window, with air around it."""
        window = torch.zeros(1, *self._window, device=self._device)
        window[(0, *box)] = image
        laid = torch.zeros(*self._window, CLASS_COUNT, dtype=torch.float16, device=self._device)
        laid[..., 0] = 1.0
        laid[box] = shares.movedim(0, -1).half()
        return Sample(window, laid.movedim(-1, 0))


def look_up(volume: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Take the nearest voxel at points ``(3, ...)``; 0 outside the volume."""
    flat = torch.zeros(points.shape[1:], dtype=torch.int64, device=points.device)
    outside = torch.zeros(points.shape[1:], dtype=torch.bool, device=points.device)
    for n, axis in zip(volume.shape, points, strict=True):
        index = axis.round().int()
        outside |= (index < 0) | (index >= n)
        flat.mul_(n).add_(index.clamp_(0, n - 1))
    return volume.flatten().take(flat).masked_fill_(outside, 0)


def interpolated(volume: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Interpolate a float volume linearly at points ``(3, ...)``; beyond it, its border."""
    extent = torch.tensor(volume.shape, dtype=torch.float32, device=points.device) - 1
    grid = torch.stack([2 * points[axis] / extent[axis] - 1 for axis in (2, 1, 0)], dim=-1)
    sampled: torch.Tensor = F.grid_sample(
        volume[None, None], grid[None], padding_mode="border", align_corners=True
    )[0, 0]
    return sampled


def _eighths(values: torch.Tensor) -> torch.Tensor:
    """See ``(2h, 2w, 2d)`` as the eight places of each voxel, ``(h, w, d, 8)``."""
    h, w, d = (n // 2 for n in values.shape)
    cubes = values.view(h, 2, w, 2, d, 2).permute(0, 2, 4, 1, 3, 5)
    return cubes.reshape(h, w, d, 8)


def _normal_like(like: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Draw normal values where they are needed, keyed by the small generator."""
    seed = int(torch.randint(2**62, (), generator=rng))
    there = torch.Generator(like.device).manual_seed(seed)
    return torch.randn(like.shape, generator=there, device=like.device)
