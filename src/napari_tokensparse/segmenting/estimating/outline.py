"""How a volume will lie on a model's grid, found from every n-th of its voxels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokensparse.volumes.preprocess import check_resampled, preprocess, resampled
from napari_tokensparse.volumes.region import windows_over
from napari_tokensparse.volumes.windows import window_grid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from napari_tokensparse.model.config import SCDConfig
    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.volumes.preprocess import AxisMap, Prepared
    from napari_tokensparse.volumes.region import Box
    from napari_tokensparse.volumes.volume import Volume
    from napari_tokensparse.volumes.windows import Shape, WindowGrid

_VOXELS = 2**21  # at most, about, that are looked at


@dataclass(frozen=True)
class Outline:
    """What a run has to do.

    Attributes
    ----------
    voxels
        Of the input that are asked for.
    grid
        The windows on the model's grid.
    looked_at
        Of each window that is run, the share of its tokens that the network looks at: all, unless
        it crops its windows.
    inside
        Share of the grid round all that is looked at: the rest is background.
    covered, filled
        How many of the voxels that are asked for lie on that grid, and how many of them are not
        background, about.
    """

    voxels: int
    grid: WindowGrid
    looked_at: tuple[float, ...]
    inside: float = 1.0
    covered: int = 0
    filled: int = 0

    @property
    def windows(self) -> int:
        """How many windows are run."""
        return len(self.looked_at)


def outline(
    volume: Volume, config: SCDConfig, info: ModelInfo, region: Box | None = None
) -> Outline:
    """Look at a thinned volume as a run would look at all of it.

    The grid is exact unless foreground is cropped; specks of foreground between the voxels that are
    seen are missed.

    Parameters
    ----------
    volume
        The input.
    config, info
        Of the model.
    region
        The part that is segmented.

    Raises
    ------
    PreprocessError, VolumeError
        The volume cannot be preprocessed; one plain line says why.
    """
    check_resampled(volume, info.preprocessing)
    step = _step(volume, info.preprocessing)
    thin = _thinned(volume, step)
    prepared = preprocess(thin, [_coarser(each, step) for each in info.preprocessing])
    grid = window_grid(
        _whole_shape(volume.shape, thin.shape, prepared, step),
        config.window,
        config.patch_size,
        info.overlap,
    )
    shown = (prepared.image != info.background).any(dim=0).numpy()
    run = [start for start in grid.starts if shown[_looked_at(start, grid, step)].any()]
    if region is not None:
        reach = windows_over(region, _whole_axes(prepared, grid, step), grid, run)
        run = [start for start, reaches in zip(run, reach, strict=True) if reaches]
    voxels = math.prod(volume.shape if region is None else region.shape)
    asked = voxels / math.prod(volume.shape) / math.prod(abs(one.slope) for one in prepared.axes)
    covered, filled = (
        min(voxels, round(asked * model_voxels))
        for model_voxels in (math.prod(grid.shape), int(np.count_nonzero(shown)) * step**3)
    )
    if config.crop_value is None:
        return Outline(voxels, grid, (1.0,) * len(run), 1.0, covered, filled)
    held = (prepared.image != config.crop_value).any(dim=0)
    boxes = [_box(start, grid, step, held) for start in run]
    sizes = [math.prod(end - first for first, end in box) for box in boxes]
    looked_at = tuple(size / math.prod(config.window) for size in sizes)
    return Outline(voxels, grid, looked_at, _inside(boxes, grid), covered, filled)


def _step(volume: Volume, definitions: Sequence[Mapping[str, Any]]) -> int:
    """Choose how many voxels to go on each time, so that few are left on either grid."""
    counts = [resampled(volume, each)[1] for each in definitions if _resamples(each)]
    most = max([float(math.prod(volume.shape)), *counts])
    return max(1, math.ceil(math.cbrt(most / _VOXELS)))


def _thinned(volume: Volume, step: int) -> Volume:
    """Take every n-th voxel along each axis."""
    every = slice(None, None, step)
    affine = volume.affine @ np.diag([step, step, step, 1.0])
    return replace(volume, array=volume.array[:, every, every, every], affine=affine)


def _coarser(definition: Mapping[str, Any], step: int) -> dict[str, Any]:
    """Let a transform that resamples lead to voxels so many times larger."""
    if not _resamples(definition):
        return dict(definition)
    return {**definition, "pixdim": (step * np.asarray(definition["pixdim"])).tolist()}


def _resamples(definition: Mapping[str, Any]) -> bool:
    return bool(definition["_target_"] == "Spacingd")


def _whole_shape(shape: Shape, thin: Shape, prepared: Prepared, step: int) -> Shape:
    """Return the shape on the model's grid, for that of the thinned volume there."""
    lengths = [0, 0, 0]
    for axis, n, few in zip(prepared.axes, shape, thin, strict=True):
        whole, seen = (round((m - 1) * abs(axis.slope)) + 1 for m in (n, few))
        left = prepared.image.shape[1 + axis.axis]
        lengths[axis.axis] = whole if left == seen else left * step  # else it was cropped
    return lengths[0], lengths[1], lengths[2]


def _whole_axes(
    prepared: Prepared, grid: WindowGrid, step: int
) -> tuple[AxisMap, AxisMap, AxisMap]:
    """Return where the input's axes lie on the padded grid."""
    i, j, k = (
        replace(axis, start=axis.start * step + grid.before[axis.axis]) for axis in prepared.axes
    )
    return i, j, k


def _looked_at(start: Shape, grid: WindowGrid, step: int) -> tuple[slice, ...]:
    """Return the voxels of the thinned volume that lie in a window."""
    spans = zip(start, grid.window, grid.before, strict=True)
    ends = ((max(0, at - before), max(0, at + n - before)) for at, n, before in spans)
    return tuple(slice(first // step, -(-end // step)) for first, end in ends)


def _box(start: Shape, grid: WindowGrid, step: int, held: Tensor) -> list[tuple[int, int]]:
    """Return, per axis, the padded voxels of the tokens of a window that hold anything."""
    seen = _looked_at(start, grid, step)
    places = held[seen].nonzero()
    if not len(places):  # nothing is looked at whole
        return [(at, at + n) for at, n in zip(start, grid.window, strict=True)]
    box, ends = [], zip(places.amin(dim=0).tolist(), places.amax(dim=0).tolist(), strict=True)
    for axis, (first, last) in enumerate(ends):
        at, before = start[axis], grid.before[axis]
        low, high = (step * (seen[axis].start + n) + before for n in (first, last + 1))
        low = max(at, low // grid.patch * grid.patch)
        high = min(at + grid.window[axis], -(-high // grid.patch) * grid.patch)
        box.append((low, high))
    return box


def _inside(boxes: Sequence[list[tuple[int, int]]], grid: WindowGrid) -> float:
    """Return the share of the image round all boxes."""
    share = 1.0
    for spans, (first, end) in zip(zip(*boxes, strict=True), grid.extents, strict=bool(boxes)):
        low, high = max(first, min(a for a, _ in spans)), min(end, max(b for _, b in spans))
        share *= max(0, high - low) / (end - first)
    return share
