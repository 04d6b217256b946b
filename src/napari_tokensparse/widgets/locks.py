"""What of labels a person has locked: no later run changes it. Arrays and plain values alone.

A locked class keeps exactly its voxels: none is taken from it, and none is given to it. A voxel
that was corrected by hand keeps its label, whatever that is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

LOCKED_KEY = "tokensparse_locked"
"""In the metadata of a labels layer: the values of its locked classes, a sorted tuple of int."""


def locked_values(metadata: Mapping[str, Any]) -> frozenset[int]:
    """Return which label values a layer's metadata says are locked."""
    return frozenset(map(int, metadata.get(LOCKED_KEY, ())))


def with_lock(metadata: Mapping[str, Any], value: int, locked: bool) -> dict[str, Any]:
    """Return metadata in which a label value is locked, or is not; the rest is as it was.

    For ``layer.metadata = with_lock(layer.metadata, 7, True)``.
    """
    others = locked_values(metadata) - {value}
    values = {*others, value} if locked else others
    return {**metadata, LOCKED_KEY: tuple(sorted(values))}


def kept_voxels(
    new: NDArray[np.integer],
    old: NDArray[np.integer],
    locked: Collection[int],
    edited: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Return where old labels stay: in locked classes, where new ones would be, and where edited.

    Parameters
    ----------
    new, old
        Labels of one shape, of a run and of the layer that it would update.
    locked
        Label values of the locked classes; 0 is the background.
    edited
        Of the same shape, where a person corrected ``old``; None if nowhere.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    shapes = {array.shape for array in (new, old, edited) if array is not None}
    if len(shapes) > 1:
        raise ValueError(f"labels of shapes {new.shape} and {old.shape}: must be on one grid")
    kept = np.zeros(new.shape, bool) if edited is None else edited.copy()
    for value in locked:
        kept |= old == value
        kept |= new == value
    return kept


def locked_merge(
    new: NDArray[np.integer],
    old: NDArray[np.integer],
    locked: Collection[int],
    edited: NDArray[np.bool_] | None = None,
) -> NDArray[np.integer]:
    """Return a run's labels with what is locked in the old ones left as it is.

    Parameters and errors are those of `kept_voxels`.

    Examples
    --------
    >>> new, old = np.array([1, 2, 2, 0]), np.array([1, 1, 2, 2])
    >>> locked_merge(new, old, locked=[1]).tolist()  # no voxel leaves class 1
    [1, 1, 2, 0]
    >>> locked_merge(new, old, [], edited=np.array([False, False, False, True])).tolist()
    [1, 2, 2, 2]
    """
    merged: NDArray[np.integer] = np.where(kept_voxels(new, old, locked, edited), old, new)
    return merged
