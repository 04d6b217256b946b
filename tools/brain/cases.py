"""Scans at 1 mm to judge ``brain-structures`` by: label maps of people, painted by reserved seeds.

What a scanner does is imitated at the scan's own resolution, apart from the code that makes
training samples but for the looks of tissues (`random_looks`): a judge that shared the training's
resampling would not see its faults.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy import ndimage

from brain.deformation import grid_axes, smooth_field
from brain.looks import PeopleConfig, random_looks
from brain.people import anatomy_of, interpolated, read_person, structure_classes
from brain.structures import STRUCTURES, class_ids
from brain.surfaces import CORTEX, WITHIN, read_ribbon
from napari_tokensparse.model.noise import keyed_generator
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

VALIDATION_SEED = 1_000_000_007
"""Seed of the scans to judge by: no training run uses it."""
PERSON, ANY_CONTRAST, HEAD, COLIN = "T1", "any contrast", "whole head", "another person"
REAL = "a real head"
SPOILED = (
    "inverted",
    "strong bias field",
    "3 % noise",
    "gamma 0.6",
    "gamma 1.6",
    "1 x 1 x 4 mm",
)
_T1_ONLY = PeopleConfig(t1_share=1.0)
_ANY = PeopleConfig(t1_share=0.0)
_MRICRON = Path("/usr/share/mricron/templates")
# AAL's number of a structure, and FreeSurfer's.
_AAL = {
    37: 17, 38: 53, 41: 18, 42: 54, 71: 11, 72: 50, 73: 12, 74: 51, 75: 13, 76: 52, 77: 10, 78: 49
}  # fmt: skip


# What lies within the white surface, and the value that stands for it.
_WITHIN = {
    **dict.fromkeys((4, 9, 10, 11, 12, 13, 26), 2),
    **dict.fromkeys((43, 48, 49, 50, 51, 52, 58), 41),
}


class Case(NamedTuple):
    """A scan and FreeSurfer's ids of its voxels; what group of the report it belongs to.

    Where the truth is coarser than the model, ``joined`` says which values are joined to which.
    """

    group: str
    scan: Volume
    truth: npt.NDArray[np.uint8]
    values: list[int]
    joined: Mapping[int, int] = MappingProxyType({})


def people_cases(folder: Path, numbers: tuple[int, ...], looks: int) -> Iterator[Case]:
    """Paint each person with some T1-weighted looks, and as many of any contrast."""
    for number in numbers:
        for look in range(looks):
            yield painted(folder, number, look, PERSON)
        for look in range(looks):
            yield painted(folder, number, look, ANY_CONTRAST)


def head_cases(folder: Path, numbers: tuple[int, ...]) -> Iterator[Case]:
    """Paint each person's whole head, with the T1-weighted look of its first stripped scan."""
    for number in numbers:
        yield painted(folder, number, 0, HEAD)


def spoiled_cases(folder: Path, numbers: tuple[int, ...]) -> Iterator[Case]:
    """Spoil each person's first T1 in six ways."""
    for number in numbers:
        clean = painted(folder, number, 0, PERSON)
        for name, scan, truth in _spoiled(torch.from_numpy(clean.scan.array[0]), clean):
            yield Case(name, scan, truth, clean.values)


def another_person() -> Iterator[Case]:
    """Colin 27 with AAL's structures, if Debian's mricron-data is installed."""
    if not (_MRICRON / "ch2bet.nii.gz").exists():
        return
    scan, atlas = read_volume(_MRICRON / "ch2bet.nii.gz"), read_volume(_MRICRON / "aal.nii.gz")
    truth = np.zeros(atlas.shape, np.uint8)
    for number, value in _AAL.items():
        truth[atlas.array[0] == number] = value
    yield Case(COLIN, scan, truth, sorted(_AAL.values()))


def real_head(folder: Path | None) -> Iterator[Case]:
    """Read a real person's whole head, with FreeSurfer's surfaces, if it is given."""
    if folder is not None:
        scan, truth = read_ribbon(folder)
        values = sorted([*CORTEX.values(), *WITHIN.values()])
        yield Case(REAL, read_volume(scan), truth, values, _WITHIN)


def painted(folder: Path, number: int, look: int, group: str) -> Case:
    """Make one scan of a person: stripped unless the group is of whole heads.

    Partial volume of neighbouring voxels, texture, a mild bias field and noise; air of a whole head
    is as noisy as the rest.
    """
    ids, affine = read_person(folder / f"seg_{number:02d}.nii.gz")
    anatomy = anatomy_of(ids)
    inside = ndimage.find_objects((ids > 0).astype(np.uint8))[0]  # as `anatomy_of` cut it
    rng = keyed_generator(VALIDATION_SEED, number, look, int(group == ANY_CONTRAST))
    mean, sd, _ = random_looks(_ANY if group == ANY_CONTRAST else _T1_ONLY, rng)
    which = anatomy.looks.long()
    shape = (which.shape[0], which.shape[1], which.shape[2])
    image = mean[which] + torch.randn(shape, generator=rng) * sd[which]
    image = torch.from_numpy(ndimage.gaussian_filter(image.numpy(), 0.6))
    image *= torch.exp(0.2 * smooth_field(grid_axes(shape, 1.0), 60.0, rng))
    image = (image + 0.02 * torch.randn(shape, generator=rng)).clamp(min=0.0) + 0.05
    if group != HEAD:
        axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in shape), indexing="ij")
        strip = interpolated(anatomy.depth, torch.stack(axes) / 2) < 1.0
        image[~(strip | torch.from_numpy(structure_classes(ids)[inside] > 0))] = 0.0
    scan = np.zeros(ids.shape, np.float32)
    scan[inside] = 100 * image.numpy()
    name = f"person {number}, {group} {look}"
    truth = class_ids()[structure_classes(ids)]
    return Case(group, Volume(scan[None], affine, name), truth, [int(s.id) for s in STRUCTURES])


def _spoiled(
    image: torch.Tensor, clean: Case
) -> Iterator[tuple[str, Volume, npt.NDArray[np.uint8]]]:
    truth, affine = clean.truth, clean.scan.affine
    inside = image > 0
    low, high = image[inside].min(), image[inside].max()
    unit = (image - low) / (high - low)
    generator = keyed_generator(VALIDATION_SEED, 7)
    shape = (image.shape[0], image.shape[1], image.shape[2])
    field = smooth_field(grid_axes(shape, 1.0), 60.0, generator)
    noise = 0.03 * torch.randn(image.shape, generator=generator)
    ways = (
        1 - unit,
        unit * torch.exp(0.5 * field),
        (unit + noise).clamp(min=0),
        unit**0.6,
        unit**1.6,
    )
    for name, spoiled in zip(SPOILED, ways, strict=False):
        voxels = torch.where(inside, 100 * (spoiled + 0.1), 0.0)[None].numpy()
        yield name, Volume(voxels, affine, name), truth
    whole = image[..., : image.shape[2] // 4 * 4]
    slices = whole.reshape(*shape[:2], -1, 4).mean(dim=3)[None].numpy()
    thick = affine @ np.diag([1, 1, 4, 1.0])
    thick[:3, 3] += affine[:3, 2] * 1.5
    yield SPOILED[-1], Volume(slices, thick, SPOILED[-1]), truth[..., 2 : whole.shape[2] : 4]
