"""An earlier run brought back into view."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_tokensparse.widgets.history.history import history_of
from napari_tokensparse.widgets.layers import (
    LABELS,
    RESULT_KEY,
    RUN_KEY,
    labels_spec,
    placed,
    placement_kwargs,
    result_layers,
)
from napari_tokensparse.widgets.results import results_of
from napari_tokensparse.widgets.showing import add_beside, show_layers, was_touched

if TYPE_CHECKING:
    import napari
    from napari.layers import Labels, Layer

    from napari_tokensparse.widgets.history.record import Run


def bring_back(viewer: napari.Viewer, run: Run) -> Labels:
    """Show a run's labels in a layer, its token maps in theirs, and make it the latest result.

    The layer that holds its labels unchanged is shown if there is one; otherwise they get a layer
    of their own, named after the keep ratio. Once the image is gone there are the labels alone.
    """
    labels = run_labels(viewer, run)
    shown = run.shown()
    if shown is not None:
        image = shown.image
        name, info = str(image.name), shown.network.info
        placement = {**placement_kwargs(image), "metadata": run.placement["metadata"]}
        *maps, _ = result_layers(name, placement, shown.volume, shown.segmentation, info)
        show_layers(viewer, [replace(spec, part=None) for spec in maps])
        results_of(viewer).show(shown)
    return labels


def run_labels(viewer: napari.Viewer, run: Run) -> Labels:
    """Return the layer that holds a run's labels unchanged, or add one, and make it visible."""
    for layer in viewer.layers:
        if layer.metadata.get(RUN_KEY) == run.number and not was_touched(layer):
            layer.visible = True
            return layer
    active = viewer.layers.selection.active
    spec = placed(labels_spec(run.put.array(), run.info), run.image[1], run.placement)
    metadata = {**spec.kwargs["metadata"], RUN_KEY: run.number}
    spec = replace(spec, kwargs={**spec.kwargs, "metadata": metadata})
    layer = add_beside(viewer, spec, f"keep {run.keep}")
    viewer.layers.selection.active = active
    return layer


def labels_of(viewer: napari.Viewer, image_id: object) -> list[Layer]:
    """Return the layers of labels that runs on an image gave."""
    numbers = {run.number for run in history_of(viewer).runs if run.image[0] == image_id}
    return [
        layer
        for layer in viewer.layers
        if layer.metadata.get(RESULT_KEY) == LABELS and layer.metadata.get(RUN_KEY) in numbers
    ]
