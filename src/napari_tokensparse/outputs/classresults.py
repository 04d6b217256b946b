"""What a run found of each class: size, place, intensity, and what became of its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokensparse.common.tables import write_csv
from napari_tokensparse.volumes.region import Box

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokensparse.common.tables import Cell
    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.segmenting.result import Segmentation
    from napari_tokensparse.volumes.volume import Volume

    Bounds = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]

_ML_PER_MM3 = 1e-3
_ROWS_AT_ONCE = 16


@dataclass(frozen=True)
class ClassResult:
    """What was found of one class, or of one of several regions that may overlap.

    Attributes
    ----------
    value, name
        Of the model's class.
    voxels
        How many are of the class.
    mm3
        Their volume in mm³: their number times the determinant of the affine.
    box
        The smallest box of voxels that holds them; None where there are none.
    bounds_mm
        Of that box, from the outer faces of its voxels, for each of the patient's axes (x, y, z)
        the lowest and highest RAS mm. An oblique volume's box reaches less far than these bounds.
    intensity
        Per channel, the mean over the class's voxels of the values in the file, before
        preprocessing; NaN where there are none.
    kept
        Share of the class's voxels whose token was kept to the end, in [0, 1]. A voxel outside the
        token grid counts as not kept. NaN where there are none.
    importance
        Mean, over the class's voxels, of the importance in (0, 1) that the voxel's token had at the
        last stage that scored it: the stage that pruned it, or the last stage if it was kept to the
        end. Voxels whose token was not processed are left out; NaN where no other is left.
    """

    value: int
    name: str
    voxels: int
    mm3: float
    box: Box | None
    bounds_mm: Bounds | None
    intensity: tuple[float, ...]
    kept: float
    importance: float

    @property
    def ml(self) -> float:
        """Volume in ml."""
        return self.mm3 * _ML_PER_MM3


@dataclass(frozen=True, eq=False)
class _Sums:
    """Per label value, sums over its voxels: of 1, kept, scored, importance, intensities."""

    voxels: NDArray[np.int64]
    kept: NDArray[np.int64]
    scored: NDArray[np.int64]
    importance: NDArray[np.float64]
    intensity: tuple[NDArray[np.float64], ...]


def class_results(result: Segmentation, volume: Volume, info: ModelInfo) -> tuple[ClassResult, ...]:
    """Measure every class, in the order of ``info.classes``.

    Where regions may overlap, each has all its voxels, whatever was painted over it in the labels.

    Parameters
    ----------
    result
        A run on ``volume``.
    volume
        What was segmented.
    info
        Values and names of the classes.
    """
    values = [c.value for c in info.classes]
    if result.regions is None:
        results = _measured(result.labels, values, result, volume)
    else:
        masks = (mask.view(np.uint8) for mask in result.regions)
        results = [one for mask in masks for one in _measured(mask, [1], result, volume)]
    named = zip(info.classes, results, strict=True)
    return tuple(_class_result(c.value, c.name, *one, volume) for c, one in named)


def write_class_results(
    path: Path, results: Sequence[ClassResult], channels: Sequence[str] = ()
) -> Path:
    """Write one row per class as CSV.

    Columns are ``id``, ``name``, ``voxels``, ``volume_mm3``, ``volume_ml``; ``mean_intensity``, of
    several channels one for each, called after it; the box of voxels from ``i_start`` to ``i_stop``
    (not included) and so on, its bounds ``x_min_mm``, ``x_max_mm`` and so on; ``kept_share`` and
    ``mean_last_importance`` (`ClassResult`). What is not known stays empty.

    Parameters
    ----------
    path
        The file.
    results
        Of one run.
    channels
        Names of the channels; they are counted from 1 if not given.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    count = len(results[0].intensity) if results else 1
    return write_csv(path, _headers(count, channels), [_row(one) for one in results])


def counted(
    labels: NDArray[np.integer], length: int, weights: NDArray[np.number] | None = None
) -> NDArray[Any]:
    """Count labels ``(N,)`` of the values 0 … length - 1, or add up weights ``(N,)`` for each.

    Larger ones, of no class, are left out: a person may paint with any value.
    """
    return np.bincount(labels, weights, length)[:length]


