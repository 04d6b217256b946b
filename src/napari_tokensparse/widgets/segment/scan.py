"""The image layers that are segmented, as a volume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_tokensparse.volumes.channels import stack_channels
from napari_tokensparse.volumes.placement import (
    NOTE_FOREIGN_LAYER,
    NOTE_NO_LENGTHS,
    ORIENTATION_KEY,
)
from napari_tokensparse.widgets.layervolumes import (
    has_lengths,
    layer_place,
    read_layer,
    to_world,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image

    from napari_tokensparse.volumes.volume import Volume


@dataclass(frozen=True, eq=False)
class Scan:
    """Image layers as they were read: the channels of one case.

    Attributes
    ----------
    layer
        The first channel's layer, on whose grid all results lie.
    volume
        The voxels of all channels.
    notes
        What a person should know, one line each: where left and right or the size of voxels are
        assumed, and what was resampled.
    layers
        One for each channel.
    """

    layer: Image
    volume: Volume
    notes: tuple[str, ...]
    layers: tuple[Image, ...]
    _read: tuple[Any, ...]

    def is_of(self, layers: Sequence[Image | None]) -> bool:
        """Whether these layers still hold the voxels that were read, in the same place."""
        if len(layers) != len(self.layers):
            return False
        same = (one is other for one, other in zip(layers, self.layers, strict=True))
        return all(same) and all(map(_same, self._read, _states(self.layers)))


def read_scan(layers: Sequence[Image | None], channels: Sequence[str] = ()) -> Scan:
    """Read image layers, one for each channel.

    Parameters
    ----------
    layers
        What is chosen for each channel.
    channels
        Names of the channels, if there are several.

    Raises
    ------
    ValueError
        In one plain line: a layer is missing, or is not a 3-D volume of one channel.
    """
    missing = missing_images(layers, channels)
    if missing:
        raise ValueError(missing)
    chosen = tuple(layer for layer in layers if layer is not None)
    read = [read_layer(layer, lazy=True) for layer in chosen]
    known = all(oriented for _, oriented in read)
    volume = read[0][0]
    notes: tuple[str, ...] = () if known else (NOTE_FOREIGN_LAYER,)
    if any(NOTE_NO_LENGTHS in one.notes for one, _ in read):
        notes += (NOTE_NO_LENGTHS,)
    if len(read) > 1:
        volume = stack_channels(
            dict(zip(channels, (one for one, _ in read), strict=True)), channels
        )
        before = {note for one, _ in read for note in one.notes}
        notes += tuple(note for note in volume.notes if note not in before)
    return Scan(chosen[0], volume, notes, chosen, tuple(_states(chosen)))


def missing_images(layers: Sequence[Image | None], channels: Sequence[str]) -> str:
    """Say in one plain line which channels have no layer; empty where all have one."""
    missing = [name for name, layer in zip(channels, layers, strict=False) if layer is None]
    if None not in layers:
        return ""
    what = "image" if len(layers) == 1 else f"image for {', '.join(missing)}"
    return f"No {what}: open a volume, then choose it here."


def _states(layers: Sequence[Image]) -> list[Any]:
    return [part for layer in layers for part in _state(layer)]


def _state(layer: Image) -> tuple[Any, ...]:
    data = layer.data[0] if layer.multiscale else layer.data
    place = layer_place(layer)
    said = [layer.metadata.get(ORIENTATION_KEY), has_lengths(layer)]
    return data, [to_world(place).tolist(), said]


def _same(one: Any, other: Any) -> bool:
    return one is other or (isinstance(one, list) and one == other)
