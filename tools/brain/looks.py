"""Random looks: what the tissues of a head show under some contrast.

Every label of a person's map has a generation class: a structure of ours, what else the brain
holds, or a tissue outside it. A look is the mean and the spread of each one's intensities. Outside
the brain the maps are coarse, so there each tissue is broken into patches: "soft tissue" is fat in
places, which is brightest of all in a T1, and muscle, as grey as cortex, in others.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from brain.atlas import LEFT_WHITE_MATTER, RIGHT_WHITE_MATTER
from brain.deformation import grid_axes, smooth_field, uniform
from brain.structures import CLASS_COUNT, STRUCTURES, mirrored_classes
from brain.synthesis import SynthesisConfig

FLUID, OTHER_TISSUE, LEFT_LESION, RIGHT_LESION = range(CLASS_COUNT, CLASS_COUNT + 4)
"""Generation classes inside the brain that are no structure of ours, or look otherwise than it."""
FIRST_OUTSIDE = RIGHT_LESION + 1
OUTSIDE_IDS = (502, 506, 507, 508, 509, 511, 512, 514, 515, 516, 530)
LOOKS = FIRST_OUTSIDE + len(OUTSIDE_IDS) + 1
"""Number of generation classes; the last one is any other id outside the brain."""

# Means of a T1-weighted look in which white matter is bright; the rest are drawn.
_T1 = {
    "Cerebral-White-Matter": 0.85,
    "Cerebral-Cortex": 0.55,
    "Lateral-Ventricle": 0.15,
    "Cerebellum-White-Matter": 0.84,
    "Cerebellum-Cortex": 0.55,
    "Thalamus": 0.70,
    "Caudate": 0.57,
    "Putamen": 0.63,
    "Pallidum": 0.76,
    "3rd-Ventricle": 0.17,
    "4th-Ventricle": 0.17,
    "Brain-Stem": 0.77,
    "Hippocampus": 0.57,
    "Amygdala": 0.56,
    "VentralDC": 0.74,
}
_T1_SPREAD = 0.05
# Level and spread of white matter, grey matter and fluid: T2-weighted, FLAIR, proton density.
_WEIGHTED = (
    ((0.35, 0.08), (0.48, 0.08), (0.95, 0.15)),
    ((0.55, 0.06), (0.67, 0.06), (0.15, 0.10)),
    ((0.55, 0.06), (0.68, 0.06), (0.75, 0.15)),
)
# Of the tissues outside the brain, by their id there; each by up to 0.25 more or less.
_T1_OUTSIDE = {
    502: 0.55,
    506: 0.22,  # eyes
    507: 0.50,  # soft tissue where it is not fat
    508: 0.55,
    509: 0.60,  # mucosa
    511: 0.75,  # skin
    512: 0.40,
    514: 0.45,  # veins and their sinuses
    515: 0.12,  # skull
    516: 0.65,  # its marrow
    530: 0.60,
}
_T1_OUTSIDE_SPREAD = 0.25
_SOFT, _SKULL, _MARROW = (FIRST_OUTSIDE + OUTSIDE_IDS.index(source) for source in (507, 515, 516))


class Looks(NamedTuple):
    """Intensities of the generation classes.

    Attributes
    ----------
    mean, sd : Tensor, shape (LOOKS,)
        A structure looks the same on both sides; air is dark.
    t1 : bool
        Whether white matter is bright, as in a T1-weighted scan.
    """

    mean: torch.Tensor
    sd: torch.Tensor
    t1: bool


class PeopleConfig(SynthesisConfig):
    """Ranges of the randomness, beside those of anatomy and scanner.

    Attributes
    ----------
    t1_share : float
        Share of synthetic contrasts drawn round a T1-weighted look; the rest are any contrast.
    inverted_share : float
        Share of the T1-weighted looks that are turned round: white matter dark, fluid bright.
    weighted_share : float
        Share of them drawn round the look of a T2-weighted, FLAIR or proton-density scan.
    head_share : float
        Share of the samples of people that keep skull, skin and eyes.
    shift_mm, head_shift_mm : float
        Largest offset of the brain's centre from the window's, stripped and with its head on.
    """

    rotation_deg: float = 30.0
    bias: float = 0.6
    slice_share: float = 0.4
    real_share: float = 0.5
    strip_mm: tuple[float, float] = (-1.0, 2.5)
    t1_share: float = 0.5
    inverted_share: float = 0.0
    weighted_share: float = 0.0
    head_share: float = 0.0
    shift_mm: float = 12.0
    head_shift_mm: float = 54.0


def target_table() -> torch.Tensor:
    """Class index of every generation class, ``(LOOKS,)``."""
    names = [structure.id for structure in STRUCTURES]
    table = torch.zeros(LOOKS, dtype=torch.int64)
    table[:CLASS_COUNT] = torch.arange(CLASS_COUNT)
    table[LEFT_LESION] = 1 + names.index(LEFT_WHITE_MATTER)
    table[RIGHT_LESION] = 1 + names.index(RIGHT_WHITE_MATTER)
    return table


def random_looks(config: PeopleConfig, rng: torch.Generator) -> Looks:
    """Draw mean and spread of the intensities of every generation class."""
    mean, sd = uniform(rng, 0, 1, LOOKS), uniform(rng, 0, 0.06, LOOKS)
    base = torch.tensor([_t1_mean(s.name) for s in STRUCTURES])
    moved = uniform(rng, -1, 1, LOOKS)
    tissues = uniform(rng, 0, 1, 3)
    kind, alike = uniform(rng, 0, 1, 2).tolist()
    if kind < config.t1_share:
        mean[1:CLASS_COUNT] = base + _T1_SPREAD * moved[1:CLASS_COUNT]
        mean[FLUID] = 0.15 + _T1_SPREAD * moved[FLUID]
        mean[OTHER_TISSUE] = 0.6 + 3 * _T1_SPREAD * moved[OTHER_TISSUE]
        mean[LEFT_LESION] = 0.65 + 3 * _T1_SPREAD * moved[LEFT_LESION]
    elif kind < config.t1_share + config.weighted_share:
        mean = _weighted(mean, base, moved, rng)
    elif alike < config.tissue_share:
        white, grey, fluid = (base > 0.72), (base > 0.3) & (base <= 0.72), base <= 0.3
        tissue = tissues[0] * white + tissues[1] * grey + tissues[2] * fluid
        mean[1:CLASS_COUNT] = tissue + 0.12 * moved[1:CLASS_COUNT]
        mean[FLUID] = tissues[2] + 0.12 * moved[FLUID]
    mirrored = torch.from_numpy(mirrored_classes()).long()
    first = torch.minimum(mirrored, torch.arange(CLASS_COUNT))
    for values in (mean, sd):
        values[:CLASS_COUNT] = values[first]
        values[RIGHT_LESION] = values[LEFT_LESION]
    t1 = kind < config.t1_share
    if t1 and config.inverted_share and float(uniform(rng, 0, 1)) < config.inverted_share:
        mean, t1 = (1 - mean).clamp(min=0.02), False
    mean[0] = 0.02 * float(uniform(rng, 0, 1))
    return Looks(mean, sd, t1)


def _weighted(
    mean: torch.Tensor, base: torch.Tensor, moved: torch.Tensor, rng: torch.Generator
) -> torch.Tensor:
    """Draw means in which grey matter is a little brighter than white, and iron is dark."""
    pick = int(torch.randint(len(_WEIGHTED), (), generator=rng))
    white, grey, fluid = (
        level + float(uniform(rng, -1, 1)) * spread for level, spread in _WEIGHTED[pick]
    )
    whiteness = ((base - 0.55) / (0.85 - 0.55)).clamp(0, 1)
    tissue = torch.where(base > 0.3, grey + whiteness * (white - grey), fluid)
    iron = torch.tensor(["Pallidum" in s.name for s in STRUCTURES]) * uniform(rng, 0, 0.15)
    drawn = mean.clone()
    drawn[1:CLASS_COUNT] = (tissue - iron + 0.03 * moved[1:CLASS_COUNT]).clamp(min=0.02)
    drawn[FLUID] = max(0.02, fluid + 0.05 * float(moved[FLUID]))
    drawn[OTHER_TISSUE] = white
    drawn[LEFT_LESION] = grey + float(uniform(rng, 0.0, 0.4))
    return drawn


def _t1_mean(name: str) -> float:
    return _T1[name.removeprefix("Left-").removeprefix("Right-")]


def paint_surroundings(
    image: torch.Tensor, which: torch.Tensor, looks: Looks, spacing_mm: float, rng: torch.Generator
) -> torch.Tensor:
    """Paint what lies outside the brain in patches, as maps that name it coarsely do not show it.

    Parameters
    ----------
    image : Tensor, shape (h, w, d, 8)
        Intensities at the eight places of each voxel, by their generation class.
    which : Tensor, shape (h, w, d, 8)
        Generation classes.
    looks : Looks
        The look of the rest.
    spacing_mm : float
        Voxel size.
    rng : Generator
        Source of the randomness.

    Returns
    -------
    Tensor
        The same shape; the brain, its fluid and air are as they were.
    """
    means = looks.mean.clone()
    moved, drawn = uniform(rng, -1, 1, len(OUTSIDE_IDS)), uniform(rng, 0, 1, 6).tolist()
    if looks.t1 and drawn[0] < 0.8:
        table = torch.tensor([_T1_OUTSIDE[source] for source in OUTSIDE_IDS])
        outside = table + _T1_OUTSIDE_SPREAD * moved
        means[FIRST_OUTSIDE:-1] = outside.clamp(min=0.02)
        fat, dark = 0.85 + 0.9 * drawn[1], 0.1 + 0.3 * drawn[2]
    else:
        fat, dark = 1.2 * drawn[1], drawn[2]
    axes = grid_axes((which.shape[0], which.shape[1], which.shape[2]), spacing_mm)
    fine, coarse = (smooth_field(axes, knot, rng).to(image.device) for knot in (9.0, 30.0))
    patches = (fine + coarse)[..., None]
    fat_over, dark_under = float(uniform(rng, -1.5, 1.5)), float(uniform(rng, -3.5, -1.0))
    there = which >= FIRST_OUTSIDE
    values = torch.where(there, means.to(image.device)[which], image)
    soft = which == _SOFT
    values = torch.where(soft & (patches > fat_over), fat, values)
    values = torch.where(soft & (patches < dark_under), dark, values)
    marrow = (which == _SKULL) & (patches.flip(0) > 0.3 + 2 * drawn[3])
    values = torch.where(marrow, float(means[_MARROW]), values)
    lumps = 1 + 0.35 * drawn[4] * fine.flip(1)[..., None]
    return torch.where(there, values * lumps.clamp(min=0), image)