def _measured(
    labels: NDArray[np.unsignedinteger],
    values: Sequence[int],
    result: Segmentation,
    volume: Volume,
) -> list[tuple[_Sums, int, Box | None]]:
    """Return for each label value the sums, where in them it stands, and its box."""
    from scipy import ndimage  # late: the Segment widget opens without it

    sums = _sums(labels, max(values) + 1, result, volume)
    slices = ndimage.find_objects(labels, max(values))
    return [(sums, value, _box(slices[value - 1])) for value in values]


def _sums(
    labels: NDArray[np.unsignedinteger], length: int, result: Segmentation, volume: Volume
) -> _Sums:
    counts = np.zeros((3, length), np.int64)
    means = np.zeros((1 + len(volume.array), length))
    last_stage = result.tokens.stages + 1
    for rows, pruned_at, importance in _rows(result):
        here = labels[rows].ravel()
        scored = np.isfinite(importance)
        for row, mask in zip(counts, (None, pruned_at == last_stage, scored), strict=True):
            row += counted(here if mask is None else here[mask], length)
        means[0] += counted(here[scored], length, importance[scored])
        for row, channel in zip(means[1:], volume.array, strict=True):
            row += counted(here, length, np.asarray(channel[rows]).ravel())
    return _Sums(counts[0], counts[1], counts[2], means[0], tuple(means[1:]))


def _rows(
    result: Segmentation,
) -> Iterator[tuple[slice, NDArray[np.uint8], NDArray[np.float32]]]:
    """Yield a few rows of voxels at a time: which, their tokens' pruned-at, last importance."""
    tokens = result.tokens
    last = np.full(tokens.pruned_at.shape, np.nan, np.float32)
    for importance in tokens.importance:  # later stages overwrite what they scored
        np.copyto(last, importance, where=np.isfinite(importance))
    for first in range(0, len(result.labels), _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        pruned_at, importance = (
            tokens.on_input_grid(values, rows).ravel() for values in (tokens.pruned_at, last)
        )
        yield rows, pruned_at, importance


def _class_result(
    value: int, name: str, sums: _Sums, at: int, box: Box | None, volume: Volume
) -> ClassResult:
    voxels, scored = int(sums.voxels[at]), int(sums.scored[at])
    return ClassResult(
        value=value,
        name=name,
        voxels=voxels,
        mm3=voxels * volume.voxel_mm3,
        box=box,
        bounds_mm=None if box is None else _bounds_mm(box, volume.affine),
        intensity=tuple(_mean(channel[at], voxels) for channel in sums.intensity),
        kept=_mean(sums.kept[at], voxels),
        importance=_mean(sums.importance[at], scored),
    )


def _mean(total: float, count: int) -> float:
    return float(total) / count if count else float("nan")


def _box(slices: tuple[slice, slice, slice] | None) -> Box | None:
    if slices is None:
        return None
    i, j, k = slices
    return Box((i.start, j.start, k.start), (i.stop, j.stop, k.stop))


def _bounds_mm(box: Box, affine: NDArray[np.float64]) -> Bounds:
    ends = np.array([box.start, box.stop]) - 0.5
    corners = np.stack(np.meshgrid(*ends.T, indexing="ij"), axis=-1).reshape(-1, 3)
    mm = corners @ affine[:3, :3].T + affine[:3, 3]
    x, y, z = zip(mm.min(axis=0).tolist(), mm.max(axis=0).tolist(), strict=True)
    return x, y, z


def _headers(count: int, channels: Sequence[str]) -> list[str]:
    names = channels or [str(n) for n in range(1, count + 1)]
    means = ["mean_intensity"] if count == 1 else [f"mean_intensity_{name}" for name in names]
    box = [f"{axis}_{end}" for axis in "ijk" for end in ("start", "stop")]
    bounds = [f"{axis}_{end}_mm" for axis in "xyz" for end in ("min", "max")]
    first = ["id", "name", "voxels", "volume_mm3", "volume_ml"]
    return [*first, *means, *box, *bounds, "kept_share", "mean_last_importance"]


def _row(one: ClassResult) -> list[Cell]:
    box: list[Cell] = [None] * 6
    bounds = box
    if one.box is not None and one.bounds_mm is not None:
        box = [end for ends in zip(one.box.start, one.box.stop, strict=True) for end in ends]
        bounds = [end for ends in one.bounds_mm for end in ends]
    size: list[Cell] = [one.value, one.name, one.voxels, one.mm3, one.ml]
    return [*size, *one.intensity, *box, *bounds, one.kept, one.importance]
