"""Training windows of ``ms-lesions``: patients' lesions in other people's brains, as FLAIR.

After Billot et al. (SynthSeg, Medical Image Analysis 86, 2023) an anatomy is deformed and given
intensities; here those of FLAIR, and lesions of a patient, moved, turned round, grown or shrunk and
kept to white matter and its border. Now and then another's stand beside them that are no brighter
than cortex, and no lesions: where lesions mostly lie, healthy white matter is often brighter, so
that a place must not be enough. Each window is a pure function of its key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict

from brain.deformation import grid_axes, random_warp, smooth_field, uniform
from brain.people import interpolated, look_up
from brain.synthesis import SynthesisConfig
from lesions.flair import (
    FlairConfig,
    Place,
    painted,
    random_means,
    scanned,
    with_lesions,
    with_likenesses,
)
from lesions.hosts import BRAIN, WHITE, are_in
from napari_tokensparse.model.noise import keyed_generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brain.deformation import Axes, Warp
    from lesions.hosts import Host
    from lesions.patients import Lesions

Shape = tuple[int, int, int]
_COARSE_MM = 2  # of an anatomy's depth
_MEASURED_MM = 4.0  # grid on which a brain's mean and spread are measured


class LesionConfig(BaseModel):
    """Ranges of the randomness.

    Attributes
    ----------
    anatomy, flair
        Of the brain's shape and of what it shows.
    grow_mm, rough_mm
        By how much lesions grow, and unevenly so.
    shift_mm, stretch
        Standard deviation of their offset along each axis; largest change of their size.
    thin_share
        Share of the samples in which lesions of some regions are left out.
    likeness_share
        Share of the samples in which the lesions of another patient are painted as what looks like
        some and is none.
    likeness_mm
        By how much those grow.
    at_lesion
        Share of the windows that have a lesion at their middle.
    strip_mm
        Where the skull strip cuts, in mm outwards from the brain.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    anatomy: SynthesisConfig = SynthesisConfig(
        rotation_deg=8.0, scale=0.12, shear=0.04, warp_mm=3.0, fine_warp_mm=1.2
    )
    flair: FlairConfig = FlairConfig()
    grow_mm: tuple[float, float] = (-0.5, 0.8)
    rough_mm: float = 0.5
    shift_mm: float = 2.5
    stretch: float = 0.12
    thin_share: float = 0.4
    likeness_share: float = 0.0
    likeness_mm: tuple[float, float] = (-0.5, 3.0)
    at_lesion: float = 0.6
    strip_mm: tuple[float, float] = (-1.5, 1.0)


class Sample(NamedTuple):
    """One training pair: image ``(1, h, w, d)`` and labels ``(h, w, d)`` int64, 1 a lesion."""

    image: torch.Tensor
    labels: torch.Tensor


