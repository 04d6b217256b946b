"""The npe2 samples: a real brain, opened as any file is, and a patient that never was."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_tokensparse.contributions.reader import LayerData


_TRUTH_COLOURS = {None: "transparent", 1: "cyan"}  # a model's lesions are red


def load_sample() -> list[LayerData]:
    """Return the MNI ICBM152 2009a T1 brain (uint8, 1 mm) as an image layer."""
    from napari_tokensparse.contributions.reader import read_layers
    from napari_tokensparse.volumes.samples import sample_path

    return read_layers(str(sample_path()))


def load_patient() -> list[LayerData]:
    """Return the made-up patient as a FLAIR image layer, and its true lesions, hidden."""
    from napari_tokensparse.contributions.reader import volume_layers
    from napari_tokensparse.volumes.madeup import made_up_patient

    flair, lesions = made_up_patient()
    ((truth, said, _),) = volume_layers(lesions)
    shown = {"visible": False, "colormap": _TRUTH_COLOURS}
    return [*volume_layers(flair), (truth, {**said, **shown}, "labels")]
