"""How a volume lies in napari: which axes, which way, and where in millimetres.

napari shows axes (z, y, x). Here z points up (superior), y to the patient's back and x to the
patient's left (LPS), so that a 2-D view is radiological. Arrays are turned that way by transposing
and flipping only, which copies nothing; ``scale`` and ``translate`` do the rest.

What a layer carries in ``layer.metadata["tokensparse"]``, all of it plain and picklable:

=========== ============================================================================
``name``     str, the volume's name
``affine``   (4, 4) float64, file voxel (i, j, k, 1) to RAS mm, exact also where oblique
``shape``    the file's (i, j, k)
``axes``     for each of (z, y, x), the file axis that it shows
``flips``    for each of (z, y, x), whether that file axis is shown reversed
``channel``  str, the channel's name, or empty
``header``   bytes of the NIfTI header, or None
``notes``    tuple of sentences for a person
``slices``   of a DICOM series, the file of each slice along k; else empty
``modality`` of a DICOM series, its modality; else empty
=========== ============================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokensparse.volumes.volume import (
    NOTE_NO_ORIENTATION,
    Volume,
    VolumeError,
    check_finite,
    header_from_bytes,
    is_lazy,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

KEY = "tokensparse"
MODEL_KEY = "tokensparse_model"
"""In the metadata of labels that a model made: what files of them say of it, as plain values."""
ORIENTATION_KEY = "tokensparse_orientation"
"""In the metadata of a layer that no reader of ours made: what its world's axes point to, as a
person said: ``SPL`` where (z, y, x) go up, to the back and to the left."""
WARNINGS_KEY = "tokensparse_warnings"
"""In the metadata of what a run made: what speaks against its model on its scan, a line each."""
SHOWN_ORIENTATION = "SPL"
"""What napari's axes (z, y, x) point to, as our reader places a volume."""
NOTE_FOREIGN_LAYER = (
    "the layer's orientation is unknown: its axes are taken as (z, y, x) = up, back, left"
)
NOTE_NO_LENGTHS = (
    "the layer's units are no lengths (napari's own are pixels), so the size of its voxels is not "
    "known: its scale is taken as mm; set the layer's units"
)

_OBLIQUE_FROM_DEGREES = 0.1
_UNKNOWN = {NOTE_NO_ORIENTATION, NOTE_FOREIGN_LAYER}
_TO_LPS_ZYX = np.array(
    [[0, 0, 1, 0], [0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]], dtype=np.float64
)  # RAS (x, y, z, 1) to LPS (z, y, x, 1)


