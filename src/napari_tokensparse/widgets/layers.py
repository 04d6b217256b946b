"""From a segmentation to napari layers: what they hold, how they look and where they lie."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np
from napari.layers import Image, Labels
from napari.utils.colormaps import DirectLabelColormap
from napari.utils.transforms import Affine

from napari_tokensparse.inspecting.fates import (
    Fate,
    fate_map,
    pruned_at_fates,
    stage_fates,
)
from napari_tokensparse.volumes.placement import MODEL_KEY, WARNINGS_KEY, shown_placement

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from napari.layers import Layer
    from numpy.typing import NDArray

    from napari_tokensparse.model.info import Colour, ModelInfo
    from napari_tokensparse.segmenting.infer import Segmentation
    from napari_tokensparse.segmenting.preview import Preview as WindowPreview
    from napari_tokensparse.segmenting.tokenmaps import TokenMaps
    from napari_tokensparse.volumes.volume import Volume

    TokenView: TypeAlias = Literal["importance", "rank", "stage", "pruned at"]
    View: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]

PLACEMENT = (
    "scale",
    "translate",
    "rotate",
    "shear",
    "affine",
    "units",
    "axis_labels",
    "metadata",
)
"""What a layer that lies on another one's grid copies from it; a partial copy would drop units."""
RESULT_KEY = "tokensparse_result"
"""In the metadata of a layer that a run made: ``labels``, ``importance 1``, ``pruned at`` …"""

RUN_KEY = "tokensparse_run"
"""In the metadata of the labels of a result: the number of the run that they are of."""

LIMITS_KEY = "tokensparse_limits"
"""In the metadata of a map: the contrast limits that it was shown with."""

IMPORTANCE: Final = "importance"
RANK: Final = "rank"
STAGE: Final = "stage"
PRUNED_AT: Final = "pruned at"
PREVIEW: Final = "preview"
REGION: Final = "region"
KEPT_BOXES: Final = "kept tokens"
PRUNED_BOXES: Final = "pruned tokens"
INNER_SURFACES: Final = "surfaces"
OUTER_SURFACES: Final = "surfaces outside"
SCAN_SURFACE: Final = "surface of the scan"
LABELS: Final = "labels"
CONFIDENCE: Final = "confidence"

_IN_FILES = {"name", "channels", "classes", "weights_sha256"}
_TRANSPARENT = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class LayerSpec:
    """A layer to be: its class, data and arguments, the name among them.

    ``part`` is where the data are a result's, as a mask of their shape; None if everywhere.
    """

    kind: type[Image] | type[Labels]
    data: NDArray[Any]
    kwargs: dict[str, Any]
    part: NDArray[np.bool_] | None = None

    @property
    def name(self) -> str:
        """The layer's name."""
        return str(self.kwargs["name"])


def placement_kwargs(layer: Layer) -> dict[str, Any]:
    """Return what a layer on the same grid is created with, so that it lies in the same place."""
    return {name: getattr(layer, name) for name in PLACEMENT}


def warned(placement: Mapping[str, Any], warnings: Sequence[str]) -> dict[str, Any]:
    """Add to a placement what speaks against the model on the image; every layer carries it."""
    metadata = {**placement["metadata"], WARNINGS_KEY: tuple(warnings)}
    return {**placement, "metadata": metadata}


def result_layers(
    image_name: str,
    placement: Mapping[str, Any],
    volume: Volume,
    result: Segmentation,
    info: ModelInfo,
) -> list[LayerSpec]:
    """Describe the layers of a result, the bottom one first.

    Parameters
    ----------
    image_name
        The image layer's name, which every name begins with.
    placement
        The image layer's `placement_kwargs`.
    volume
        What was segmented.
    result
        Labels and token maps on the volume's grid.
    info
        Names and colours of the classes.
    """
    tokens, view = result.tokens, shown_placement(volume).view
    importance = [
        _token_map(tokens, IMPORTANCE, stage, view) for stage in range(1, tokens.stages + 1)
    ]
    specs = [*importance, _pruned_at(tokens, view)]
    if result.confidence is not None:
        specs.append(_confidence(view(result.confidence)))
    specs.append(labels_spec(view(result.labels), info))
    part = None
    if result.region is not None:
        part = np.zeros(volume.shape, bool)
        part[result.region.slices] = True
        part = view(part)
    return [replace(placed(spec, image_name, placement), part=part) for spec in specs]


