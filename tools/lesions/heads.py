"""Whole heads with lesions, as FLAIR: what ``ms-lesions`` is given when nobody took the skull off.

The brain is painted by the looks that its training has, what lies round it by those of the heads
that ``brain-structures``, which takes the skull off, was trained on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from brain.deformation import grid_axes, random_warp
from brain.looks import LOOKS, Looks, paint_surroundings
from brain.people import CARD as PEOPLE
from brain.people import anatomy_of, interpolated, look_up, read_person
from brain.synthesis import VALIDATION_SEED
from lesions.flair import Place, painted, random_means, scanned, with_lesions
from lesions.hosts import BRAIN, are_in, atlas_centroids, whole_host
from lesions.patients import CARD, read_lesions
from lesions.synthesis import LesionConfig, Moved, Shape, source_of
from napari_tokensparse.model.noise import keyed_generator
from napari_tokensparse.volumes.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from lesions.hosts import Host
    from lesions.patients import Lesions

_WHOLE = (208, 256, 256)  # voxels of 1 mm about the brain's middle
_AIR = 0.02
_BEYOND_MM = 1.0  # what a careful strip leaves round the brain


class Head(NamedTuple):
    """A scan of a whole head, the same scan stripped by the truth, and its true lesions."""

    scan: Volume
    stripped: Volume
    truth: npt.NDArray[np.bool_]


def heads(people: Path, masks: Path) -> Iterator[Head]:
    """Paint each person of the card with the lesions of a patient of the card."""
    for person, number in zip(PEOPLE, CARD, strict=True):
        anatomy = anatomy_of(read_person(people / f"seg_{person:02d}.nii.gz")[0])
        host, lesions = whole_host(anatomy, atlas_centroids()), read_lesions(masks, number)
        rng = keyed_generator(VALIDATION_SEED, person, number, 0)
        yield head_of(host, lesions, _WHOLE, rng, f"person {person}, lesions {number}")


def head_of(host: Host, lesions: Lesions, shape: Shape, rng: torch.Generator, name: str) -> Head:
    """Paint a head of so many mm, the brain's middle in its middle, in a random FLAIR look."""
    config, axes = LesionConfig(), grid_axes(shape, 1.0)
    warp = random_warp(config.anatomy, rng)
    moved = Moved(host, lesions, config, rng)
    points = source_of(host, warp, axes)
    which = look_up(host.anatomy.looks, points)
    mean = random_means(rng)
    mean[0] = _AIR
    place = Place(axes, which, interpolated(host.ventricle_mm, points))
    image = painted(place, mean, config.flair, rng)
    said = Looks(mean, torch.zeros(LOOKS), t1=False)
    image = paint_surroundings(image[..., None], which.long()[..., None], said, 1.0, rng)
    share = moved.share(points, axes, rng)
    image = with_lesions(image[..., 0], share, axes, mean, config.flair, rng)
    image = scanned(image, axes, config.flair, rng)
    inside = interpolated(host.anatomy.depth, points / 2) < _BEYOND_MM
    inside |= are_in(which, BRAIN)
    scan = Volume(100 * image[None].numpy(), np.eye(4), name)
    alone = np.where(inside.numpy(), scan.array, np.float32(0))
    return Head(scan, replace(scan, array=alone), ((share > 0.5) & inside).numpy())
