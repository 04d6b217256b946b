"""What speaks against segmenting a volume with a model, told before anything is run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.volumes.volume import Volume


def concerns(volume: Volume, info: ModelInfo) -> tuple[str, ...]:
    """Return a line for each thing about a volume that the model was not made for.

    Parameters
    ----------
    volume
        Raw, as read.
    info
        Of the model.

    Returns
    -------
    tuple of str
        Empty where nothing is odd. The check reads every voxel once and runs nothing.
    """
    if info.foreground_ml is None:
        return ()
    low, high = info.foreground_ml
    voxel_ml = abs(float(np.linalg.det(volume.affine[:3, :3]))) / 1000
    ml = int(np.count_nonzero(volume.array.any(axis=0))) * voxel_ml  # dask's way of a lazy array
    if low <= ml <= high:
        return ()
    what = "not skull-stripped, or its background is not exactly 0" if ml > high else "mostly cut"
    return (
        f"{volume.name}: {ml:,.0f} ml of it are not 0, and {info.name} is made for {low:,.0f} to "
        f"{high:,.0f} ml: perhaps it is {what}; expect wrong labels",
    )
