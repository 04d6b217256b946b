"""The image layer that is segmented, as a volume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokensparse.data.placement import volume_from_layer_data

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_tokensparse.data.volume import Volume


@dataclass(frozen=True, eq=False)
class Scan:
    """An image layer as it was read.

    Attributes
    ----------
    layer
        The layer.
    volume
        Its voxels.
    orientation_known
        False where left and right, front and back, up and down are assumed.
    """

    layer: Image
    volume: Volume
    orientation_known: bool
    _read: tuple[Any, ...]

    @property
    def is_current(self) -> bool:
        """Whether the layer still holds the voxels that were read, in the same place."""
        return all(map(_same, self._read, _state(self.layer)))


def read_scan(layer: Image | None) -> Scan:
    """Read an image layer.

    Raises
    ------
    ValueError
        In one plain line: there is no layer, or it is not a 3-D volume of one channel.
    """
    if layer is None:
        raise ValueError("No image: open a volume, then choose it here.")
    if layer.rgb:
        raise ValueError(f"{layer.name}: is a colour image; choose a 3-D scan, one channel")
    data, scale, translate = state = _state(layer)
    volume, known = volume_from_layer_data(data, scale, translate, layer.metadata, layer.name)
    return Scan(layer, volume, known, state)


def _state(layer: Image) -> tuple[Any, ...]:
    data = layer.data[0] if layer.multiscale else layer.data
    return data, layer.scale, layer.translate


def _same(one: Any, other: Any) -> bool:
    return one is other or (np.size(one) < 8 and np.array_equal(one, other))
