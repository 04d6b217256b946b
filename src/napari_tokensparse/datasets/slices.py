"""Whether labels were painted in some slices only: what is not painted is no background then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST = 0.5  # of the slices: more of them are taken for a volume that is labelled throughout
_ABRUPT = 0.5  # of the usual area: a structure that ends by itself is smaller in its last slice


@dataclass(frozen=True)
class PaintedSlices:
    """Labels that fill some slices and are missing from the others.

    Attributes
    ----------
    painted, slices
        How many slices hold labels, and how many there are along that axis.
    """

    painted: int
    slices: int

    @property
    def note(self) -> str:
        """What a person should know of it, one sentence."""
        return (
            f"labels are in {self.painted} of {self.slices} slices and end abruptly there: if the "
            "others are not labelled, say that 0 means unlabelled (--zero-is-unlabelled), or the "
            "model learns that they are background"
        )


def painted_slices(labels: NDArray[Any]) -> PaintedSlices | None:
    """Tell whether labels look as if a person had painted some slices only.

    That is so along an axis of which at most half of the slices hold labels, where the labelled
    area of those beside an empty slice is, as a median, at least half of what it usually is: a
    structure tapers off, paint does not.

    Parameters
    ----------
    labels
        Shape (i, j, k); 0 is what is not painted.

    Returns
    -------
    PaintedSlices or None
        Of the axis with the smallest share of painted slices.
    """
    shown = labels != 0
    painted = [_along(shown, axis) for axis in range(3)]
    return min(
        (one for one in painted if one is not None),
        key=lambda one: one.painted / one.slices,
        default=None,
    )


def _along(shown: NDArray[np.bool_], axis: int) -> PaintedSlices | None:
    others = tuple(other for other in range(3) if other != axis)
    areas = np.count_nonzero(shown, axis=others)
    painted = areas > 0
    count = int(painted.sum())
    if not count or count > _MOST * len(areas):
        return None
    empty = np.pad(~painted, 1)  # the volume's own end cuts whatever is there
    at_edge = painted & (empty[:-2] | empty[2:])
    if not at_edge.any() or np.median(areas[at_edge]) < _ABRUPT * np.median(areas[painted]):
        return None
    return PaintedSlices(count, len(areas))
