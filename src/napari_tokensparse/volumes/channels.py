"""Single-channel volumes, each from a file or layer of its own, as the channels of one case."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import TimeSeriesError, Volume, VolumeError, is_lazy

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

SAME_GRID_MM = 0.01
"""Grids whose corners lie no further apart than this are one grid."""
_ON_THE_FACE = 1e-6
"""Of a voxel: what lies no further out is within, so that rounding does not decide it."""


def read_scan(
    path: str | os.PathLike[str],
    channels: Sequence[str],
    *,
    frame: int | None = None,
    series: str | int | None = None,
    spacing: Sequence[float] | None = None,
) -> Volume:
    """Read a file for a model.

    A file that calls its fourth axis time, as those of the Decathlon's brain tumours do, is of
    channels after all where the model has several, and as many as there are frames.

    Parameters
    ----------
    path, frame, series, spacing
        As for `read_volume`.
    channels
        Those of the model.

    Raises
    ------
    VolumeError
        As `read_volume`.
    """
    try:
        return read_volume(path, frame=frame, series=series, spacing=spacing)
    except TimeSeriesError as error:
        if error.frames != len(channels) or Path(path).is_dir():
            raise
    volume = read_volume(path, time_is_channels=True)
    note = f"the file calls its fourth axis time; it was taken as {', '.join(channels)}"
    return replace(volume, notes=(*volume.notes, note))


def read_channels(
    sources: Mapping[str, str | os.PathLike[str] | Volume], order: Sequence[str]
) -> Volume:
    """Read files, unless they are volumes already, and make one volume of them.

    Parameters
    ----------
    sources
        Channel name to what `read_volume` takes, or to a volume.
    order
        As for `stack_channels`.

    Raises
    ------
    VolumeError
        As `stack_channels`, or a file cannot be read.
    """
    check_names(sources, order)
    volumes = {
        name: source if isinstance(source, Volume) else read_volume(source)
        for name, source in sources.items()
    }
    return stack_channels(volumes, order)


def stack_channels(volumes: Mapping[str, Volume], order: Sequence[str]) -> Volume:
    """Make one volume of several with one channel each.

    Parameters
    ----------
    volumes
        Channel name to volume, in any order. The first one's grid, name and header are the
        result's; those that lie on another grid are resampled to it (linear, 0 outside).
    order
        The channels that a model takes, in its order: exactly the names in ``volumes``.

    Returns
    -------
    Volume
        Array (C, i, j, k), channels in ``order``: of the volumes' type if it is the same and none
        was resampled, else float32. Its notes say what was resampled.

    Raises
    ------
    VolumeError
        In one line: a channel is missing or unknown, a volume has several channels, or one does
        not overlap the first.
    """
    check_names(volumes, order)
    for name, volume in volumes.items():
        if len(volume.array) != 1:
            raise VolumeError(
                f"channel {name}: {volume.name} has {len(volume.array)} channels: must have one"
            )
    first_name = next(iter(volumes))
    first = volumes[first_name]
    arrays, notes = {}, []
    for name, volume in volumes.items():
        arrays[name], said = _on_grid(volume, name, first, first_name)
        notes += said
    return replace(
        first,
        array=_stacked([arrays[name] for name in order]),
        channel_names=tuple(order),
        notes=tuple(dict.fromkeys(notes)),
    )


def check_names(given: Iterable[str], order: Sequence[str]) -> None:
    """Refuse channels that are not exactly those of a model.

    Raises
    ------
    VolumeError
        Naming those that are missing, those that are unknown, and all that the model takes.
    """
    given = list(given)
    wrong = {
        "missing": [name for name in order if name not in given],
        "unknown": [name for name in given if name not in order],
    }
    said = [f"{what} {', '.join(map(repr, names))}" for what, names in wrong.items() if names]
    if said:
        raise VolumeError(
            f"channels: {', '.join(said)}; the model takes {', '.join(map(repr, order))}"
        )


def _on_grid(
    volume: Volume, name: str, first: Volume, first_name: str
) -> tuple[NDArray[Any], list[str]]:
    """Return one channel's (i, j, k) on the first one's grid, and what to tell about it."""
    notes = list(volume.notes)
    if volume is first or _apart_mm(volume, first) <= SAME_GRID_MM:
        return volume.array[0], notes
    to_own = np.linalg.inv(volume.affine) @ first.affine  # the first's voxels to this one's
    covered = _covered(to_own, first.shape, volume.shape)
    if covered == 0.0:
        raise VolumeError(
            f"channel {name}: {volume.name} does not overlap {first.name}; give scans of one "
            "patient in one position"
        )
    notes.append(f"channel {name} was resampled to the grid of channel {first_name} (linear)")
    if covered < 0.995:
        notes.append(f"channel {name} covers {covered:.0%} of channel {first_name}; the rest is 0")
    return _resampled(volume.array[0], to_own, first.shape), notes


def _apart_mm(one: Volume, two: Volume) -> float:
    """Return how far the corners of two grids lie apart; infinity for another count of voxels."""
    if one.shape != two.shape:
        return float("inf")
    corners = np.array([[*c, 1] for c in np.ndindex(2, 2, 2)]) * [*(np.array(one.shape) - 1), 1]
    return float(np.linalg.norm(((one.affine - two.affine) @ corners.T)[:3], axis=0).max())


def _covered(to_own: NDArray[np.float64], shape: Sequence[int], own: Sequence[int]) -> float:
    """Return which share of a grid lies within another one, from at most 32³ of its voxels."""
    axes = [np.unique(np.linspace(0, n - 1, 32).round()) for n in shape]
    points = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    there = to_own[:3, :3] @ points + to_own[:3, 3:]
    margin = 0.5 + _ON_THE_FACE
    within = (there >= -margin) & (there <= np.array(own)[:, None] - 1 + margin)
    return float(within.all(axis=0).mean())


def _resampled(
    array: NDArray[Any], to_own: NDArray[np.float64], shape: Sequence[int]
) -> NDArray[np.float32]:
    # "grid-constant" blends with 0 beyond the last voxel's centre, so that rounding there is not 0.
    from scipy import ndimage  # slow to import, and seldom needed

    resampled: NDArray[np.float32] = ndimage.affine_transform(
        array.astype(np.float32, copy=False),
        to_own[:3, :3],
        to_own[:3, 3],
        tuple(shape),
        order=1,
        mode="grid-constant",
    )
    return resampled


def _stacked(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    if any(map(is_lazy, arrays)):
        lazily: NDArray[Any] = np.stack(arrays)  # dask's: it stays lazy, and has one type for all
        return lazily
    kinds = {array.dtype for array in arrays}
    dtype = kinds.pop() if len(kinds) == 1 else np.dtype(np.float32)
    return np.stack(arrays, dtype=dtype, casting="unsafe")