def token_layer(
    view: TokenView,
    stage: int,
    image_name: str,
    placement: Mapping[str, Any],
    volume: Volume,
    tokens: TokenMaps,
) -> LayerSpec:
    """Describe the layer that shows tokens in one way; the rest is as for `result_layers`.

    Parameters
    ----------
    view
        ``importance`` or ``rank`` at a stage; ``stage``, which tokens are live, pruned or gone
        there; or ``pruned at``, whatever the stage.
    stage
        Counted from 1.
    image_name, placement, volume
        The image.
    tokens
        Its token maps.
    """
    turn = shown_placement(volume).view
    if view == PRUNED_AT:
        spec = _pruned_at(tokens, turn)
    elif view == STAGE:
        spec = _stage(tokens, stage, turn)
    else:
        spec = _token_map(tokens, view, stage, turn)
    return placed(spec, image_name, placement)


def region_layers(
    image_name: str,
    placement: Mapping[str, Any],
    volume: Volume,
    regions: NDArray[np.bool_],
    info: ModelInfo,
) -> list[LayerSpec]:
    """Describe a layer for the mask of each overlapping region, ``<image> region <name>``.

    Parameters
    ----------
    image_name, placement, volume
        The image, as for `result_layers`.
    regions
        ``(K, i, j, k)``, as ``Segmentation.regions``.
    info
        Names and colours of the regions.
    """
    view = shown_placement(volume).view
    specs = [
        LayerSpec(
            Labels,
            view(mask.view(np.uint8)),
            {
                "name": f"{REGION} {c.name}",
                "features": {"index": [0, 1], "name": [f"not {c.name}", c.name]},
                "colormap": label_colours({1: rgba(c.color)}),
                "opacity": 0.6,
            },
        )
        for c, mask in zip(info.classes, regions, strict=True)
    ]
    return [placed(spec, image_name, placement) for spec in specs]


def window_layer(
    image_name: str,
    placement: Mapping[str, Any],
    volume: Volume,
    preview: WindowPreview,
    info: ModelInfo,
) -> LayerSpec:
    """Describe the layer of a live preview, as large as its window; as for `result_layers`."""
    shown = shown_placement(volume)
    corners = preview.box.start, tuple(stop - 1 for stop in preview.box.stop)
    ends = [shown.to_shown(corner, volume.shape) for corner in corners]
    transform = Affine(**{name: placement[name] for name in ("scale", "rotate", "shear")})
    origin = np.asarray(placement["translate"]) + transform(np.min(ends, axis=0))
    labels = labels_spec(shown.view(preview.labels), info)
    spec = replace(labels, kwargs={**labels.kwargs, "name": PREVIEW})
    return placed(spec, image_name, {**placement, "translate": origin})


def layer_kind(view: TokenView, stage: int) -> str:
    """Return the kind, as `RESULT_KEY` has it, of the layer that shows tokens so at a stage."""
    return f"{view} {stage}" if view in (IMPORTANCE, RANK) else view


def stage_looks(tokens: TokenMaps, stage: int) -> dict[str, Any]:
    """Return colours and names of the stage layer: live, pruned here, and gone before."""
    return _fate_looks(stage_fates(tokens, stage))


def class_table(info: ModelInfo) -> dict[str, list[Any]]:
    """Return the classes as a labels layer's features: the status bar shows the name."""
    return {
        "index": [0, *(c.value for c in info.classes)],
        "name": ["background", *(c.name for c in info.classes)],
    }


def class_colours(info: ModelInfo, hidden: Collection[int] = ()) -> DirectLabelColormap:
    """Return the classes' colours for a labels layer; those of hidden values are clear."""
    return label_colours(
        {c.value: _TRANSPARENT if c.value in hidden else rgba(c.color) for c in info.classes}
    )


def hidden_classes(layer: Labels) -> set[int]:
    """Return the values that a labels layer shows clear, the background left out.

    None are where a person gave the layer napari's own colours, which have no table.
    """
    colours: Mapping[int | None, Any] = getattr(layer.colormap, "color_dict", {})
    return {value for value, colour in colours.items() if value and colour[3] == 0}


