"""Check cases before a network is trained on them; report every bad one at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokensparse.common.notes import gathered
from napari_tokensparse.datasets.dataset import DataError, case_notes, label_counts
from napari_tokensparse.datasets.slices import painted_slices
from napari_tokensparse.volumes.volume import VolumeError, check_finite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from napari_tokensparse.datasets.dataset import Case, DataSet
    from napari_tokensparse.volumes.volume import Volume

AFFINE_TOLERANCE_MM = 0.01
"""How far a corner of the label may lie from that of its image."""

_AT_ONCE = 2**20  # voxels whose squares are summed
_NAMED = 10  # unknown label values that a line names


@dataclass(frozen=True)
class ChannelFacts:
    """Intensities of one channel: of all voxels, or where noted of those of any class.

    Attributes
    ----------
    minimum, zero_share
        Smallest value, and share of voxels that are exactly 0.
    mean, std, low, high
        Mean, standard deviation and percentiles 0.5 and 99.5 over the voxels of any class.
    """

    minimum: float
    zero_share: float
    mean: float
    std: float
    low: float
    high: float


@dataclass(frozen=True)
class CaseFacts:
    """What a good case is like.

    Attributes
    ----------
    shape, spacing
        Voxels and their size in mm, in the file's order of axes.
    channels
        Intensities.
    voxels
        Count per label value.
    extent_mm
        Size of the box round all classes, per axis.
    nbytes
        Of the image as float32.
    world_axes
        For each axis of the file, the world's that is nearest: 0 right, 1 front, 2 top.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    channels: tuple[ChannelFacts, ...]
    voxels: dict[int, int]
    extent_mm: tuple[float, float, float]
    nbytes: int
    world_axes: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class CheckedCase:
    """A case and what is wrong with it, one line each; ``facts`` is None for a bad one.

    ``notes`` are what a person should know of it besides.
    """

    case: Case
    problems: tuple[str, ...]
    facts: CaseFacts | None
    held_out: bool
    notes: tuple[str, ...] = ()


def checking(data_set: DataSet) -> Iterator[CheckedCase]:
    """Check every case, training first: read it, compare image and label, look at the values."""
    cases = [(c, False) for c in data_set.training] + [(c, True) for c in data_set.validation]
    for case, held_out in cases:
        yield _check(case, data_set, held_out)


def report(checked: Sequence[CheckedCase]) -> str:
    """List all bad cases at once, and say what to do; of good ones, what a person should know."""
    bad = [case for case in checked if case.problems]
    if not bad:
        notes = gathered((case.case.name, case.notes) for case in checked)
        return "\n".join([f"All {len(checked)} cases are good.", *notes])
    lines = [f"{case.case.name}: {problem}" for case in bad for problem in case.problems]
    head = f"{len(bad)} of {len(checked)} cases cannot be used:"
    return "\n".join(
        [head, *lines, "Mend them, or leave them out with --skip-bad (Skip bad cases)."]
    )


def class_notes(data_set: DataSet, checked: Sequence[CheckedCase]) -> tuple[str, ...]:
    """Say of each class that no good case holds, or only held-out ones, that it is not learnt."""
    good = [(case, case.facts.voxels) for case in checked if case.facts is not None]
    notes = []
    for value, name in data_set.labels.items():
        holding = [case for case, voxels in good if voxels.get(value)]
        if not holding:
            notes.append(f"Class {value} ({name}) is in no case: it is not learnt.")
        elif all(case.held_out for case in holding):
            cases = ", ".join(case.case.name for case in holding[:_NAMED])
            notes.append(
                f"Class {value} ({name}) is only in held-out cases ({cases}): it is not learnt; "
                "train on one of them."
            )
    return tuple(notes)


def without_bad(data_set: DataSet, checked: Sequence[CheckedCase]) -> DataSet:
    """Leave the bad cases out.

    Raises
    ------
    DataError
        None is left to train on.
    """
    bad = {id(case.case) for case in checked if case.problems}
    training = tuple(case for case in data_set.training if id(case) not in bad)
    if not training:
        raise DataError(f"{data_set.name}: every training case is bad; mend them first")
    validation = tuple(case for case in data_set.validation if id(case) not in bad)
    return replace(data_set, training=training, validation=validation)


