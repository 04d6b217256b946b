"""Anatomies that lesions are painted into, and where in them lesions lie."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage

from brain.atlas import build_atlas
from brain.looks import FLUID, LEFT_LESION, LOOKS, OTHER_TISSUE, RIGHT_LESION
from brain.people import Anatomy, anatomy_of, read_person
from brain.structures import CLASS_COUNT, STRUCTURES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy.typing as npt

_FAR_MM = 20.0
_MARGIN_MM = 10
_WHITE = ("Cerebral-White-Matter", "Cerebellum-White-Matter", "Brain-Stem", "VentralDC")


def looks_named(*parts: str) -> list[int]:
    """Return the generation classes of the structures whose names hold one of some parts."""
    names = enumerate((s.name for s in STRUCTURES), start=1)
    return [look for look, name in names if any(part in name for part in parts)]


WHITE = [*looks_named(*_WHITE), LEFT_LESION, RIGHT_LESION]
VENTRICLES = looks_named("Ventricle")
BRAIN = [*range(1, CLASS_COUNT), OTHER_TISSUE, LEFT_LESION, RIGHT_LESION]


def are_in(looks: torch.Tensor, which: Iterable[int]) -> torch.Tensor:
    """Say which voxels are of some generation classes, as a mask."""
    return torch.from_numpy(_table(which))[looks.long()]


@dataclass(frozen=True, eq=False)
class Host:
    """One anatomy, ready to be given lesions.

    Attributes
    ----------
    anatomy
        The label map.
    to_mni
        ``(3, 4)`` affine from its voxels to MNI mm.
    white
        ``(i, j, k)`` float32, how much white matter is about, 0 to 1, on the label map's grid.
    ventricle_mm
        ``(i, j, k)`` float32 distance to the nearest ventricle in mm, at most 20.
    half
        ``(3,)`` half the size of the brain's box in mm.
    """

    anatomy: Anatomy
    to_mni: torch.Tensor
    white: torch.Tensor
    ventricle_mm: torch.Tensor
    half: torch.Tensor


def read_host(folder: Path, number: int) -> Host:
    """Read ``seg_NN.nii.gz`` of a folder."""
    return host_of(
        anatomy_of(read_person(folder / f"seg_{number:02d}.nii.gz")[0]), atlas_centroids()
    )


def host_of(whole: Anatomy, mni: npt.NDArray[np.float64]) -> Host:
    """Prepare an anatomy, of which the brain is kept with a margin of air.

    Parameters
    ----------
    whole
        With or without its head.
    mni
        ``(27, 3)`` centroids of the structures in MNI mm, to place it by.
    """
    return whole_host(_brain_alone(whole), mni)


def whole_host(anatomy: Anatomy, mni: npt.NDArray[np.float64]) -> Host:
    """Do the same with all that an anatomy holds."""
    looks = anatomy.looks.numpy()
    white = ndimage.gaussian_filter(_table(WHITE)[looks].astype(np.float32), 0.8)
    distance = ndimage.distance_transform_edt(~_table(VENTRICLES)[looks])
    box = _box_of(looks)
    return Host(
        anatomy,
        torch.from_numpy(_to_mni(looks, mni).astype(np.float32)),
        torch.from_numpy(white),
        torch.from_numpy(distance.clip(max=_FAR_MM).astype(np.float32)),
        torch.tensor([(span.stop - span.start) / 2 for span in box]),
    )


def _brain_alone(whole: Anatomy) -> Anatomy:
    """Cut off what is far from the brain, at even voxels: the depth has a grid of 2 mm."""
    spans = []
    for span, n in zip(_box_of(whole.looks.numpy()), whole.looks.shape, strict=True):
        first = max(0, span.start - _MARGIN_MM) // 2 * 2
        spans.append(slice(first, min(n, span.stop + _MARGIN_MM)))
    coarse = tuple(slice(span.start // 2, (span.stop + 1) // 2) for span in spans)
    return Anatomy(
        whole.looks[tuple(spans)].contiguous(),
        whole.depth[coarse].contiguous(),
        whole.centre - torch.tensor([float(span.start) for span in spans]),
        has_head=whole.has_head,
    )


def _box_of(looks: npt.NDArray[np.uint8]) -> tuple[slice, ...]:
    box: tuple[slice, ...] = ndimage.find_objects(_table([*BRAIN, FLUID])[looks].astype(np.uint8))[
        0
    ]
    return box


def _table(which: Iterable[int]) -> npt.NDArray[np.bool_]:
    table = np.zeros(LOOKS, dtype=np.bool_)
    table[list(which)] = True
    return table


@cache
def atlas_centroids() -> npt.NDArray[np.float64]:
    """Centroids ``(27, 3)`` of the average anatomy's structures in MNI mm."""
    labels, affine = build_atlas()
    centroids: npt.NDArray[np.float64] = _centroids(labels) @ affine[:3, :3].T + affine[:3, 3]
    return centroids


def _to_mni(looks: npt.NDArray[np.uint8], mni: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Fit the affine ``(3, 4)`` that takes the structures' centroids to those in MNI space."""
    ours = _centroids(looks)
    known = np.isfinite(ours).all(axis=1)
    padded = np.column_stack([ours, np.ones(len(ours))])[known]
    return np.asarray(np.linalg.lstsq(padded, mni[known], rcond=None)[0].T, dtype=np.float64)


def _centroids(looks: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Centroids ``(27, 3)`` in voxels; not a number of what is not there."""
    centroids = np.full((CLASS_COUNT - 1, 3), np.nan)
    for look, box in enumerate(ndimage.find_objects(looks, max_label=LOOKS), start=1):
        if look < CLASS_COUNT and box is not None:
            voxels = np.argwhere(looks[box] == look)
            centroids[look - 1] = voxels.mean(axis=0) + [span.start for span in box]
    return centroids
