"""A run as it is remembered, and how far the labels of two agree."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokensparse.widgets.packed import Packed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from uuid import UUID

    from numpy.typing import NDArray

    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.segmenting.options import Options
    from napari_tokensparse.widgets.results import ShownResult

_AT_ONCE = 1 << 20  # voxels that are compared in one step


@dataclass(frozen=True, eq=False)
class Run:
    """A run, in little memory: all that is as large as the image is packed.

    Attributes
    ----------
    number
        Counted from 1, in the order of runs.
    at
        When it ended.
    image
        The identity of the layer that was segmented, and its name then.
    info
        What the model says of itself.
    options
        What was asked for.
    seconds
        That it took.
    region
        The box that was segmented, as text; None for the whole volume.
    put
        The labels as its layer (z, y, x) held them: with what a run of a region, locks and edits
        left there.
    given
        The labels (i, j, k) as the run gave them.
    """

    number: int
    at: datetime
    image: tuple[UUID, str]
    info: ModelInfo
    options: Options
    seconds: float
    region: str | None
    put: Packed
    given: Packed
    placement: dict[str, Any]
    _regions: Packed | None
    _confidence: Packed | None
    _bare: ShownResult | None  # without the arrays that are packed; None once its image is gone

    @classmethod
    def of(cls, number: int, shown: ShownResult, put: Packed, placement: dict[str, Any]) -> Run:
        """Remember a result that was shown with labels like these."""
        result, info = shown.segmentation, shown.network.info
        regions = None if result.regions is None else Packed.of(result.regions)
        confidence = None if result.confidence is None else Packed.of(result.confidence)
        no_labels = np.empty((0, 0, 0), result.labels.dtype)
        bare = replace(result, labels=no_labels, regions=None, confidence=None)
        return cls(
            number,
            datetime.now(),
            (shown.image.unique_id, str(shown.image.name)),
            info,
            shown.options,
            result.stats.seconds["total"],
            None if result.region is None else str(result.region),
            put,
            Packed.of(result.labels),
            placement,
            regions,
            confidence,
            replace(shown, segmentation=bare),
        )

    def shown(self) -> ShownResult | None:
        """Return the result as it was shown; None once its image is gone."""
        if self._bare is None:
            return None
        regions = None if self._regions is None else self._regions.array()
        confidence = None if self._confidence is None else self._confidence.array()
        bare, labels = self._bare.segmentation, self.given.array()
        result = replace(bare, labels=labels, regions=regions, confidence=confidence)
        return replace(self._bare, segmentation=result)

    def without_image(self) -> Run:
        """Let go of the image and the network; the labels stay."""
        return replace(self, _bare=None)

    @property
    def nbytes(self) -> int:
        """Bytes of the labels and token maps that are kept."""
        packed = [self.put, self.given, self._regions, self._confidence]
        held = 0
        if self._bare is not None:
            held = sum(array.nbytes for array in _arrays(vars(self._bare.segmentation.tokens)))
        return held + sum(one.nbytes for one in packed if one is not None)

    @property
    def keep(self) -> str:
        """What was kept, as text: one number, one for each stage, or the least importance."""
        return self.options.kept

    @property
    def is_unpruned(self) -> bool:
        """Whether every token reached the end."""
        return self.options.prunes_nothing

    def is_like(self, other: Run) -> bool:
        """Whether labels can be compared: one image and region, and the same weights."""
        mine, theirs = self.info, other.info
        return (
            self.image[0] == other.image[0]
            and self.region == other.region
            and self.given.shape == other.given.shape
            and (mine.name, mine.weights_sha256) == (theirs.name, theirs.weights_sha256)
        )


def _arrays(value: object) -> Iterator[NDArray[Any]]:
    """Yield the arrays among values, whichever of them come one for each stage."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple):
        for each in value:
            yield from _arrays(each)


def reference_of(run: Run, runs: Sequence[Run]) -> Run | None:
    """Return what a run is compared with: the latest like it that pruned nothing, or that before.

    A run that pruned nothing is compared with the one before. None where there is no such run.
    """
    like = [other for other in runs if other is not run and run.is_like(other)]
    unpruned = [other for other in like if other.is_unpruned]
    before = [other for other in like if other.number < run.number]
    if unpruned and not run.is_unpruned:
        return unpruned[-1]
    return before[-1] if before else None


def mean_dice(
    one: NDArray[np.integer], other: NDArray[np.integer], values: Collection[int]
) -> float | None:
    """Return the mean Dice of label values that occur in either of two label arrays.

    None where none occurs.

    Examples
    --------
    >>> mean_dice(np.array([0, 1, 1, 2]), np.array([0, 1, 0, 2]), [1, 2, 3])
    0.8333333333333333
    """
    place = np.zeros(1 + max(int(one.max()), int(other.max()), *values), np.intp)
    place[list(values)] = range(1, len(values) + 1)
    size = 1 + len(values)
    counts = np.zeros(size * size, np.int64)
    flat = one.reshape(-1), other.reshape(-1)
    for first in range(0, one.size, _AT_ONCE):
        a, b = (place[each[first : first + _AT_ONCE]] for each in flat)
        counts += np.bincount(a * size + b, minlength=size * size)
    table = counts.reshape(size, size)
    sums = table.sum(axis=1)[1:] + table.sum(axis=0)[1:]
    both = table.diagonal()[1:]
    occurs = sums > 0
    return float(np.mean(2 * both[occurs] / sums[occurs])) if occurs.any() else None
