"""The preview of a training run as layers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari.layers import Image

from napari_tokensparse.volumes.placement import shown_placement
from napari_tokensparse.widgets.layers import PREVIEW, LayerSpec, labels_spec, placed
from napari_tokensparse.widgets.patient import show_patient_sides
from napari_tokensparse.widgets.showing import checksum, show_layers

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

    from napari_tokensparse.widgets.train.run import CasePreview


class PreviewLayers:
    """The layers of a run's previews, which go when it ends.

    Parameters
    ----------
    viewer
        Where they are shown.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        self._viewer = viewer
        self._shown: list[tuple[Layer, int]] = []

    def show(self, preview: CasePreview) -> None:
        """Show a preview in the place of the one before."""
        changes = show_layers(self._viewer, preview_layers(preview))
        self._shown = [(change.layer, checksum(change.layer.data)) for change in changes]
        show_patient_sides(self._viewer)

    def clear(self) -> None:
        """Take the layers away, but for one that a person has painted in meanwhile."""
        for layer, put in self._shown:
            if layer in self._viewer.layers and checksum(layer.data) == put:
                self._viewer.layers.remove(layer)
        self._shown = []


def preview_layers(preview: CasePreview) -> list[LayerSpec]:
    """Describe the layers of a preview: the labels, over the image where it is not open already."""
    view = shown_placement(preview.image).view
    labels = labels_spec(view(preview.labels), preview.info)
    specs = [replace(labels, kwargs={**labels.kwargs, "name": PREVIEW})]
    if not preview.image_is_open:
        specs.insert(0, LayerSpec(Image, view(preview.image.array[0]), {"name": "preview image"}))
    return [placed(spec, preview.case, preview.placement) for spec in specs]
