"""How layers of results come into a viewer: nothing that a person changed is replaced.

A labels layer of ours remembers what a run put there. One that holds something else was edited, by
whatever means: it stays, and the next result gets a layer of its own; or, where a person wants
that, the result goes into the same layer and the edited voxels stay. Locked classes always stay.
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
    RUN_KEY,
    LayerSpec,
)
from napari_tokensparse.widgets.locks import LOCKED_KEY, kept_voxels, locked_values
from napari_tokensparse.widgets.packed import Packed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import napari
    from napari.layers import Layer
    from numpy.typing import NDArray

    from napari_tokensparse.widgets.results import ShownResult

PUT_KEY = "tokensparse_put"
"""In the metadata of a labels layer: the checksum of what a run put there."""
PUT_LABELS_KEY = "tokensparse_put_labels"
"""In the metadata of the labels of a result: what was put there, `Packed`."""
EDITED_KEY = "tokensparse_edited"
"""There too: where voxels were edited before, and kept, a mask that is `Packed`."""
KEPT_KEY = "tokensparse_kept"
"""There too: sentences that say what the layer holds beside what the run gave."""


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


def show_layers(
    viewer: napari.Viewer, specs: Iterable[LayerSpec], *, keep_edits: bool = False
) -> list[Change]:
    """Add layers to a viewer, or update those that an earlier result left as they were.

    A labels layer that was edited, one of another model and one that is not ours are never touched:
    the result gets a layer named after its model, or with the next number. Of a result that covers
    a part, the rest is taken from the layer that it would have updated. What is locked there stays
    as it is (`napari_tokensparse.widgets.locks`).

    Parameters
    ----------
    viewer
        Where to.
    specs
        The layers, the bottom one first.
    keep_edits
        Whether labels that were edited are updated all the same, but for the edited voxels.
    """
    active = viewer.layers.selection.active
    changes = [_show(viewer, spec, keep_edits) for spec in specs]
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
        if was_touched(layer):
            kept.append(str(layer.name))
        elif change.before is None:
            viewer.layers.remove(layer)
        else:
            for name, value in change.before.items():
                setattr(layer, name, value)
    return kept


def add_beside(viewer: napari.Viewer, spec: LayerSpec, suffix: str) -> Layer:
    """Add a layer beside those that are there, ``<name> · <suffix>``, and touch none of them."""
    present = {layer.name: layer for layer in viewer.layers}
    first = f"{next(_names(spec, present))} · {suffix}"
    name = next(name for name in _numbered(first) if name not in present)
    return _add(viewer, _marked(_named(spec, name)))


def result_layer(viewer: napari.Viewer, image_name: str, kind: str) -> Layer | None:
    """Find the layer of an image's result, for example its ``importance 1``; None if it is gone."""
    for layer in viewer.layers:
        if layer.metadata.get(RESULT_KEY) == kind and layer.name == f"{image_name} {kind}":
            return layer
    return None


def labels_layer(viewer: napari.Viewer, result: ShownResult) -> Labels | None:
    """Find the layer that a result's labels were put into; None if it is gone.

    It is the one that says so, whatever a person has called it. Where none does, and several are
    called after the image, it is the one with exactly these labels, and the topmost of them.
    """
    info, image = result.network.info, result.image
    layers = [
        layer
        for layer in viewer.layers
        if isinstance(layer, Labels)
        and layer.metadata.get(RESULT_KEY) == LABELS
        and (info is None or _model_of(layer.metadata) == info.name)
    ]
    of_run = [layer for layer in layers if layer.metadata.get(RUN_KEY) == result.run]
    if result.run is not None and of_run:
        layers = [layer for layer in of_run if layer.visible] or of_run
        return layers[-1]
    layers = [layer for layer in layers if str(layer.name).startswith(f"{image.name} ")]
    if len(layers) > 1:
        put = checksum(shown_placement(result.volume).view(result.segmentation.labels))
        exact = [layer for layer in layers if layer.metadata.get(PUT_KEY) == put]
        layers = exact or layers
        layers = [layer for layer in layers if layer.visible] or layers
    return layers[-1] if layers else None


def is_edited(layer: Layer) -> bool:
    """Whether a labels layer of ours holds something else than runs put there."""
    return EDITED_KEY in layer.metadata or was_touched(layer)


def was_touched(layer: Layer) -> bool:
    """Whether a labels layer of ours holds something else than the last run put there."""
    put = layer.metadata.get(PUT_KEY)
    return put is not None and put != checksum(layer.data)


def edited_voxels(layer: Layer) -> NDArray[np.bool_] | None:
    """Return where the labels of a result were edited, since they were made; None if nowhere."""
    earlier, put = layer.metadata.get(EDITED_KEY), layer.metadata.get(PUT_LABELS_KEY)
    if put is None or put.shape != layer.data.shape or not is_edited(layer):
        return None
    edited: NDArray[np.bool_] = put.array() != layer.data
    return edited if earlier is None else edited | earlier.array()


def counted(voxels: int) -> str:
    """Write a number of voxels."""
    return f"{voxels} voxel{'s' * (voxels != 1)}"


