"""How layers of results come into a viewer: nothing that a person changed is replaced.

A labels layer of ours remembers a checksum of what a run put there. One whose data have another was
edited, by whatever means: it stays, and the next result gets a layer of its own.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels

from napari_tokensparse.volumes.placement import MODEL_KEY, shown_placement
from napari_tokensparse.widgets.layers import (
    IMPORTANCE,
    LABELS,
    LIMITS_KEY,
    PLACEMENT,
    PREVIEW,
    RANK,
    RESULT_KEY,
    LayerSpec,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import napari
    from napari.layers import Layer
    from numpy.typing import NDArray

    from napari_tokensparse.widgets.results import ShownResult

PUT_KEY = "tokensparse_put"
"""In the metadata of a labels layer: the checksum of what a run put there."""


@dataclass(frozen=True, eq=False)
class Change:
    """What showing a spec did to a viewer.

    Attributes
    ----------
    layer
        That was added or updated.
    before
        Its data, metadata, features and placement before; None if it was added.
    """

    layer: Layer
    before: dict[str, Any] | None


def show_layers(viewer: napari.Viewer, specs: Iterable[LayerSpec]) -> list[Change]:
    """Add layers to a viewer, or update those that an earlier result left as they were.

    A labels layer that was edited, one of another model and one that is not ours are never touched:
    the result gets a layer named after its model, or with the next number. Of a result that covers
    a part, the rest is taken from the layer that it would have updated.
    """
    active = viewer.layers.selection.active
    changes = [_show(viewer, spec) for spec in specs]
    viewer.layers.selection.active = active
    return changes


def undo(viewer: napari.Viewer, changes: Sequence[Change]) -> list[str]:
    """Take back what `show_layers` did; return the names of layers that were edited since.

    Those stay as they are.
    """
    kept = []
    for change in changes:
        layer = change.layer
        if layer not in viewer.layers:
            continue
        if is_edited(layer):
            kept.append(str(layer.name))
        elif change.before is None:
            viewer.layers.remove(layer)
        else:
            for name, value in change.before.items():
                setattr(layer, name, value)
    return kept


def result_layer(viewer: napari.Viewer, image_name: str, kind: str) -> Layer | None:
    """Find the layer of an image's result, for example its ``importance 1``; None if it is gone."""
    for layer in viewer.layers:
        if layer.metadata.get(RESULT_KEY) == kind and layer.name == f"{image_name} {kind}":
            return layer
    return None


def labels_layer(viewer: napari.Viewer, result: ShownResult) -> Labels | None:
    """Find the layer that a result's labels were put into; None if it is gone.

    It is the one with exactly these labels where there are several of the same image and model, and
    the topmost of them otherwise.
    """
    info, image = result.network.info, result.image
    layers = [
        layer
        for layer in viewer.layers
        if isinstance(layer, Labels)
        and layer.metadata.get(RESULT_KEY) == LABELS
        and str(layer.name).startswith(f"{image.name} ")
        and (info is None or _model_of(layer.metadata) == info.name)
    ]
    if len(layers) > 1:
        put = checksum(shown_placement(result.volume).view(result.segmentation.labels))
        exact = [layer for layer in layers if layer.metadata.get(PUT_KEY) == put]
        layers = exact or layers
    return layers[-1] if layers else None


def is_edited(layer: Layer) -> bool:
    """Whether a labels layer of ours holds something else than a run put there."""
    put = layer.metadata.get(PUT_KEY)
    return put is not None and put != checksum(layer.data)


def checksum(data: NDArray[Any]) -> int:
    """Return a checksum of an array's values, in whatever order they lie in memory."""
    return zlib.crc32(np.ascontiguousarray(data).view(np.uint8).reshape(-1).data)


def _show(viewer: napari.Viewer, spec: LayerSpec) -> Change:
    present = {layer.name: layer for layer in viewer.layers}
    nearest: Layer | None = None  # whose other part a result of a part is put into
    for name in _names(spec, present):
        layer = present.get(name)
        if layer is None:
            return Change(_add(viewer, _marked(_merged(_named(spec, name), nearest))), None)
        if _is_replaceable(layer, spec):
            return _update(layer, _marked(_merged(spec, layer)))
        if _is_of_the_same(layer, spec):
            nearest = layer
    raise AssertionError("names do not end")


