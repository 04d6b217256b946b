"""The preview of a training run as layers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari.layers import Image

from napari_tokensparse.volumes.placement import shown_placement
from napari_tokensparse.widgets.layers import PREVIEW, LayerSpec, labels_spec, placed

if TYPE_CHECKING:
    from napari_tokensparse.widgets.train.run import Preview


def preview_layers(preview: Preview) -> list[LayerSpec]:
    """Describe the layers of a preview: the labels, over the image where it is not open already."""
    view = shown_placement(preview.image).view
    labels = labels_spec(view(preview.labels), preview.info)
    specs = [replace(labels, kwargs={**labels.kwargs, "name": PREVIEW})]
    if not preview.image_is_open:
        specs.insert(0, LayerSpec(Image, view(preview.image.array[0]), {"name": "preview image"}))
    return [placed(spec, preview.case, preview.placement) for spec in specs]