def checksum(data: NDArray[Any]) -> int:
    """Return a checksum of an array's values, in whatever order they lie in memory."""
    return zlib.crc32(np.ascontiguousarray(data).view(np.uint8).reshape(-1).data)


def _show(viewer: napari.Viewer, spec: LayerSpec, keep_edits: bool) -> Change:
    present = {layer.name: layer for layer in viewer.layers}
    nearest: Layer | None = None  # whose other part a result of a part is put into
    for name in _names(spec, present):
        layer = present.get(name)
        if layer is None:
            return Change(_add(viewer, _with_kept(_named(spec, name), nearest, False)), None)
        if _is_of_the_same(layer, spec):
            if not is_edited(layer) or (keep_edits and _can_keep(layer, spec)):
                return _update(layer, _with_kept(spec, layer, keep_edits))
            nearest = layer
    raise AssertionError("names do not end")


def _can_keep(layer: Layer, spec: LayerSpec) -> bool:
    """Whether it is known which voxels of a layer were edited, and a result has them too."""
    put = layer.metadata.get(PUT_LABELS_KEY)
    return put is not None and put.shape == layer.data.shape == spec.data.shape


def _with_kept(spec: LayerSpec, layer: Layer | None, keep_edits: bool) -> LayerSpec:
    """Put a result together with what stays of a layer, and note what that gives."""
    spec = _merged(spec, layer)
    if _holds_result_labels(spec):
        spec = replace(spec, data=np.array(spec.data))  # painting must not change the result
        if layer is not None and layer.data.shape == spec.data.shape:
            spec = _with_locked(spec, layer, edited_voxels(layer) if keep_edits else None)
    return _marked(spec)


def _with_locked(spec: LayerSpec, layer: Layer, edited: NDArray[np.bool_] | None) -> LayerSpec:
    locked, metadata = locked_values(layer.metadata), dict(spec.kwargs["metadata"])
    if locked:
        metadata[LOCKED_KEY] = tuple(sorted(locked))
    if edited is not None:
        metadata[EDITED_KEY] = Packed.of(edited)
    if not locked and edited is None:
        return spec
    kept = kept_voxels(spec.data, layer.data, locked, edited)
    if said := _said_of_kept(spec, layer, kept, edited):
        metadata[KEPT_KEY] = said
    data = np.where(kept, layer.data, spec.data)
    return replace(spec, data=data, kwargs={**spec.kwargs, "metadata": metadata})


def _said_of_kept(
    spec: LayerSpec, layer: Layer, kept: NDArray[np.bool_], edited: NDArray[np.bool_] | None
) -> tuple[str, ...]:
    """Say what of a layer stays beside what a run gave; nothing where the run gave the same."""
    other = kept & (spec.data != layer.data)
    by_hand = 0 if edited is None else int(np.count_nonzero(other & edited))
    by_lock = int(np.count_nonzero(other)) - by_hand
    features = spec.kwargs["features"]
    name_of = dict(zip(features["index"], features["name"], strict=True))
    names = [str(name_of.get(value, value)) for value in sorted(locked_values(layer.metadata))]
    said = []
    if by_hand:
        said.append(f"edited by hand, and so kept: {counted(by_hand)}")
    if by_lock:
        said.append(
            f"kept as {', '.join(names)} {'are' if names[1:] else 'is'} locked: {counted(by_lock)}"
        )
    return tuple(said)


def _names(spec: LayerSpec, present: dict[str, Layer]) -> Iterator[str]:
    """Yield what a result's layer may be called, the first choice first."""
    base = spec.name
    layer, model = present.get(base), _model_of(spec.kwargs["metadata"])
    if layer is not None and model is not None and not _is_of_the_same(layer, spec):
        base = f"{base} · {model}"
    yield from _numbered(base)


def _numbered(name: str) -> Iterator[str]:
    yield name
    for number in count(2):
        yield f"{name} {number}"


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
    if _holds_result_labels(spec):
        metadata[PUT_LABELS_KEY] = Packed.of(spec.data)
    return replace(spec, kwargs={**spec.kwargs, "metadata": metadata})


def _holds_result_labels(spec: LayerSpec) -> bool:
    return bool(spec.kwargs["metadata"][RESULT_KEY] == LABELS)


def _add(viewer: napari.Viewer, spec: LayerSpec) -> Layer:
    layer: Layer = spec.kind(spec.data, **spec.kwargs)
    viewer.add_layer(layer)  # what a plugin's viewer returns is a proxy of it
    if _has_scale(layer):
        layer.colorbar.visible = True  # napari shows it while the layer is shown
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
    before["metadata"] = dict(layer.metadata)  # napari empties its own and fills it anew
    for name in changed:
        setattr(layer, name, given[name])
    return Change(layer, before)


def _has_scale(layer: Layer) -> bool:
    """Whether a layer is a map of importance or rank."""
    kind = str(layer.metadata.get(RESULT_KEY, ""))
    return kind.rpartition(" ")[0] in (IMPORTANCE, RANK)