def hex_colour(colour: Colour) -> str:
    """Write a colour as ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def importance_limits(tokens: TokenMaps) -> tuple[float, float]:
    """Return what is shown darkest and brightest: one scale for all stages, from their values."""
    finite = [values[np.isfinite(values)] for values in tokens.importance]
    ends = [end for values in finite if values.size for end in (values.min(), values.max())]
    low, high = (float(min(ends)), float(max(ends))) if ends else (0.0, 1.0)
    return (low, high) if low < high else (0.0, 1.0)


def _token_map(
    tokens: TokenMaps, kind: Literal["importance", "rank"], stage: int, view: View
) -> LayerSpec:
    values = (tokens.importance if kind == IMPORTANCE else tokens.rank)[stage - 1]
    looks = {
        "name": layer_kind(kind, stage),
        "colormap": "inferno",
        "contrast_limits": importance_limits(tokens) if kind == IMPORTANCE else (0.0, 1.0),
        "interpolation2d": "nearest",
        "interpolation3d": "nearest",
        "blending": "translucent_no_depth",
        "opacity": 0.6,
        "visible": False,
    }
    return LayerSpec(Image, np.nan_to_num(view(tokens.on_input_grid(values)), copy=False), looks)


def _confidence(shown: NDArray[np.uint8]) -> LayerSpec:
    """Describe the map of the winner's probability: dark where the network is least sure."""
    looks = {
        "name": CONFIDENCE,
        "colormap": "viridis",
        "contrast_limits": (0.0, 255.0),
        "interpolation2d": "nearest",
        "opacity": 0.6,
        "visible": False,
    }
    return LayerSpec(Image, shown, looks)


def _pruned_at(tokens: TokenMaps, view: View) -> LayerSpec:
    fates = pruned_at_fates(tokens)
    looks = {"name": PRUNED_AT, "opacity": 0.4, "visible": False, **_fate_looks(fates)}
    looks["features"] |= {
        "tokens": [fate.tokens for fate in fates],
        "color": ["transparent" if f.colour is None else hex_colour(f.colour) for f in fates],
    }
    return LayerSpec(Labels, view(tokens.on_input_grid(fate_map(tokens))), looks)


def _fate_looks(fates: Sequence[Fate]) -> dict[str, Any]:
    """Return names and colours of a map of fates."""
    return {
        "features": {"index": [f.value for f in fates], "name": [f.name for f in fates]},
        "colormap": label_colours({f.value: rgba(f.colour) for f in fates if f.colour}),
    }


def _stage(tokens: TokenMaps, stage: int, view: View) -> LayerSpec:
    """Show live, pruned and gone tokens.

    The data are those of "pruned at" at any stage: `stage_looks` alone tells stages apart, so that
    stepping through them moves no voxel.
    """
    looks = {"name": STAGE, "opacity": 0.5, "visible": False, **stage_looks(tokens, stage)}
    return LayerSpec(Labels, view(tokens.on_input_grid(fate_map(tokens))), looks)


def labels_spec(data: NDArray[np.unsignedinteger], info: ModelInfo) -> LayerSpec:
    """Describe a layer of labels in their classes' colours; it is not placed yet."""
    looks = {
        "name": LABELS,
        "features": class_table(info),
        "colormap": class_colours(info),
        "opacity": 0.6,
        "metadata": {MODEL_KEY: info.model_dump(mode="json", include=_IN_FILES)},
    }
    return LayerSpec(Labels, data, looks)


def placed(spec: LayerSpec, image_name: str, placement: Mapping[str, Any]) -> LayerSpec:
    """Put a layer where the image is, name it after it, and mark it as a result."""
    own = spec.kwargs.get("metadata", {})
    if "contrast_limits" in spec.kwargs:
        own = {**own, LIMITS_KEY: spec.kwargs["contrast_limits"]}
    metadata = {**placement["metadata"], **own, RESULT_KEY: spec.name}
    name = f"{image_name} {spec.name}"
    return replace(spec, kwargs={**spec.kwargs, **placement, "name": name, "metadata": metadata})


def label_colours(colours: Mapping[int, Any]) -> DirectLabelColormap:
    """Return colours by value for a labels layer; every other value is clear."""
    table: dict[int | None, Any] = {None: _TRANSPARENT, 0: _TRANSPARENT}
    table.update(colours.items())
    return DirectLabelColormap(color_dict=table)


def rgba(colour: Colour) -> tuple[float, float, float, float]:
    """Return a colour of bytes as napari takes it: opaque, each part in [0, 1]."""
    red, green, blue = (c / 255 for c in colour)
    return red, green, blue, 1.0
