"""Random FLAIR looks: what the tissues and the lesions show, and what is bright without being one.

Intensities are parts of a range in which white matter lies at about 0.55. The margins are those
seen in patient 07, widened: cortex 0.8 standard deviations of the brain above white matter, lesions
1.6 above it (0.6 to 2.9), sulci 3 below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel, ConfigDict
from torch.nn import functional as F

from brain.appearance import thick_slices, three_taps
from brain.deformation import smooth_field, uniform
from brain.looks import FLUID, LOOKS, OTHER_TISSUE
from lesions.hosts import VENTRICLES, WHITE, are_in, looks_named

if TYPE_CHECKING:
    from brain.deformation import Axes

_CORTEX = looks_named("Cortex")
_PALLIDUM = looks_named("Pallidum")
_STRIATUM = looks_named("Caudate", "Putamen")
_LIMBIC = looks_named("Hippocampus", "Amygdala")
_THALAMUS = looks_named("Thalamus")
_BRAIN_STEM = looks_named("Brain-Stem")
_RESIDUE = range(FLUID + 4, LOOKS)


class FlairConfig(BaseModel):
    """Ranges of the looks; a range is sampled uniformly.

    Attributes
    ----------
    margin, margin_spread
        Median of the lesions' brightness over white matter, and the spread of its logarithm
        between patients; between the lesions of one it is ``within_spread``.
    least_margin, over_cortex
        Of any lesion, in itself and as a multiple of the cortex's.
    texture
        Of white and grey matter, in patches of some millimetres.
    noise, bias
        Of the scanner: largest standard deviations, the latter of the log field.
    slice_share, slice_mm
        Share of the samples with thick slices, and how thick.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    margin: float = 0.30
    margin_spread: float = 0.30
    within_spread: float = 0.30
    least_margin: float = 0.16
    over_cortex: float = 1.2
    texture: tuple[float, float] = (0.01, 0.035)
    noise: tuple[float, float] = (0.01, 0.05)
    bias: float = 0.10
    slice_share: float = 0.25
    slice_mm: tuple[float, float] = (1.5, 4.0)


@dataclass(frozen=True)
class Place:
    """What is where in a window: generation classes and two maps of the host."""

    axes: Axes
    looks: torch.Tensor
    ventricle_mm: torch.Tensor


def random_means(rng: torch.Generator) -> torch.Tensor:
    """Draw the mean intensity of every generation class, ``(LOOKS,)``."""
    white = float(uniform(rng, 0.50, 0.60))
    grey = white + float(uniform(rng, 0.07, 0.19))
    fluid = float(uniform(rng, 0.05, 0.28))
    jitter = uniform(rng, -0.02, 0.02, LOOKS)
    mean = torch.full((LOOKS,), white)
    for looks, value in (
        (_CORTEX, grey),
        (_LIMBIC, grey + float(uniform(rng, -0.02, 0.06))),
        (_STRIATUM, white + (grey - white) * float(uniform(rng, -0.2, 0.9))),
        (_THALAMUS, white + (grey - white) * float(uniform(rng, -0.1, 0.7))),
        (_PALLIDUM, white - float(uniform(rng, 0, 0.10))),
        (_BRAIN_STEM, white + float(uniform(rng, -0.03, 0.06))),
        (VENTRICLES, fluid),
        ([FLUID], fluid + float(uniform(rng, -0.05, 0.10))),
        ([OTHER_TISSUE], float(uniform(rng, 0.4, 0.65))),
        (_RESIDUE, float(uniform(rng, 0.1, 0.5))),
        ([0], fluid),
    ):
        mean[list(looks)] = value
    return mean + jitter


