"""The one door to what a network learns from: read cases, take them from layers, split them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_tokensparse.datasets.datalists import read_data_set
from napari_tokensparse.datasets.dataset import (
    Case,
    DataError,
    DataSet,
    channel_names,
    class_names,
    label_values,
    with_classes,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_tokensparse.volumes.volume import Volume

__all__ = [
    "Case",
    "DataError",
    "DataSet",
    "layers_data_set",
    "read_data_set",
    "split",
    "with_classes",
]


def split(
    data_set: DataSet, share: float = 0.2, seed: int = 0, folds: int | None = None
) -> DataSet:
    """Hold out some training cases for validation, where a data set lists none.

    Parameters
    ----------
    data_set
        Returned as it is if it lists validation cases, or has but one case.
    share
        Share of the cases to hold out, in [0, 1): at least one, unless it is 0.
    seed
        Which ones.
    folds
        Cut the cases into as many folds (at most one per case) and hold out the first, whatever the
        share.

    Raises
    ------
    DataError
        The share or the number of folds cannot be.
    """
    if not 0 <= share < 1:
        raise DataError(f"validation share {share:g}: must be in [0, 1)")
    if folds is not None and folds < 2:
        raise DataError(f"{folds} folds: must be at least 2")
    count = len(data_set.training)
    if data_set.validation or count < 2 or (folds is None and share == 0):
        return data_set
    held_out = _held_out(count, share, seed, folds)
    return replace(
        data_set,
        training=tuple(c for n, c in enumerate(data_set.training) if n not in held_out),
        validation=tuple(data_set.training[n] for n in sorted(held_out)),
    )


def layers_data_set(
    pairs: Sequence[tuple[Volume, Volume]],
    zero_is_background: bool,
    names: Mapping[int, str] | None = None,
) -> DataSet:
    """Make a data set of open layers.

    Parameters
    ----------
    pairs
        Images and labels. What each is, is checked later, as for files.
    zero_is_background
        Whether 0 in a label means background, or "not labelled".
    names
        Names of classes; "label 3" for one without.

    Raises
    ------
    DataError
        Too little is painted to learn from.
    """
    if not pairs:
        raise DataError("no layers: choose at least one image and its labels")
    values = label_values(label for _, label in pairs)
    if not values:
        raise DataError("the labels are empty: paint some voxels of each class")
    if not zero_is_background and len(values) == 1:
        raise DataError(
            f"only {values[0]} is painted and 0 means unlabelled: "
            "paint some of what is not the class as another class"
        )
    cases = [Case(image.name, image, label) for image, label in pairs]
    return DataSet(
        name=pairs[0][0].name,
        channels=channel_names(pairs[0][0]),
        labels=class_names(values, names),
        training=tuple(_numbered(cases)),
        unlabelled=None if zero_is_background else 0,
    )


def _held_out(count: int, share: float, seed: int, folds: int | None) -> set[int]:
    # Only here: it imports torch, and whoever only lists cases need not wait for it.
    from monai.data.utils import partition_dataset

    if folds is not None:
        parts = partition_dataset(
            range(count), num_partitions=min(folds, count), shuffle=True, seed=seed
        )
        return set(parts[0])
    held_out = min(max(1, round(share * count)), count - 1)
    ratios = [count - held_out, held_out]
    return set(partition_dataset(range(count), ratios=ratios, shuffle=True, seed=seed)[1])


def _numbered(cases: Sequence[Case]) -> list[Case]:
    """Append their numbers to cases that share a name."""
    count = Counter(case.name for case in cases)
    return [
        replace(case, name=f"{case.name} {number}") if count[case.name] > 1 else case
        for number, case in enumerate(cases, 1)
    ]