@dataclass(frozen=True, eq=False)
class Placement:
    """How arrays on one volume's grid are shown in napari.

    Attributes
    ----------
    axes
        For each of (z, y, x), the file axis 0..2 that it shows.
    flips
        For each of (z, y, x), whether that file axis runs the other way.
    scale
        Voxel size along (z, y, x) in mm, all positive.
    translate
        Centre of the first displayed voxel, (z, y, x) in LPS mm. An oblique volume is shown turned
        straight about its centre.
    oblique_degrees
        The largest angle between a voxel axis and the world axis that it is shown along.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    scale: tuple[float, float, float]
    translate: tuple[float, float, float]
    oblique_degrees: float

    @property
    def is_oblique(self) -> bool:
        """Whether the volume is shown visibly turned from where it truly lies."""
        return self.oblique_degrees > _OBLIQUE_FROM_DEGREES

    def view(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return (..., i, j, k) as (..., z, y, x), sharing memory."""
        lead = array.ndim - 3
        order = (*range(lead), *(lead + axis for axis in self.axes))
        turned: NDArray[Any] = array.transpose(order)[self._slices()]
        return turned

    def unview(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return (..., z, y, x) as (..., i, j, k), sharing memory."""
        lead = array.ndim - 3
        order = (*range(lead), *(lead + self.axes.index(axis) for axis in range(3)))
        straight: NDArray[Any] = array[self._slices()]
        return straight.transpose(order)

    def to_file(self, shown: Sequence[float], shape: Sequence[int]) -> tuple[float, float, float]:
        """Return the file's index (i, j, k) of a point of the shown array, (z, y, x).

        ``shape`` is the file's; an index need not be whole.
        """
        index = [0.0, 0.0, 0.0]
        for value, axis, flip in zip(shown, self.axes, self.flips, strict=True):
            index[axis] = shape[axis] - 1 - value if flip else value
        return index[0], index[1], index[2]

    def to_shown(self, index: Sequence[float], shape: Sequence[int]) -> tuple[float, float, float]:
        """Return where the file's index (i, j, k) lies in the shown array: `to_file` undone."""
        z, y, x = (
            shape[axis] - 1 - index[axis] if flip else index[axis]
            for axis, flip in zip(self.axes, self.flips, strict=True)
        )
        return z, y, x

    def points_to_shown(
        self, points: NDArray[np.float64], shape: Sequence[int]
    ) -> NDArray[np.float64]:
        """Return `to_shown` of many points: ``(n, 3)`` both."""
        axes = list(self.axes)
        shown = points[:, axes]
        last = np.array(shape)[axes] - 1
        turned: NDArray[np.float64] = np.where(self.flips, last - shown, shown)
        return turned

    def _slices(self) -> tuple[Any, ...]:
        return (..., *(slice(None, None, -1 if flip else 1) for flip in self.flips))


def placement_of(affine: NDArray[np.float64], shape: Sequence[int]) -> Placement:
    """Find how a volume is shown: its closest canonical order, turned to LPS.

    Parameters
    ----------
    affine
        Shape (4, 4): voxel (i, j, k, 1) to RAS mm, invertible.
    shape
        Voxels along (i, j, k).
    """
    from nibabel.orientations import io_orientation  # late, as in `volumes.volume`

    world, direction = io_orientation(affine).astype(int).T  # per file axis: R, A, S = 0, 1, 2; ±1
    axes = [int(np.flatnonzero(world == axis)[0]) for axis in (2, 1, 0)]
    flips = [bool(direction[axis] != want) for axis, want in zip(axes, (1, -1, -1), strict=True)]
    last = np.array([shape[axis] - 1 for axis in axes], dtype=np.float64)
    shown = _TO_LPS_ZYX @ affine @ _to_file_index(axes, flips, last)  # shown (z, y, x, 1) to LPS mm
    scale = np.linalg.norm(shown[:3, :3], axis=0)
    cosine = np.clip(np.diag(shown)[:3] / scale, -1.0, 1.0)
    centre = shown[:3, :3] @ (last / 2) + shown[:3, 3]
    return Placement(
        axes=(axes[0], axes[1], axes[2]),
        flips=(flips[0], flips[1], flips[2]),
        scale=_triple(scale),
        translate=_triple(centre - scale * last / 2),
        oblique_degrees=float(np.degrees(np.arccos(cosine.min()))),
    )


def shown_placement(volume: Volume) -> Placement:
    """Find how a volume is shown that a layer may have given: such a layer's axes stay its own."""
    placement = placement_of(volume.affine, volume.shape)
    if not volume.axes_as_shown:
        return placement
    return replace(placement, axes=(2, 1, 0), flips=(False, False, False))


def layer_kwargs(volume: Volume, channel: int = 0) -> dict[str, Any]:
    """Return what a napari layer on this volume's grid is created with, except data and name.

    Returns
    -------
    dict
        ``scale``, ``translate`` (mm), ``units``, ``axis_labels`` and ``metadata`` (see the module).
    """
    placement = placement_of(volume.affine, volume.shape)
    return {
        "scale": placement.scale,
        "translate": placement.translate,
        "units": ("mm", "mm", "mm"),
        "axis_labels": ("z", "y", "x"),
        "metadata": {KEY: _metadata(volume, placement, channel)},
    }


def volume_from_layer_data(
    data: ArrayLike,
    world: NDArray[np.float64],
    metadata: Mapping[str, Any],
    name: str,
    *,
    finite: bool = True,
    lazy: bool = False,
) -> tuple[Volume, bool]:
    """Turn what a napari layer holds back into a volume.

    A layer from our reader that has kept its shape and place gives the file's voxel order, affine
    and header. Any other is taken as it is shown, turned, sheared or mirrored as it is.

    Parameters
    ----------
    data
        Shape (z, y, x).
    world
        Shape (4, 4): index (z, y, x, 1) to napari's world, (z, y, x) = up, back, left in mm.
    metadata
        The layer's.
    name
        The layer's.
    finite
        Whether to refuse NaN and infinity.
    lazy
        Whether a dask array stays one; it is read into memory otherwise.

    Returns
    -------
    volume
        One channel, array (1, i, j, k) sharing memory with ``data``.
    orientation_known
        False where left and right, front and back, up and down are assumed.

    Raises
    ------
    VolumeError
        If the data are not 3-D or contain NaN or infinity, or the matrix is not invertible.
    """
    array = _checked(data, name, finite=finite, lazy=lazy)
    ours = metadata.get(KEY)
    volume = None if ours is None else _ours(array, world, ours, name)
    volume = volume or _foreign(array, world, name, metadata.get(ORIENTATION_KEY))
    return volume, _UNKNOWN.isdisjoint(volume.notes)


def orientation_known(metadata: Mapping[str, Any]) -> bool:
    """Whether a layer's metadata say, truly, which side is left, and napari shows it there."""
    if KEY not in metadata:
        return bool(metadata.get(ORIENTATION_KEY) == SHOWN_ORIENTATION)
    return _UNKNOWN.isdisjoint(metadata[KEY]["notes"])


def _towards(orientation: str) -> NDArray[np.float64]:
    """Return the matrix from the world of a layer, (z, y, x, 1), to RAS mm.

    Parameters
    ----------
    orientation
        What the world's axes point to, a letter each of R or L, A or P, S or I.
    """
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1.0
    for axis, letter in enumerate(orientation):
        matrix["RAS".find(letter) if letter in "RAS" else "LPI".find(letter), axis] = (
            1.0 if letter in "RAS" else -1.0
        )
    return matrix


def _to_file_index(
    axes: Sequence[int], flips: Sequence[bool], last: NDArray[np.float64]
) -> NDArray[np.float64]:
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1.0
    for shown, (axis, flip) in enumerate(zip(axes, flips, strict=True)):
        matrix[axis, shown] = -1.0 if flip else 1.0
        matrix[axis, 3] = last[shown] if flip else 0.0
    return matrix


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    z, y, x = values.tolist()
    return z, y, x


def _metadata(volume: Volume, placement: Placement, channel: int) -> dict[str, Any]:
    oblique = (
        f"shown turned straight by {placement.oblique_degrees:.1f} degrees; "
        "files and tables keep the true positions"
    )
    notes = (*volume.notes, oblique) if placement.is_oblique else volume.notes
    return {
        "name": volume.name,
        "affine": volume.affine.copy(),
        "shape": volume.shape,
        "axes": placement.axes,
        "flips": placement.flips,
        "channel": volume.channel_names[channel] if volume.channel_names else "",
        "header": None if volume.header is None else volume.header.binaryblock,
        "notes": tuple(dict.fromkeys(notes)),
        "slices": tuple(map(str, volume.slices)),
        "modality": volume.modality,
    }


def _checked(data: ArrayLike, name: str, *, finite: bool, lazy: bool = False) -> NDArray[Any]:
    array: Any = data if lazy and is_lazy(data) else np.asarray(data)
    if array.ndim != 3:
        raise VolumeError(f"{name}: has {array.ndim} axes; choose a 3-D image, one channel")
    if array.dtype.kind == "b":
        array = array.view(np.uint8)
    if finite:
        check_finite(array, name)
    checked: NDArray[Any] = array
    return checked


def _ours(
    array: NDArray[Any], world: NDArray[np.float64], ours: Mapping[str, Any], name: str
) -> Volume | None:
    """Return the file's volume, or None where the layer was cropped, resampled or moved since."""
    placement = placement_of(ours["affine"], ours["shape"])
    if placement.unview(array).shape != tuple(ours["shape"]):
        return None
    place = np.diag([*placement.scale, 1.0])
    place[:3, 3] = placement.translate
    if not np.allclose(world, place, rtol=1e-6, atol=1e-4):
        return None
    header = ours["header"]
    return Volume(
        array=placement.unview(array)[None],
        affine=ours["affine"],
        name=name,
        channel_names=(ours["channel"],) if ours["channel"] else (),
        header=None if header is None else header_from_bytes(header),
        notes=ours["notes"],
        slices=tuple(map(Path, ours["slices"])),
        modality=ours.get("modality", ""),
    )


def _foreign(
    array: NDArray[Any], world: NDArray[np.float64], name: str, orientation: str | None = None
) -> Volume:
    turned = _towards(orientation or SHOWN_ORIENTATION)
    affine = turned @ world @ np.eye(4)[[2, 1, 0, 3]]
    notes = () if orientation else (NOTE_FOREIGN_LAYER,)
    return Volume(array.transpose()[None], affine, name, notes=notes, axes_as_shown=True)