def _names(spec: LayerSpec, present: dict[str, Layer]) -> Iterable[str]:
    """Yield what a result's layer may be called, the first choice first."""
    base = spec.name
    layer, model = present.get(base), _model_of(spec.kwargs["metadata"])
    if layer is not None and model is not None and not _is_of_the_same(layer, spec):
        base = f"{base} · {model}"
    yield base
    for number in count(2):
        yield f"{base} {number}"


def _is_replaceable(layer: Layer, spec: LayerSpec) -> bool:
    return _is_of_the_same(layer, spec) and not is_edited(layer)


def _is_of_the_same(layer: Layer, spec: LayerSpec) -> bool:
    """Whether a layer shows the same kind of result, of the same model where it says so."""
    mine, theirs = spec.kwargs["metadata"], layer.metadata
    return (
        type(layer) is spec.kind
        and theirs.get(RESULT_KEY) == mine[RESULT_KEY]
        and _model_of(theirs) == _model_of(mine)
    )


def _model_of(metadata: Any) -> str | None:
    said = metadata.get(MODEL_KEY)
    return None if said is None else str(said["name"])


def _named(spec: LayerSpec, name: str) -> LayerSpec:
    """Call a layer something else; what kind of result it is stays."""
    return replace(spec, kwargs={**spec.kwargs, "name": name})


def _merged(spec: LayerSpec, layer: Layer | None) -> LayerSpec:
    """Put a result of a part into what a layer holds outside it."""
    if spec.part is None or layer is None or layer.data.shape != spec.data.shape:
        return spec
    return replace(spec, data=np.where(spec.part, spec.data, layer.data))


def _marked(spec: LayerSpec) -> LayerSpec:
    """Note in a labels layer's metadata what a run puts there; a preview is nobody's work."""
    if spec.kind is not Labels or spec.kwargs["metadata"][RESULT_KEY] == PREVIEW:
        return spec
    metadata = {**spec.kwargs["metadata"], PUT_KEY: checksum(spec.data)}
    return replace(spec, kwargs={**spec.kwargs, "metadata": metadata})


def _add(viewer: napari.Viewer, spec: LayerSpec) -> Layer:
    layer: Layer = spec.kind(spec.data, **spec.kwargs)
    viewer.add_layer(layer)  # what a plugin's viewer returns is a proxy of it
    if _map_of(layer) is not None:
        layer.colorbar.visible = True  # napari shows it while the layer is shown
        layer.events.visible.connect(lambda event: _hide_other_maps(viewer, event.source))
    return layer


def _update(layer: Layer, spec: LayerSpec) -> Change:
    names = ["data", *PLACEMENT, "features"]
    limits = layer.metadata.get(LIMITS_KEY)
    if limits is not None and tuple(layer.contrast_limits) == tuple(limits):  # not the user's
        names.append("contrast_limits")
    if isinstance(layer, Labels):
        names.append("colormap")
    given = {"data": spec.data, **spec.kwargs}
    changed = [name for name in names if name in given]
    before = {name: getattr(layer, name) for name in changed}
    for name in changed:
        setattr(layer, name, given[name])
    return Change(layer, before)


def _hide_other_maps(viewer: napari.Viewer, shown: Layer) -> None:
    """Keep one map of importance or rank visible at a time for each image."""
    if shown.visible:
        for layer in viewer.layers:
            if layer is not shown and _map_of(layer) == _map_of(shown):
                layer.visible = False


def _map_of(layer: Layer) -> str | None:
    """Return the name of the image whose map of importance or rank a layer is."""
    kind = str(layer.metadata.get(RESULT_KEY, ""))
    is_map = kind.rpartition(" ")[0] in (IMPORTANCE, RANK)
    return str(layer.name).removesuffix(kind) if is_map else None
