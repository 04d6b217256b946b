"""The npe2 sample: a real brain, opened as any file is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_tokensparse.contributions.reader import LayerData


def load_sample() -> list[LayerData]:
    """Return the MNI ICBM152 2009a T1 brain (uint8, 1 mm) as an image layer."""
    from napari_tokensparse.contributions.reader import read_layers
    from napari_tokensparse.volumes.samples import sample_path

    return read_layers(str(sample_path()))
