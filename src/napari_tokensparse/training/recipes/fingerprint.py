"""What a data set is like, as far as the recipe ``auto`` decides by it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from napari_tokensparse.datasets.cases import DataSet
    from napari_tokensparse.datasets.checks import CaseFacts

Triple = tuple[float, float, float]

ANISOTROPIC = 3.0
"""From this ratio of the largest to the smallest spacing on, a data set is anisotropic."""

_AIR_HU = -200.0
_CT = re.compile(r"(?<![a-z])(ct|cta|cbct|hu|hounsfield)(?![a-z])")
_SIDES = frozenset({"left", "right", "l", "r", "lh", "rh", "lt", "rt"})
_MEASURED = 4  # cases whose structures are measured


@dataclass(frozen=True)
class Fingerprint:
    """What the training cases are like; axes run to the right, front and top.

    Attributes
    ----------
    cases
        How many.
    spacing
        Typical voxel size in mm: the median, but along an anisotropic set's thick axis the 10th
        percentile, so that thin slices are not thrown away.
    size_mm
        Median extent of a volume.
    hounsfield
        Whether intensities are those of CT, in Hounsfield units: every channel says so by its name
        or by values that only air has.
    low, high
        Lowest 0.5th and highest 99.5th percentile of the labelled structures' intensities.
    sided
        Whether class names speak of left or right.
    """

    cases: int
    spacing: Triple
    size_mm: Triple
    hounsfield: bool
    low: float
    high: float
    sided: bool

    @property
    def anisotropic(self) -> bool:
        """Whether slices are far thicker than their voxels are wide."""
        return max(self.spacing) >= ANISOTROPIC * min(self.spacing)

    def shape(self, spacing: Triple) -> tuple[int, int, int]:
        """Voxels of the median volume at another spacing."""
        h, w, d = (max(1, round(n / s)) for n, s in zip(self.size_mm, spacing, strict=True))
        return h, w, d


def fingerprint(data_set: DataSet, facts: Sequence[CaseFacts]) -> Fingerprint:
    """Gather what the training cases are like from the facts that their check found."""
    spacings = np.array([_in_ras(fact, fact.spacing) for fact in facts])
    shapes = np.array([_in_ras(fact, fact.shape) for fact in facts])
    channels = [channel for fact in facts for channel in fact.channels]
    return Fingerprint(
        cases=len(facts),
        spacing=_typical_spacing(spacings),
        size_mm=_triple(np.median(spacings * shapes, axis=0)),
        hounsfield=all(
            _is_ct(name, min(fact.channels[n].minimum for fact in facts))
            for n, name in enumerate(data_set.channels)
        ),
        low=min(c.low for c in channels),
        high=max(c.high for c in channels),
        sided=any(_is_sided(name) for name in data_set.labels.values()),
    )


def thinnest_mm(data_set: DataSet) -> float:
    """Measure the thinnest class: twice its volume by its surface, the median of some cases.

    That is the thickness of a plate, half the diameter of a tube, a third of a ball's.
    """
    thickness: dict[int, list[float]] = {value: [] for value in data_set.labels}
    for case in data_set.training[:_MEASURED]:
        label = case.read_label()
        for value, thicknesses in thickness.items():
            mask = label.array[0] == value
            if mask.any():
                thicknesses.append(_thickness(mask, label.spacing))
    return min(float(np.median(thicknesses)) for thicknesses in thickness.values() if thicknesses)


def _thickness(mask: NDArray[np.bool_], spacing: Triple) -> float:
    voxel = float(np.prod(spacing))
    surface = sum(
        np.count_nonzero(np.diff(mask, axis=axis)) * voxel / spacing[axis] for axis in range(3)
    )
    volume = np.count_nonzero(mask) * voxel
    return 2 * volume / surface if surface else float("inf")


def _typical_spacing(spacings: NDArray[np.float64]) -> Triple:
    """Median over the cases ``(n, 3)``, or less along a thick axis (after nnU-Net)."""
    typical = np.median(spacings, axis=0)
    thick = int(typical.argmax())
    if typical[thick] >= ANISOTROPIC * typical.min():
        finer = float(np.percentile(spacings[:, thick], 10))
        typical[thick] = max(finer, np.delete(typical, thick).max())
    return _triple(typical)


def _in_ras(fact: CaseFacts, values: Iterable[float]) -> NDArray[np.float64]:
    """Put what stands in the order of a file's axes in that of right, front, top."""
    ordered = np.empty(3)
    ordered[list(fact.world_axes)] = list(values)
    return ordered


def _is_ct(channel: str, minimum: float) -> bool:
    return minimum <= _AIR_HU or _CT.search(channel.lower()) is not None


def _is_sided(name: str) -> bool:
    return not _SIDES.isdisjoint(re.split(r"[^a-z]+", name.lower()))


def _triple(values: NDArray[np.float64]) -> Triple:
    h, w, d = (round(float(v), 4) for v in values)
    return h, w, d
