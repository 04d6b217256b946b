"""Which tokens the canvas shows: one map at a time, flat in 2-D and as boxes in 3-D.

Whoever chooses – the inspector, the Class list, an eye in napari's layer list – all say the same
afterwards. While a flat map is shown the labels over it are outlines, so that no colours mix.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from warnings import filterwarnings
from weakref import WeakKeyDictionary, ref

from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]  # Signal is renamed by qtpy

from napari_tokensparse.inspecting.boxes import token_boxes
from napari_tokensparse.inspecting.fates import LIVE_COLOUR, PIN_COLOURS
from napari_tokensparse.model.ratios import DROP, KEEP
from napari_tokensparse.segmenting.tokenmaps import stage_colour
from napari_tokensparse.widgets.canvas.legend import show_legend
from napari_tokensparse.widgets.canvas.solids import kept_boxes, pruned_boxes
from napari_tokensparse.widgets.layers import (
    IMPORTANCE,
    INNER_SURFACES,
    KEPT_BOXES,
    LABELS,
    OUTER_SURFACES,
    PRUNED_AT,
    PRUNED_BOXES,
    RANK,
    RESULT_KEY,
    SCAN_SURFACE,
    STAGE,
    hex_colour,
    layer_kind,
    placement_kwargs,
    stage_looks,
    token_layer,
)
from napari_tokensparse.widgets.results import results_of
from napari_tokensparse.widgets.showing import result_layer, show_layers
from napari_tokensparse.widgets.workers import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import napari
    from napari.layers import Layer

    from napari_tokensparse.inspecting.boxes import TokenBoxes
    from napari_tokensparse.widgets.layers import LayerSpec, TokenView
    from napari_tokensparse.widgets.results import ShownResult

    Choice = tuple[TokenView, int]

_OUTLINE = 1  # voxels
_PINS_LEGEND: list[tuple[str, str | None]] = [
    ("■ pinned: kept", hex_colour(PIN_COLOURS[KEEP])),
    ("■ pinned: dropped", hex_colour(PIN_COLOURS[DROP])),
]


class TokenDisplay(QObject):
    """What a viewer shows of the latest result's tokens; get it by `token_display`.

    Signals
    -------
    changed
        Something else is shown.
    """

    changed = Signal()

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        # napari slices labels for 3-D before anybody can fill their outlines, and warns of them.
        filterwarnings("ignore", message="Contours are not displayed during 3D rendering")
        self._viewer_ref = ref(viewer)
        self._results = results_of(viewer)
        self._chosen: Choice | None = None
        self._boxes: tuple[ShownResult, TokenBoxes | None] | None = None
        self._names: WeakKeyDictionary[Layer, str] = WeakKeyDictionary()  # images' own
        self._pruned = self._outlined = self._outlining = self._busy = False
        for layer in viewer.layers:
            layer.events.visible.connect(self._visible_changed)
        viewer.layers.events.inserted.connect(self._inserted)
        viewer.layers.events.removed.connect(self._removed)
        viewer.layers.events.renamed.connect(self._renamed)
        viewer.dims.events.ndisplay.connect(self._apply)
        viewer.canvas.grid.events.enabled.connect(self._apply)
        self._results.changed.connect(self._result_changed)

    def value(self) -> Choice | None:
        """Return what is shown, a view and a stage from 1; None where no tokens are."""
        return self._chosen

    def setValue(self, chosen: Choice | None) -> None:
        """Show tokens so, or none; without a result nothing is shown."""
        if self._results.latest is None:
            chosen = None
        before, self._chosen = self._chosen, chosen
        self._apply()
        if before != chosen:
            self.changed.emit()

    def set_pruned_shown(self, shown: bool) -> None:
        """Whether 3-D shows the edges of pruned tokens too."""
        self._pruned = shown
        self._apply()

    def set_outlined(self, outlined: bool) -> None:
        """Whether labels are outlines in 2-D, while no map is shown too."""
        self._outlined = outlined
        self._apply()

    @property
    def _viewer(self) -> napari.Viewer:
        viewer = self._viewer_ref()
        assert viewer is not None  # its layers and dims call, and these go with it
        return viewer

    @property
    def _is_solid(self) -> bool:
        return int(self._viewer.dims.ndisplay) == 3

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Change layers without taking that for a person's choice."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def _apply(self, _event: Any = None) -> None:
        result = self._results.latest
        if self._busy or result is None:
            return
        with self._changing():
            wanted = None
            if self._chosen is not None and not self._is_solid:
                wanted = self._flat_layer(result, *self._chosen)
            for layer in self._flat_layers(result):
                layer.visible = layer is wanted
            self._show_boxes(result)
            self._outline(result)
        show_legend(self._viewer, self._legend(result))

    def _flat_layer(self, result: ShownResult, view: TokenView, stage: int) -> Layer:
        """Return a map's layer, added below the labels where it is not there yet."""
        layers, name = self._viewer.layers, result.image.name
        layer = result_layer(self._viewer, name, layer_kind(view, stage))
        if layer is None:
            (change,) = show_layers(self._viewer, [_spec(result, view, stage)])
            layer, labels = change.layer, result_layer(self._viewer, name, LABELS)
            if labels is not None and layers.index(labels) < layers.index(layer):
                layers.move(layers.index(layer), layers.index(labels))
        if view == STAGE:
            for attribute, value in stage_looks(result.segmentation.tokens, stage).items():
                setattr(layer, attribute, value)
        return layer

    def _flat_layers(self, result: ShownResult) -> list[Layer]:
        return [layer for layer in self._viewer.layers if _choice(layer, result, 1) is not None]

    def _show_boxes(self, result: ShownResult) -> None:
        """Show boxes as chosen; what they are made of is counted in a thread, once a result."""
        active = self._viewer.layers.selection.active
        for layer in [x for x in self._viewer.layers if _is_solid(x)]:
            self._viewer.layers.remove(layer)
        if self._chosen is None or not self._is_solid:
            return
        if self._boxes is None or self._boxes[0] is not result:
            self._boxes = (result, None)
            worker = in_thread(_counted, result)
            worker.returned.connect(self._take_boxes)
            worker.start()
        boxes = self._boxes[1]
        if boxes is None:
            return
        makers = (kept_boxes, pruned_boxes) if self._pruned else (kept_boxes,)
        for make in makers:
            self._add_below_surfaces(make(result.image, result.volume, boxes, *self._chosen))
        if active in self._viewer.layers:
            self._viewer.layers.selection.active = active

    def _add_below_surfaces(self, layer: Layer) -> None:
        """Add a layer where translucent surfaces are drawn after it: they hide what comes later."""
        layers = self._viewer.layers
        kinds = (INNER_SURFACES, OUTER_SURFACES, SCAN_SURFACE)
        above = [n for n, x in enumerate(layers) if x.metadata.get(RESULT_KEY) in kinds]
        self._viewer.add_layer(layer)
        if above:
            layers.move(len(layers) - 1, above[0])

    def _take_boxes(self, counted: tuple[ShownResult, TokenBoxes]) -> None:
        if counted[0] is self._results.latest and self._viewer_ref() is not None:
            self._boxes = counted
            self._apply()

    def _outline(self, result: ShownResult) -> None:
        mixing = self._chosen is not None and not self._viewer.canvas.grid.enabled
        wanted = not self._is_solid and (self._outlined or mixing)
        if wanted != self._outlining:
            self._outlining = wanted
            for layer in self._viewer.layers:
                if _is_of(layer, result) and layer.metadata[RESULT_KEY] == LABELS:
                    layer.contour = _OUTLINE if wanted else 0

    def _legend(self, result: ShownResult) -> list[tuple[str, str | None]]:
        """Return what the colours of stages mean, where they are shown."""
        if self._chosen is None:
            return []
        (view, stage), stages = self._chosen, result.segmentation.tokens.stages
        if self._is_solid:
            last = stages if view == PRUNED_AT else stage
            return _stages_legend(range(1, last + 1)) if self._pruned else []
        pins = [] if result.segmentation.tokens.pins is None else _PINS_LEGEND
        if view == PRUNED_AT:
            return [*_stages_legend(range(1, stages + 1)), *pins]
        if view == STAGE:
            live = ("■ live", hex_colour(LIVE_COLOUR))
            pruned = ("■ pruned", hex_colour(stage_colour(stage)))
            return [(f"stage {stage}", None), pruned, live, *pins[: 1 + (stage == 1)]]
        return []

    def _inserted(self, event: Any) -> None:
        event.value.events.visible.connect(self._visible_changed)

    def _visible_changed(self, event: Any) -> None:
        """Follow an eye in the layer list."""
        result, layer = self._results.latest, event.source
        if self._busy or result is None:
            return
        if not _is_of(layer, result):
            self._hide_others(layer)
            return
        stage = 1 if self._chosen is None else self._chosen[1]
        theirs = _choice(layer, result, stage)
        if theirs is not None and layer.visible:
            self.setValue(theirs)
        elif theirs == self._chosen or layer.metadata.get(RESULT_KEY) == KEPT_BOXES:
            self.setValue(None)

    def _hide_others(self, shown: Layer) -> None:
        """Of an earlier image, too, one map is shown at a time."""
        image = _image_of_map(shown)
        if image is not None and shown.visible:
            with self._changing():
                for layer in self._viewer.layers:
                    if layer is not shown and _image_of_map(layer) == image:
                        layer.visible = False

    def _removed(self, event: Any) -> None:
        result = self._results.latest
        if not self._busy and result is not None and self._chosen is not None:
            of = _choice(event.value, result, self._chosen[1])
            if of == self._chosen or event.value.metadata.get(RESULT_KEY) == KEPT_BOXES:
                self.setValue(None)

    def _renamed(self, _event: Any = None) -> None:
        """Let the results of an image that a person renames be called after it still."""
        others = [(image, name) for image, name in self._names.items() if image.name != name]
        for image, before in others:
            self._names[image] = str(image.name)
            for layer in self._viewer.layers:
                kind = layer.metadata.get(RESULT_KEY)
                if kind is not None and str(layer.name).startswith(f"{before} {kind}"):
                    layer.name = str(image.name) + str(layer.name).removeprefix(before)

    def _result_changed(self) -> None:
        """Bring the layers up to date that only a choice adds, and show the choice anew."""
        result = self._results.latest
        if result is None:
            return
        self._names[result.image] = str(result.image.name)
        stages = result.segmentation.tokens.stages
        here = {layer.metadata.get(RESULT_KEY) for layer in self._flat_layers(result)}
        own: list[Choice] = [(RANK, n) for n in range(1, stages + 1)] + [(STAGE, 1)]
        with self._changing():
            outdated = (choice for choice in own if layer_kind(*choice) in here)
            show_layers(self._viewer, (_spec(result, *choice) for choice in outdated))
        chosen = self._chosen
        self._outlining = False  # labels may have come
        self.setValue(None if chosen is None else (chosen[0], min(chosen[1], stages)))


