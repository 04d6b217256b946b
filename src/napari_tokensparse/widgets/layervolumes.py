"""What a layer holds as a volume: the one place that reads where a layer lies."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.transforms import Affine

from napari_tokensparse.volumes.placement import KEY, NOTE_NO_LENGTHS, volume_from_layer_data
from napari_tokensparse.volumes.volume import VolumeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.layers import Image, Labels
    from numpy.typing import NDArray

    from napari_tokensparse.volumes.volume import Volume

_OWN = ("scale", "translate", "rotate", "shear")
_ATTRIBUTES = (*_OWN, "affine", "units", "metadata", "name")


def read_layer(
    layer: Image | Labels,
    *,
    like: Image | None = None,
    finite: bool = True,
    lazy: bool = False,
) -> tuple[Volume, bool]:
    """Turn a layer into a volume, placed by all that the layer says: its units and affine too.

    Parameters
    ----------
    layer
        3-D, one number per voxel; of a multiscale layer the finest level is taken.
    like
        The image that labels belong to: they take from it what they do not say themselves, of what
        file they are and units of length.
    finite, lazy
        As for `volume_from_layer_data`.

    Returns
    -------
    volume, orientation_known
        As `volume_from_layer_data`.

    Raises
    ------
    VolumeError
        In one line: the layer is not such a volume.
    """
    meta = layer_place(layer)
    if like is not None:
        meta["metadata"] = layer.metadata if KEY in layer.metadata else like.metadata
        if not _are_lengths(meta["units"]):
            meta["units"] = like.units
    meta["rgb"] = getattr(layer, "rgb", False)
    data = layer.data[0] if layer.multiscale else layer.data
    return layer_volume(data, meta, finite=finite, lazy=lazy)


def layer_volume(
    data: Any, meta: Mapping[str, Any], *, finite: bool = True, lazy: bool = False
) -> tuple[Volume, bool]:
    """Turn a layer's data (z, y, x) and attributes into a volume: see `read_layer`."""
    name = meta["name"]
    if meta.get("rgb"):
        raise VolumeError(f"{name}: is a colour image; choose a 3-D scan, one channel")
    if data.ndim > 3:
        raise VolumeError(
            f"{name}: has {data.ndim} axes ({' x '.join(map(str, data.shape))}): right-click it in "
            "the layer list, choose Split Stack, and take one frame or channel"
        )
    if data.ndim < 3:
        raise VolumeError(f"{name}: has {data.ndim} axes; choose a 3-D image, one channel")
    metadata = meta.get("metadata", {})
    volume, known = volume_from_layer_data(
        data, to_world(meta), metadata, name, finite=finite, lazy=lazy
    )
    if volume.axes_as_shown and not _are_lengths(meta["units"]):
        volume = replace(volume, notes=(*volume.notes, NOTE_NO_LENGTHS))
    return volume, known


def layer_place(layer: Image | Labels) -> dict[str, Any]:
    """Return the attributes that say where a layer lies, as napari hands them to a writer."""
    return {name: getattr(layer, name) for name in _ATTRIBUTES}


def to_world(meta: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the matrix from a layer's indices to the world, in mm where its units are lengths."""
    own = Affine(**{name: meta[name] for name in _OWN})
    world: NDArray[np.float64] = np.asarray(meta["affine"]) @ own.affine_matrix
    world[:-1] *= np.array([_mm(unit) for unit in meta["units"]])[:, None]
    return world


def has_lengths(layer: Image | Labels) -> bool:
    """Whether a layer's units are lengths, along every axis; a pixel is none."""
    return _are_lengths(layer.units)


def _are_lengths(units: Any) -> bool:
    return all(unit.is_compatible_with("mm") for unit in units)


def _mm(unit: Any) -> float:
    """Return how many mm a unit is; 1 of one that is no length, such as a pixel."""
    return float((1 * unit).to("mm").magnitude) if unit.is_compatible_with("mm") else 1.0