def _check(case: Case, data_set: DataSet, held_out: bool) -> CheckedCase:
    problems: list[str] = []
    # Not refused for NaN here, so that whatever else is wrong with the image is told too.
    image = _read(partial(case.read_image, finite=False), problems)
    label = _read(case.read_label, problems)
    if image is not None:
        problems += _image_problems(image, data_set)
    if label is not None:
        problems += _label_problems(label, data_set)
    if image is not None and label is not None:
        problems += grid_problems(image, label)
    if problems or image is None or label is None:
        return CheckedCase(case, tuple(problems), None, held_out)
    facts, notes = _facts(image, label, data_set), case_notes(image, label)
    painted = None if data_set.unlabelled is not None else painted_slices(label.array[0])
    if painted is not None:
        notes = (*notes, painted.note)
    return CheckedCase(case, (), facts, held_out, notes)


def _read(read: Callable[[], Volume], problems: list[str]) -> Volume | None:
    try:
        return read()
    except (VolumeError, OSError) as error:
        problems.append(str(error))
        return None


def _image_problems(image: Volume, data_set: DataSet) -> list[str]:
    problems: list[str] = []
    try:
        check_finite(image.array, image.name)
    except VolumeError as error:
        problems.append(str(error))
    channels, needed = len(image.array), len(data_set.channels)
    if channels != needed:
        problems.append(
            f"{image.name}: has {channels} channels: must have {needed} "
            f"({', '.join(data_set.channels)}); put all into one 4-D file, or each into its own "
            "(case_0000, case_0001 …)"
        )
    flat = [n for n, channel in enumerate(image.array, 1) if channel.min() == channel.max()]
    problems += [
        f"{image.name}: channel {n} has one value everywhere; leave the case out" for n in flat
    ]
    return problems


def _label_problems(label: Volume, data_set: DataSet) -> list[str]:
    values = set(label_counts(label.array))
    unknown = sorted(values - data_set.values)
    problems = []
    if unknown:
        names = ", ".join(map(str, unknown[:_NAMED])) + (", ..." if len(unknown) > _NAMED else "")
        problems.append(f"{label.name}: label {names} is not in the class list; add or correct it")
    if not values & data_set.labels.keys():
        problems.append(f"{label.name}: no voxel is labelled; label some, or leave the case out")
    return problems


def grid_problems(image: Volume, label: Volume) -> list[str]:
    """Say in one line each where a label does not lie on its image's grid."""
    if image.shape != label.shape:
        return [
            f"{label.name}: shape {label.shape}: must be its image's {image.shape}; resample it"
        ]
    corners = np.array([[*c, 1] for c in np.ndindex(2, 2, 2)]) * [*(np.array(image.shape) - 1), 1]
    away = np.abs((image.affine - label.affine) @ corners.T)[:3].max()
    if away > AFFINE_TOLERANCE_MM:
        return [
            f"{label.name}: lies up to {away:.2f} mm from its image: must be within "
            f"{AFFINE_TOLERANCE_MM:g} mm; resample it to its grid"
        ]
    return []


def _facts(image: Volume, label: Volume, data_set: DataSet) -> CaseFacts:
    mask = _labelled(label.array[0], data_set)
    where = [np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    i, j, k = ((a[-1] - a[0] + 1) * s for a, s in zip(where, image.spacing, strict=True))
    return CaseFacts(
        image.shape,
        image.spacing,
        tuple(_channel(channel, mask) for channel in image.array),
        label_counts(label.array),
        (float(i), float(j), float(k)),
        4 * image.array.size,
        _world_axes(image),
    )


def _world_axes(image: Volume) -> tuple[int, int, int]:
    from nibabel.orientations import io_orientation  # late, as in `volumes.volume`

    i, j, k = (int(world) for world, _ in io_orientation(image.affine))
    return i, j, k


def _labelled(labels: NDArray[Any], data_set: DataSet) -> NDArray[np.bool_]:
    """Mask ``(i, j, k)`` of all classes, slab by slab: np.isin makes 8 bytes of each voxel."""
    mask = np.empty(labels.shape, bool)
    for made, slab in zip(mask, labels, strict=True):
        made[:] = np.isin(slab, list(data_set.labels))
    return mask


def _channel(channel: NDArray[Any], mask: NDArray[np.bool_]) -> ChannelFacts:
    inside = channel[mask]
    mean = float(inside.mean(dtype=np.float64))
    parts = np.array_split(inside, max(1, inside.size // _AT_ONCE))
    squares = sum(float(np.square(part - mean, dtype=np.float64).sum()) for part in parts)
    low, high = np.percentile(inside, (0.5, 99.5), overwrite_input=True)
    return ChannelFacts(
        float(channel.min()),
        1 - np.count_nonzero(channel) / channel.size,
        mean,
        math.sqrt(squares / inside.size),
        float(low),
        float(high),
    )