_DISPLAYS: WeakKeyDictionary[napari.Viewer, TokenDisplay] = WeakKeyDictionary()


def token_display(viewer: napari.Viewer) -> TokenDisplay:
    """Return what decides which tokens a viewer shows."""
    viewer = getattr(viewer, "__wrapped__", viewer)  # a plugin's proxy does not last
    if viewer not in _DISPLAYS:
        _DISPLAYS[viewer] = TokenDisplay(viewer)
    return _DISPLAYS[viewer]


def _stages_legend(stages: Sequence[int]) -> list[tuple[str, str | None]]:
    """Name the stages whose colours pruned tokens have."""
    colours = ((f"■ {n}", hex_colour(stage_colour(n))) for n in stages)
    return [("pruned at stage", None), *colours]


def _spec(result: ShownResult, view: TokenView, stage: int) -> LayerSpec:
    image, tokens = result.image, result.segmentation.tokens
    placement = placement_kwargs(image)
    return token_layer(view, stage, image.name, placement, result.volume, tokens)


def _counted(result: ShownResult) -> tuple[ShownResult, TokenBoxes]:
    return result, token_boxes(result.segmentation, result.volume)


def _is_of(layer: Layer, result: ShownResult) -> bool:
    """Whether a layer is one of an image's results."""
    kind = layer.metadata.get(RESULT_KEY)
    return kind is not None and str(layer.name).startswith(f"{result.image.name} {kind}")


def _image_of_map(layer: Layer) -> str | None:
    """Return the name of the image that a flat map is of; None of any other layer."""
    kind = str(layer.metadata.get(RESULT_KEY, ""))
    is_map = kind in (STAGE, PRUNED_AT) or kind.rpartition(" ")[0] in (IMPORTANCE, RANK)
    return str(layer.name).removesuffix(kind) if is_map else None


def _choice(layer: Layer, result: ShownResult, stage: int) -> Choice | None:
    """Return which choice a flat map shows; ``stage`` is that of maps that are of every stage."""
    if not _is_of(layer, result):
        return None
    kind = str(layer.metadata[RESULT_KEY])
    of_a_stage: tuple[TokenView, ...] = (IMPORTANCE, RANK)
    for view in of_a_stage:
        number = kind.removeprefix(f"{view} ")
        if number != kind and number.isdigit():
            return view, int(number)
    of_all: tuple[TokenView, ...] = (STAGE, PRUNED_AT)
    for view in of_all:
        if kind == view:
            return view, stage
    return None


def _is_solid(layer: Layer) -> bool:
    return layer.metadata.get(RESULT_KEY) in (KEPT_BOXES, PRUNED_BOXES)
