"""What a network learns from: images with their labels."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokensparse.common.untrusted import PlainError
from napari_tokensparse.volumes.channels import stack_channels
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import Volume, VolumeError, check_finite

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

MAX_CLASSES = 255
ROUNDED = 0.01
"""How far a label may be from a whole number, as those of files that state a scaling are."""


class DataError(PlainError):
    """A data set that cannot be used as it is; one plain line says why and what to do."""


@dataclass(frozen=True, eq=False)
class Case:
    """An image and its label.

    Attributes
    ----------
    name
        What to call it; no other case of its data set has the same name.
    image, label
        What `read_volume` takes, or a volume in memory; the image may be several files too, one
        for each channel, in the channels' order.
    relabel
        Label values as they are stored, and those that take their place.
    """

    name: str
    image: Path | tuple[Path, ...] | Volume
    label: Path | Volume
    relabel: tuple[tuple[int, int], ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """What image and label are read from; none of what is in memory."""
        images = self.image if isinstance(self.image, tuple) else (self.image,)
        return tuple(one for one in (*images, self.label) if isinstance(one, Path))

    def read_image(self, finite: bool = True) -> Volume:
        """Return the image, (C, i, j, k): a fourth axis of the file is its channels.

        Of several files, the first one's grid is the image's (see `stack_channels`).

        Raises
        ------
        VolumeError
            It cannot be read or, unless ``finite`` is False, contains NaN or infinity.
        """
        if not isinstance(self.image, tuple):
            return _volume(self.image, finite)
        parts = {f"channel {n}": _volume(file, finite) for n, file in enumerate(self.image, 1)}
        return replace(stack_channels(parts, tuple(parts)), name=self.name, channel_names=())

    def read_label(self) -> Volume:
        """Return the label, (1, i, j, k) of integers, relabelled.

        Raises
        ------
        VolumeError
            It cannot be read, has several channels, or is not whole numbers.
        """
        volume = _volume(self.label, finite=True)
        if len(volume.array) != 1:
            raise VolumeError(
                f"{volume.name}: has {len(volume.array)} channels: a label must have one"
            )
        return _relabelled(whole_labels(volume), self.relabel)


@dataclass(frozen=True, eq=False)
class DataSet:
    """Cases to learn from and cases to validate with.

    Attributes
    ----------
    name
        What to call it.
    channels
        Name of each channel of an image.
    labels
        Value and name of each class, ascending; background (0) is left out.
    training, validation
        The cases; none is in both.
    unlabelled
        Label value of voxels that nobody has labelled, which are left out of the loss; None if
        there are none.
    notes
        What a person should know about it, one sentence each.
    """

    name: str
    channels: tuple[str, ...]
    labels: dict[int, str]
    training: tuple[Case, ...]
    validation: tuple[Case, ...] = ()
    unlabelled: int | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what would mix up cases or classes later."""
        if not self.training:
            raise DataError(f"{self.name}: has no case to train on; list some under training")
        if not 1 <= len(self.labels) <= MAX_CLASSES:
            raise DataError(
                f"{self.name}: {len(self.labels)} classes: must be 1 to {MAX_CLASSES}; "
                "give labels of small whole numbers"
            )
        _check_unique("class", self.labels.values())
        _check_unique("case", [case.name for case in (*self.training, *self.validation)])

    @property
    def values(self) -> frozenset[int]:
        """Every value that a label may hold."""
        extra = () if self.unlabelled is None else (self.unlabelled,)
        return frozenset((0, *self.labels, *extra))

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file, or folder of a DICOM series, that an image or a label is read from."""
        cases = (*self.training, *self.validation)
        return tuple(file for case in cases for file in case.files)


def case_notes(image: Volume, label: Volume) -> tuple[str, ...]:
    """Return what a person should know of a case, one sentence each."""
    of_label = [f"its label: {note}" for note in label.notes if note not in image.notes]
    return (*image.notes, *of_label)


def label_values(labels: Iterable[Volume]) -> tuple[int, ...]:
    """Return the label values above 0 that occur, ascending."""
    values = {value for label in labels for value in label_counts(label.array) if value > 0}
    return tuple(sorted(values))


def label_counts(array: NDArray[Any]) -> dict[int, int]:
    """Count the voxels of each label value, ascending, slab by slab: a sort copies what it sorts.

    ``array`` is (1, i, j, k), of whole numbers.
    """
    totals: Counter[int] = Counter()
    for slab in array[0]:
        values, counts = np.unique(slab, return_counts=True)
        totals.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    return dict(sorted(totals.items()))


def class_names(values: Iterable[int], names: Mapping[int, str] | None = None) -> dict[int, str]:
    """Name each label value, "label 3" where no name is given."""
    return {value: (names or {}).get(value, f"label {value}") for value in values}


def whole_labels(volume: Volume) -> Volume:
    """Return labels as integers, which files often store as floats.

    Within `ROUNDED` of whole numbers they are rounded, with a note.

    Raises
    ------
    VolumeError
        They are not whole numbers.
    """
    array = volume.array
    if array.dtype.kind == "b":
        return replace(volume, array=array.astype(np.uint8))
    if array.dtype.kind != "f":
        return volume
    rounded = array.round()
    away = np.abs(rounded - array)
    broken = int((away > ROUNDED).sum())
    if broken:
        raise VolumeError(
            f"{volume.name}: {broken} voxels are not whole numbers: resample labels to the nearest "
            "value"
        )
    off = float(away.max(initial=0.0))
    note = f"its labels are up to {off:.1g} from whole numbers and were rounded"
    notes = (*volume.notes, note) if off else volume.notes
    return replace(volume, array=rounded.astype(np.int64), notes=notes)


def with_classes(
    data_set: DataSet, names: Mapping[int, str], background: int | None = None
) -> DataSet:
    """Name classes, and let one of them be the background.

    Parameters
    ----------
    data_set
        Its other names stay.
    names
        By label value.
    background
        Label value of what was labelled as background; it becomes 0. What was 0 before is
        background too, or stays unlabelled where the data set says so.

    Raises
    ------
    DataError
        No label has such a value, or nothing but background is left.
    """
    for value in (*names, *([] if background is None else [background])):
        if value not in data_set.labels:
            listed = ", ".join(map(str, data_set.labels))
            raise DataError(f"class {value}: is none of the labels' values ({listed})")
    labels = {value: names.get(value, name) for value, name in data_set.labels.items()}
    if background is None:
        return replace(data_set, labels=labels)
    del labels[background]
    if not labels:
        raise DataError(f"background {background}: is the only class; label another one too")
    unlabelled = data_set.unlabelled is not None
    swapped = ((background, 0), (0, background)) if unlabelled else ((background, 0),)
    return replace(
        data_set,
        labels=labels,
        training=tuple(replace(case, relabel=swapped) for case in data_set.training),
        validation=tuple(replace(case, relabel=swapped) for case in data_set.validation),
        unlabelled=background if unlabelled else None,
    )


def channel_names(image: Volume) -> tuple[str, ...]:
    """Name the channels of an image, "channel 1" and so on where it does not."""
    return image.channel_names or tuple(f"channel {n + 1}" for n in range(len(image.array)))


def _relabelled(volume: Volume, relabel: Iterable[tuple[int, int]]) -> Volume:
    array, given = volume.array, volume.array
    for old, new in relabel:
        if array is given:
            array = given.astype(np.promote_types(given.dtype, np.uint8))
        array[given == old] = new
    return replace(volume, array=array)


def _volume(source: Path | Volume, finite: bool) -> Volume:
    # A list of cases says itself what its channels are.
    volume = (
        read_volume(source, finite=False, time_is_channels=True)
        if isinstance(source, Path)
        else source
    )
    if finite:
        check_finite(volume.array, volume.name)
    return volume


def _check_unique(what: str, names: Iterable[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{what} {', '.join(twice)}: is listed more than once; list each once")
