"""Masks and labels of a scan's own voxels, whose file counts them along other axes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from nibabel.orientations import (
    apply_orientation,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)

if TYPE_CHECKING:
    from napari_tokensparse.volumes.volume import Volume


def turned_like(volume: Volume, like: Volume) -> Volume:
    """Return a volume with its axes in the order and the directions of another one's.

    What is painted in a viewer is often saved so: the same voxels, counted from another corner. No
    voxel is resampled, and where the grids differ in more than that, they still do.
    """
    turn = ornt_transform(io_orientation(volume.affine), io_orientation(like.affine))
    if np.array_equal(turn, [[0, 1], [1, 1], [2, 1]]):
        return volume
    array = np.stack([apply_orientation(channel, turn) for channel in volume.array])
    affine = volume.affine @ inv_ornt_aff(turn, volume.shape)
    return replace(volume, array=array, affine=affine, header=None, slices=())