class LesionSampler:
    """Makes training pairs; a `Sampler` of the training loop.

    Parameters
    ----------
    hosts
        Anatomies.
    patients
        Lesions.
    window
        Shape (h, w, d) of the samples in voxels of 1 mm.
    box
        Edge of the cube of a window that is not empty, a multiple of 8; the whole window if not
        given. A small one is quicker to make and to learn from.
    config
        Ranges.
    """

    def __init__(
        self,
        hosts: Sequence[Host],
        patients: Sequence[Lesions],
        window: Shape,
        box: int | None = None,
        config: LesionConfig | None = None,
    ) -> None:
        self._hosts, self._patients, self._window = hosts, patients, window
        h, w, d = (min(box or n, n) for n in window)
        self._box = (h, w, d)
        self._config = config or LesionConfig()

    def windows(self, seed: int, index: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Make what a training step takes of a key: one pair."""
        sample = self.sample(seed, index)
        return [(sample.image, sample.labels)]

    def sample(self, seed: int, index: int) -> Sample:
        """Make the pair of a key; the same key gives the same pair."""
        rng = keyed_generator(seed, index)
        host = self._hosts[int(torch.randint(len(self._hosts), (), generator=rng))]
        lesions = self._patients[int(torch.randint(len(self._patients), (), generator=rng))]
        warp = random_warp(self._config.anatomy, rng)
        moved = Moved(host, lesions, self._config, rng)
        like = self._like(host, rng)
        middle = self._middle(host, warp, moved, rng)
        h, w, d = (a + m for a, m in zip(grid_axes(self._box, 1.0), middle, strict=True))
        made = patient_in(host, warp, moved, (h, w, d), self._config, rng, like)
        return self._laid(made.image, made.labels, rng)

    def _like(self, host: Host, rng: torch.Generator) -> Moved | None:
        """Choose, now and then, whose lesions are painted as what is none."""
        config = self._config
        if not config.likeness_share or float(uniform(rng, 0, 1)) >= config.likeness_share:
            return None
        lesions = self._patients[int(torch.randint(len(self._patients), (), generator=rng))]
        grown = config.model_copy(update={"grow_mm": config.likeness_mm})
        return Moved(host, lesions, grown, rng)

    def _middle(self, host: Host, warp: Warp, moved: Moved, rng: torch.Generator) -> list[float]:
        """Choose the middle of the box in mm: at a lesion, or anywhere that holds brain."""
        anywhere = uniform(rng, -1, 1, 3)
        at_lesion = float(uniform(rng, 0, 1)) < self._config.at_lesion
        jitter = uniform(rng, -1, 1, 3) * 12.0
        reach = (host.half - torch.tensor(self._box) / 2).clamp(min=4.0)
        place = 0.9 * anywhere * reach
        if at_lesion:
            source = moved.somewhere(rng) - host.anatomy.centre
            if warp.mirror:
                source[0].neg_()
            place = torch.linalg.solve(warp.matrix, source) + jitter
        return place.clamp(-reach, reach).tolist()

    def _laid(self, image: torch.Tensor, labels: torch.Tensor, rng: torch.Generator) -> Sample:
        """Lay the box into an empty window, at a token's corner."""
        if self._box == self._window:
            return Sample(image[None], labels)
        spans = []
        for n, edge in zip(self._window, self._box, strict=True):
            first = 8 * int(torch.randint((n - edge) // 8 + 1, (), generator=rng))
            spans.append(slice(first, first + edge))
        window, target = torch.zeros(self._window), torch.zeros(self._window, dtype=torch.int64)
        window[tuple(spans)], target[tuple(spans)] = image, labels
        return Sample(window[None], target)


class Moved:
    """A patient's lesions, brought into a host by chance.

    Parameters
    ----------
    host, lesions
        Where to, and whose.
    config
        By how much they move and grow.
    rng
        Source of the randomness.
    """

    def __init__(
        self, host: Host, lesions: Lesions, config: LesionConfig, rng: torch.Generator
    ) -> None:
        self._host, self._lesions, self._config = host, lesions, config
        self._mirror = bool(torch.randint(2, (), generator=rng))
        shift = torch.randn(3, generator=rng) * config.shift_mm
        size = 1 + uniform(rng, -1, 1, 3) * config.stretch
        affine = torch.cat([host.to_mni, torch.tensor([[0.0, 0.0, 0.0, 1.0]])])
        self._grow = float(uniform(rng, *config.grow_mm))
        self._thin = float(uniform(rng, 0, 1)) < config.thin_share
        change = torch.diag(torch.cat([size, torch.ones(1)]))
        change[:3, 3] = shift
        if self._mirror:
            change[0] = -change[0]
        self._affine = (change @ affine)[:3]  # host voxels to the patient's MNI mm

    def somewhere(self, rng: torch.Generator) -> torch.Tensor:
        """Choose a voxel of a lesion: its place ``(3,)`` in the host's voxels."""
        where = (self._lesions.outside_mm < 0).nonzero()
        picked = where[int(torch.randint(len(where), (), generator=rng))] + self._lesions.first
        matrix, offset = self._affine[:, :3], self._affine[:, 3]
        place: torch.Tensor = torch.linalg.solve(matrix, picked - offset)
        return place

    def share(self, points: torch.Tensor, axes: Axes, rng: torch.Generator) -> torch.Tensor:
        """Say how much of each voxel at host voxels ``(3, h, w, d)`` is lesion, 0 to 1."""
        config = self._config
        rough = config.rough_mm * smooth_field(axes, 5.0, rng)
        thinned = smooth_field(axes, 25.0, rng) if self._thin else None
        matrix, offset = self._affine[:, :3], self._affine[:, 3] - self._lesions.first
        x, y, z = points
        placed = torch.stack([row[0] * x + row[1] * y + row[2] * z for row in matrix])
        placed += offset[:, None, None, None]
        outside = interpolated(self._lesions.outside_mm, placed)
        share = (0.5 + self._grow + rough - outside).clamp_(0, 1)
        share *= (2.5 * interpolated(self._host.white, points) - 0.5).clamp_(0, 1)
        if thinned is not None:
            share *= thinned < 0.3
        return share


class Patient(NamedTuple):
    """A piece of a made-up patient, ``(h, w, d)`` each.

    Attributes
    ----------
    image
        FLAIR, exactly 0 outside the brain and z-scored over all of it.
    labels
        int64, 1 where a lesion is.
    white
        Where white matter is or was, as a mask.
    """

    image: torch.Tensor
    labels: torch.Tensor
    white: torch.Tensor


def patient_in(
    host: Host,
    warp: Warp,
    moved: Moved,
    axes: Axes,
    config: LesionConfig,
    rng: torch.Generator,
    like: Moved | None = None,
) -> Patient:
    """Make the piece of a patient that axes span, in mm from the middle of the brain.

    What looks ``like`` lesions, if anything does, is painted before them.
    """
    points = source_of(host, warp, axes)
    looks = look_up(host.anatomy.looks, points)
    mean = random_means(rng)
    place = Place(axes, looks, interpolated(host.ventricle_mm, points))
    image = painted(place, mean, config.flair, rng)
    if like is not None:
        image = with_likenesses(image, like.share(points, axes, rng), axes, mean, rng)
    share = moved.share(points, axes, rng)
    image = with_lesions(image, share, axes, mean, config.flair, rng)
    image = scanned(image, axes, config.flair, rng)
    cut = float(uniform(rng, *config.strip_mm)) + 0.7 * smooth_field(axes, 40.0, rng)
    inside = interpolated(host.anatomy.depth, points / _COARSE_MM) < cut
    inside |= are_in(looks, BRAIN)
    middle, spread = _measured(host, warp, mean, rng)
    image = torch.where(inside, (image - middle) / spread, 0.0)
    return Patient(image, ((share > 0.5) & inside).long(), are_in(looks, WHITE))


def _measured(
    host: Host, warp: Warp, mean: torch.Tensor, rng: torch.Generator
) -> tuple[float, float]:
    """Mean and spread of the whole brain, about what normalising the scan divides by."""
    points = source_of(host, warp, grid_axes((48, 56, 48), _MEASURED_MM))
    depth = interpolated(host.anatomy.depth, points / _COARSE_MM)
    brain = mean[look_up(host.anatomy.looks, points)[depth < 0].long()]
    shift, scale = uniform(rng, -1, 1, 2).tolist()
    spread = float(brain.std()) * (0.95 + 0.08 * scale)
    return float(brain.mean()) + 0.08 * spread * shift, spread


def source_of(host: Host, warp: Warp, axes: Axes) -> torch.Tensor:
    """Follow a warp from mm about the brain's middle to the host's voxels, ``(3, h, w, d)``."""
    return warp.source_mm(axes) + host.anatomy.centre[:, None, None, None]