def painted(
    place: Place, mean: torch.Tensor, config: FlairConfig, rng: torch.Generator
) -> torch.Tensor:
    """Paint a healthy brain: tissues, their texture, and what is bright without being a lesion."""
    looks = place.looks
    image = mean[looks.long()]
    white = are_in(looks, WHITE)
    grey = are_in(looks, (*_CORTEX, *_LIMBIC))
    wet = are_in(looks, VENTRICLES)
    sulci = looks == FLUID
    regions = smooth_field(place.axes, 18.0, rng)
    patches = smooth_field(place.axes, 7.0, rng)
    texture = float(uniform(rng, *config.texture))
    image += (texture * patches + 0.6 * texture * regions) * white
    spread, grain, crowns = uniform(rng, 0, 1, 3).tolist()
    image += (0.06 * spread * regions.flip(0) + 0.04 * grain * patches) * grey
    # White matter between grey matter, as the claustrum's and that of thin gyri, is brighter.
    about = F.avg_pool3d(grey[None, None].float(), 5, stride=1, padding=2)[0, 0]
    image += 0.18 * crowns * about * (0.5 + 0.5 * regions.flip(0)).clamp(min=0) * white
    # Cortex that stands amid white matter, as gyri cut lengthwise show it, is no lesion either.
    islands, height = uniform(rng, 0, 1, 2).tolist()
    if islands < 0.7:
        level = smooth_field(place.axes, 6.0 + 6.0 * height, rng) - float(uniform(rng, 1.1, 2.0))
        margin = float(mean[_CORTEX[0]] - mean[WHITE[0]]) * float(uniform(rng, 0.7, 1.1))
        image += margin * (3 * level).clamp(0, 1) * white
    # A rim of the ventricles, and caps where a field is high.
    rim, cap, width = uniform(rng, 0, 1, 3).tolist()
    near = torch.exp(-place.ventricle_mm / (0.7 + 2.0 * width))
    caps = (0.32 * cap) * (regions.flip(2) - 0.3).clamp(min=0)
    image += (0.20 * rim**2 + caps) * near * white
    # Choroid plexus and flow in the ventricles; vessels in the sulci.
    choroid, flow, vessels = uniform(rng, 0, 1, 3).tolist()
    if choroid < 0.7:
        level = (smooth_field(place.axes, 5.0, rng) - float(uniform(rng, 0.9, 1.8))).clamp(0, 1)
        image += float(uniform(rng, 0.2, 0.9)) * level.sqrt() * wet
    if flow < 0.4:
        image += float(uniform(rng, 0, 0.25)) * regions.flip(1).clamp(min=0) * (wet | sulci)
    if vessels < 0.6:
        level = (patches.flip(1) - float(uniform(rng, 1.4, 2.2))).clamp(0, 1)
        image += float(uniform(rng, 0.2, 0.8)) * level * (sulci | grey)
    return image


def with_lesions(
    image: torch.Tensor,
    share: torch.Tensor,
    axes: Axes,
    mean: torch.Tensor,
    config: FlairConfig,
    rng: torch.Generator,
) -> torch.Tensor:
    """Brighten what a share ``(h, w, d)`` in [0, 1] says is lesion, each by its own margin.

    Each is brighter than cortex: in patient 07 three quarters of the lesions' voxels are.
    """
    white = float(mean[WHITE[0]])
    least = max(config.least_margin, config.over_cortex * (float(mean[_CORTEX[0]]) - white))
    patient = float(torch.randn((), generator=rng)) * config.margin_spread
    each = smooth_field(axes, 9.0, rng)
    margin = config.margin * torch.exp(patient + config.within_spread * each)
    margin = margin.clamp(least, 0.6)
    soft = blurred(share, float(uniform(rng, 0.3, 1.1)))
    level = torch.maximum(image, torch.tensor(white)) * 0.3 + 0.7 * white
    return torch.lerp(image, level + margin, soft)


def with_likenesses(
    image: torch.Tensor,
    share: torch.Tensor,
    axes: Axes,
    mean: torch.Tensor,
    rng: torch.Generator,
) -> torch.Tensor:
    """Brighten what a share ``(h, w, d)`` in [0, 1] says looks like lesions and is none.

    At most as bright as cortex, as the white matter behind the ventricles may be, and soft.
    """
    margin = float(mean[_CORTEX[0]] - mean[WHITE[0]]) * float(uniform(rng, 0.4, 1.05))
    patchy = (1 + 0.4 * smooth_field(axes, 9.0, rng)).clamp(0, 1)
    for _ in range(int(torch.randint(1, 5, (), generator=rng))):
        share = blurred(share, 1.0)
    return image + margin * patchy * share


def scanned(
    image: torch.Tensor, axes: Axes, config: FlairConfig, rng: torch.Generator
) -> torch.Tensor:
    """Imitate the scanner: bias, partial volume, thick slices, Rician noise of some grain."""
    bias = float(uniform(rng, 0, config.bias))
    image = image * torch.exp(bias * smooth_field(axes, 60.0, rng))
    for _ in range(2):
        image = blurred(image, float(uniform(rng, 0.2, 0.9)))
    chance, axis = float(uniform(rng, 0, 1)), int(torch.randint(3, (), generator=rng))
    if chance < config.slice_share:
        image = thick_slices(image, axis, float(uniform(rng, *config.slice_mm)))
    level = float(uniform(rng, *config.noise))
    first, second = torch.randn((2, *image.shape), generator=rng) * level
    grain = float(uniform(rng, 0, 0.7))
    noisy = (image + first).square_().add_(second.square_()).sqrt_()
    return blurred(noisy, grain) if grain > 0.35 else noisy


def blurred(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Blur by a Gaussian of about one voxel, with three taps an axis."""
    return three_taps(image, float(torch.exp(torch.tensor(-0.5 / max(sigma, 0.05) ** 2))))
