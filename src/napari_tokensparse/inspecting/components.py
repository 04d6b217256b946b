"""Connected components of one class that shrank, vanished or appeared between two runs."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import numpy as np
from skimage.measure import label, regionprops
from skimage.segmentation import expand_labels, flood

from napari_tokensparse.scoring.masks import bounds
from napari_tokensparse.volumes.region import Box
from napari_tokensparse.volumes.volume import voxel_mm3

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from napari_tokensparse.model.info import LabelClass
    from napari_tokensparse.volumes.windows import Shape

    Change = Literal["vanished", "shrank", "appeared"]

SHRINKAGE = Fraction(1, 5)
"""A component that lost more than this share of its volume is listed; exact: 20 % is not."""


@dataclass(frozen=True)
class Component:
    """A component that pruning changed.

    Attributes
    ----------
    name, value
        Of its class.
    change
        ``vanished``, ``shrank`` by more than 20 %, or ``appeared``.
    before_mm3, after_mm3
        Volume without and with pruning.
    centre_mm
        Centre (x, y, z) in RAS mm by the file's affine: the mean of its voxels without pruning, or
        with pruning if it appeared.
    voxel
        (i, j, k) of its voxel nearest to that centre: unlike the centre it always lies inside.
    """

    name: str
    value: int
    change: Change
    before_mm3: float
    after_mm3: float
    centre_mm: tuple[float, float, float]
    voxel: Shape

    @property
    def lost_mm3(self) -> float:
        """Volume lost; negative if it appeared."""
        return self.before_mm3 - self.after_mm3


@dataclass(frozen=True, eq=False)
class Changes:
    """The components of one class before and after, matched.

    Attributes
    ----------
    before
        ``(i, j, k)`` components of the reference, numbered from 1.
    owner
        ``(i, j, k)`` which of them each voxel of the other mask belongs to; 0 elsewhere, and where
        there was none.
    appeared
        ``(i, j, k)`` components of the other mask that belong to none, numbered from 1.
    """

    before: NDArray[np.int64]
    owner: NDArray[np.int64]
    appeared: NDArray[np.int64]


def changed_components(
    reference: NDArray[np.bool_],
    predicted: NDArray[np.bool_],
    affine: NDArray[np.float64],
    of: LabelClass,
    origin: Shape = (0, 0, 0),
) -> list[Component]:
    """List the components of a class that shrank by more than 20 %, vanished or appeared.

    Parameters
    ----------
    reference, predicted
        ``(i, j, k)`` masks of the class without and with pruning.
    affine
        (4, 4) voxel of the volume to RAS mm.
    of
        The class.
    origin
        The voxel of the volume that the masks begin at.

    Returns
    -------
    list of Component
        In no particular order.

    Notes
    -----
    Voxels are connected by faces, edges and corners. How components are matched, see
    `match_components`.
    """
    part = bounds(reference | predicted)
    if part is None:
        return []
    changes = match_components(
        reference[part], predicted[part], np.linalg.norm(affine[:3, :3], axis=0)
    )
    after = np.bincount(changes.owner.ravel(), minlength=int(changes.before.max()) + 1)
    first = np.array([a + s.start for a, s in zip(origin, part, strict=True)])
    mm3 = voxel_mm3(affine)

    def component(change: Change, region: Any, before: int, now: int) -> Component:
        volumes = before * mm3, now * mm3
        return Component(of.name, of.value, change, *volumes, *centre_of(region, first, affine))

    lost = [
        component("shrank" if now else "vanished", region, before, now)
        for region in regionprops(changes.before)
        if (before := int(region.num_pixels)) - (now := int(after[region.label]))
        > SHRINKAGE * before
    ]
    appeared = regionprops(changes.appeared)
    gained = [component("appeared", region, 0, int(region.num_pixels)) for region in appeared]
    return lost + gained


def component_at(
    mask: NDArray[np.bool_], voxel: Shape, *, by_faces: bool = False
) -> tuple[Box, NDArray[np.bool_]]:
    """Return the box of the component that a voxel belongs to, and its mask within that box.

    Parameters
    ----------
    mask
        ``(i, j, k)`` of a class.
    voxel
        In it.
    by_faces
        Whether voxels are connected by faces alone, not by corners.

    Raises
    ------
    ValueError
        The voxel is not in the mask.
    """
    if not mask[voxel]:
        raise ValueError(f"voxel {voxel}: is not of the class")
    component = flood(mask, voxel, connectivity=1 if by_faces else 3)
    part = bounds(component)
    assert part is not None  # it has that voxel
    i, j, k = part
    return Box((i.start, j.start, k.start), (i.stop, j.stop, k.stop)), component[part]


def match_components(
    reference: NDArray[np.bool_],
    predicted: NDArray[np.bool_],
    spacing_mm: NDArray[np.float64],
) -> Changes:
    """Say which component of the reference each found voxel belongs to.

    A found component that overlaps one component of the reference belongs to it as a whole, so that
    what moved a little or grew is no loss. One that overlaps several is shared out: each voxel
    belongs to the nearest of them, so that a component that merged with its neighbour and grew
    smaller is not hidden by the neighbour. Several found components may belong to one: what broke
    into parts has lost only what is missing from all of them. A found component that overlaps none
    has appeared. So every found voxel is counted once.

    Parameters
    ----------
    reference, predicted
        ``(i, j, k)`` masks.
    spacing_mm
        ``(3,)`` voxel size along (i, j, k), by which the nearest is meant.
    """
    before, after = _components(reference), _components(predicted)
    overlapping = (before > 0) & (after > 0)
    pairs = np.unique(np.stack([after[overlapping], before[overlapping]]), axis=1)
    owner_of = np.zeros(int(after.max()) + 1, np.int64)
    owner_of[pairs[0]] = pairs[1]
    owner = owner_of[after]
    shared, counts = np.unique(pairs[0], return_counts=True)
    befores, afters = regionprops(before), regionprops(after)
    for number in shared[counts > 1]:
        owners = pairs[1][pairs[0] == number]
        boxes = [afters[number - 1].bbox, *(befores[n - 1].bbox for n in owners)]
        part = _union(boxes)
        nearest = _nearest(before[part], owners, spacing_mm)
        mine = after[part] == number
        owner[part][mine] = nearest[mine]
    return Changes(before, owner, np.where(owner == 0, after, 0))


def _components(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    numbered: NDArray[np.int64] = label(mask, connectivity=3).astype(np.int64)
    return numbered


def _union(boxes: Sequence[tuple[int, ...]]) -> tuple[slice, slice, slice]:
    first, end = np.min(boxes, axis=0)[:3], np.max(boxes, axis=0)[3:]
    i, j, k = (slice(int(a), int(b)) for a, b in zip(first, end, strict=True))
    return i, j, k


def _nearest(
    components: NDArray[np.int64],
    among: NDArray[np.int64],
    spacing_mm: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Return the number of the nearest of some components at each voxel."""
    chosen = np.where(np.isin(components, among), components, 0)
    nearest: NDArray[np.int64] = expand_labels(chosen, np.inf, tuple(map(float, spacing_mm)))
    return nearest


def centre_of(
    region: Any, first: NDArray[np.int64], affine: NDArray[np.float64]
) -> tuple[tuple[float, float, float], Shape]:
    """Return a region's centre in RAS mm, and its voxel nearest to that."""
    centre = first + region.centroid
    voxels = first + region.coords
    away = np.linalg.norm((voxels - centre) @ affine[:3, :3].T, axis=1)
    x, y, z = (affine @ [*centre, 1.0])[:3].tolist()
    i, j, k = voxels[away.argmin()].tolist()
    return (x, y, z), (i, j, k)
