"""Scans to judge ``ms-lesions`` by: the real patient to choose by, and made-up ones for the card.

The made-up ones are of people and patients that no training sees, whole heads at once, by a
reserved seed; they share the training's looks. Only the real one says whether those carry over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import ndimage

from brain.deformation import grid_axes, random_warp
from brain.people import CARD as PEOPLE
from brain.structures import STRUCTURES
from brain.synthesis import VALIDATION_SEED, as_scan
from lesions.hosts import read_host
from lesions.patients import CARD, CHOOSING, read_lesions
from lesions.synthesis import LesionConfig, Moved, patient_in
from napari_tokensparse.model.noise import keyed_generator
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

REAL, MADE_UP = "real", "made up"
LEFT_FOR_CARD = tuple(zip(PEOPLE, CARD, strict=True))
TO_CHOOSE_BY = ((13, 24), (14, 8), (13, 10), (14, 22))
"""People that no training sees, with the lesions, few to many, of patients that it does."""
_WHOLE = (192, 224, 192)  # voxels of 1 mm that hold any deformed brain
_CLOSING_MM = 3  # lesions are dark in T1 and leave holes in white matter


class Case(NamedTuple):
    """A scan, its true lesions, and where white matter is; on one grid of 1 mm.

    Attributes
    ----------
    group
        `REAL` or `MADE_UP`.
    scan
        FLAIR.
    truth, white
        Masks ``(i, j, k)``.
    """

    group: str
    scan: Volume
    truth: npt.NDArray[np.bool_]
    white: npt.NDArray[np.bool_]


def real_scan(masks: Path, number: int = CHOOSING[0]) -> tuple[str, Volume, npt.NDArray[np.bool_]]:
    """Read the FLAIR and the lesions of a patient whose images there are: group, scan, truth."""
    scan = read_volume(masks / f"real_{number:02d}_FLAIR.nii.gz")
    return REAL, scan, read_volume(masks / f"mask_{number:02d}.nii.gz").array[0] > 0


def real_case(masks: Path, number: int = CHOOSING[0]) -> Case:
    """Read a patient whose images there are; white matter is that of ``brain-structures`` in T1."""
    group, scan, truth = real_scan(masks, number)
    t1 = read_volume(masks / f"real_{number:02d}_T1.nii.gz")
    names = [s.id for s in STRUCTURES if "White-Matter" in s.name or s.name == "Brain-Stem"]
    white = np.isin(segment(t1, "brain-structures").labels, names)
    white = ndimage.binary_closing(white, iterations=_CLOSING_MM)
    return Case(group, scan, truth, white)


def made_up_cases(
    people: Path, masks: Path, pairs: Sequence[tuple[int, int]] = LEFT_FOR_CARD
) -> Iterator[Case]:
    """Make a patient of each pair of a person and a patient whose lesions that one gets."""
    for person, number in pairs:
        config, rng = LesionConfig(), keyed_generator(VALIDATION_SEED, person, number)
        host, lesions = read_host(people, person), read_lesions(masks, number)
        warp = random_warp(config.anatomy, rng)
        moved = Moved(host, lesions, config, rng)
        made = patient_in(host, warp, moved, grid_axes(_WHOLE, 1.0), config, rng)
        name = f"person {person}, lesions {number}"
        scan = Volume(as_scan(made.image)[None].numpy(), np.eye(4), name)
        yield Case(MADE_UP, scan, made.labels.numpy() > 0, made.white.numpy())
