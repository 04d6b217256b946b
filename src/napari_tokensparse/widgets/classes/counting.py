"""What the Class list counts, in a thread: the classes in labels as they are now, edits too."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_tokensparse.outputs.classresults import class_results
from napari_tokensparse.volumes.placement import shown_placement

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_tokensparse.outputs.classresults import ClassResult
    from napari_tokensparse.volumes.region import Box
    from napari_tokensparse.volumes.windows import Shape
    from napari_tokensparse.widgets.results import ShownResult


@dataclass(frozen=True, eq=False)
class Counted:
    """What was found of each class, in the model's order, and in which labels ``(i, j, k)``."""

    result: ShownResult
    labels: NDArray[np.unsignedinteger]
    classes: tuple[ClassResult, ...]


def count(result: ShownResult, shown: NDArray[np.unsignedinteger]) -> Counted:
    """Measure classes; ``shown`` are labels as their layer has them, and may have been edited.

    Overlapping regions are those of the run.
    """
    info, volume = result.network.info, result.volume
    assert info is not None
    labels = shown_placement(volume).unview(shown)
    classes = class_results(replace(result.segmentation, labels=labels), volume, info)
    return Counted(result, labels, classes)


def middle_voxel(labels: NDArray[np.unsignedinteger], value: int, box: Box) -> Shape:
    """Return the voxel (i, j, k) of a class that is nearest to the middle of all its voxels.

    Parameters
    ----------
    labels
        ``(i, j, k)``.
    value
        Of the class.
    box
        Which holds all of it.

    Raises
    ------
    ValueError
        There is no such voxel in the box.
    """
    voxels = np.argwhere(labels[box.slices] == value)
    if not len(voxels):
        raise ValueError(f"class {value}: has no voxel in {box}")
    away = ((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1)
    i, j, k = (voxels[away.argmin()] + box.start).tolist()
    return i, j, k
