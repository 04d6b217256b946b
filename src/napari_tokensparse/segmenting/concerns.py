"""What speaks against segmenting a volume with a model, told before anything is run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_tokensparse.volumes.background import (
    NEGATIVE,
    border_value,
    negative_share,
    tells_by_sign,
)

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
        Empty where nothing is odd. The check reads every voxel and runs nothing.
    """
    return (*_background(volume, info), *_foreground(volume, info))


def _background(volume: Volume, info: ModelInfo) -> tuple[str, ...]:
    """Say so where nothing tells background, and the model needs it."""
    if not tells_by_sign(info.preprocessing):
        return ()
    unclear = [channel for channel in volume.array if border_value(channel) is None]
    share = max(map(negative_share, unclear), default=0.0)
    if share < NEGATIVE:
        return ()
    return (
        f"{volume.name}: {share:.0%} of it are below 0 and its border is not of one value, so that "
        f"nothing tells background, which {info.name} takes to be 0 with all else above it; expect "
        "wrong labels",
    )


def _foreground(volume: Volume, info: ModelInfo) -> tuple[str, ...]:
    if info.foreground_ml is None:
        return ()
    low, high = info.foreground_ml
    voxel_ml = volume.voxel_mm3 / 1000
    borders = [border_value(channel) or 0.0 for channel in volume.array]
    shown = volume.array != np.array(borders, volume.array.dtype)[:, None, None, None]
    ml = int(np.count_nonzero(shown.any(axis=0))) * voxel_ml  # dask's way of a lazy array
    if low <= ml <= high:
        return ()
    what = (
        "not skull-stripped, or its background is not of one value" if ml > high else "mostly cut"
    )
    return (
        f"{volume.name}: {ml:,.0f} ml of it are not {_listed(borders)}, and {info.name} is made "
        f"for {low:,.0f} to {high:,.0f} ml: perhaps it is {what}; expect wrong labels",
    )


def _listed(borders: list[float]) -> str:
    return " or ".join(f"{value:g}" for value in dict.fromkeys(borders))
