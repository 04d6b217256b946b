"""Classes in 3-D: a smooth surface for each, the outer ones seen through.

Where no class encloses the others, such as for a model of lesions alone, the scan itself does.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

import numpy as np
from napari.layers import Surface
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]  # Signal is renamed by qtpy

from napari_tokensparse.volumes.placement import shown_placement
from napari_tokensparse.volumes.region import Box
from napari_tokensparse.widgets.canvas.lighting import lit
from napari_tokensparse.widgets.layers import (
    INNER_SURFACES,
    OUTER_SURFACES,
    RESULT_KEY,
    SCAN_SURFACE,
    hidden_classes,
    placement_kwargs,
)
from napari_tokensparse.widgets.results import results_of
from napari_tokensparse.widgets.showing import checksum, labels_layer
from napari_tokensparse.widgets.workers import in_thread

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    import napari
    from napari.layers import Labels, Layer
    from numpy.typing import NDArray

    from napari_tokensparse.outputs.meshes import Mesh
    from napari_tokensparse.widgets.results import ShownResult

_TRANSLUCENT = 0.2
_GREY = (0.8, 0.8, 0.8, 1.0)
_ALL_ROUND = 5  # of the six sides along the axes
_FINE_VOXELS = 60**3
"""Classes in boxes of more voxels than this are drawn from every second voxel."""


@dataclass(frozen=True, eq=False)
class _Made:
    """Surfaces, and the labels that they are of; the scan's where no class encloses others."""

    result: ShownResult
    put: int
    meshes: dict[int, Mesh]
    outer: set[int]
    scan: Mesh | None


@dataclass(frozen=True, eq=False)
class ClassSurfaces:
    """The surfaces of some classes in one layer, of which a class is shown or not by its triangles.

    One layer for all: of one for each of 27 classes napari 0.9, whose layer list knows no groups,
    needs minutes on a busy machine; so hiding one class takes 0.1 s of a processor there.

    Attributes
    ----------
    layer
        Holds the vertices of all its classes, those not shown too: so nothing else moves.
    faces
        Of each class, in vertices of the layer.
    """

    layer: Surface
    faces: dict[int, NDArray[np.int64]]

    def hide(self, hidden: Collection[int]) -> None:
        """Show all classes but some."""
        shown = [faces for value, faces in self.faces.items() if value not in hidden]
        faces = np.concatenate(shown) if shown else np.zeros((0, 3), np.int64)
        vertices, before, values = self.layer.data
        if len(faces) != len(before) or (faces != before).any():
            self.layer.data = (vertices, faces, values)


class Surfaces(QObject):
    """The surfaces of the latest result's labels in 3-D; get it by `surfaces_of`.

    Signals
    -------
    said
        A line on what is going on; empty when it is over.
    """

    said = Signal(str)

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer_ref = ref(viewer)
        self._results = results_of(viewer)
        self._shown = True
        self._made: _Made | None = None
        self._asked: tuple[ShownResult, int] | None = None
        self._hid: list[Layer] = []  # what surfaces stand for: labels and the image
        self._classes: list[ClassSurfaces] = []  # that are shown
        self._labels: Labels | None = None  # whose classes they are
        viewer.dims.events.ndisplay.connect(self._update)
        self._results.changed.connect(self._update)

    def set_shown(self, shown: bool) -> None:
        """Whether 3-D shows surfaces; it shows voxels otherwise."""
        self._shown = shown
        self._update()

    def hid(self) -> list[Layer]:
        """Return the layers that surfaces stand for now: labels, and the image."""
        return list(self._hid)

    @property
    def _viewer(self) -> napari.Viewer:
        viewer = self._viewer_ref()
        assert viewer is not None  # its dims call, and they go with it
        return viewer

    def _layers(self) -> list[Layer]:
        return [
            x
            for x in self._viewer.layers
            if x.metadata.get(RESULT_KEY) in (INNER_SURFACES, OUTER_SURFACES, SCAN_SURFACE)
        ]

    def _update(self, _event: Any = None) -> None:
        self._take_away()
        result = self._results.latest
        if result is None or not self._shown or int(self._viewer.dims.ndisplay) != 3:
            return
        labels = labels_layer(self._viewer, result)
        if labels is None or not labels.visible:
            return
        put = checksum(labels.data)
        if self._made is not None and (self._made.result, self._made.put) == (result, put):
            self._show(self._made, labels)
        elif self._asked != (result, put):
            self._asked = (result, put)
            self.said.emit("Making surfaces …")
            worker = in_thread(_made, result, put, np.array(labels.data))
            worker.returned.connect(self._take)
            worker.start()

    def _take(self, made: _Made) -> None:
        if self._viewer_ref() is not None and self._asked == (made.result, made.put):
            self._asked, self._made = None, made
            self.said.emit("")
            self._update()

    def _take_away(self) -> None:
        """Take all surfaces away, and show again what they stood for."""
        for layer in self._layers():
            self._viewer.layers.remove(layer)
        for layer in self._hid:
            layer.visible = True
        if self._labels is not None:
            self._labels.events.colormap.disconnect(self._hide_classes)
        self._hid, self._classes, self._labels = [], [], None

    def _show(self, made: _Made, labels: Labels) -> None:
        layers = self._viewer.layers
        active, hidden = layers.selection.active, hidden_classes(labels)
        inner = made.meshes.keys() - made.outer
        for kind, values in ((INNER_SURFACES, inner), (OUTER_SURFACES, made.outer)):
            if values:
                shown = class_surfaces(labels, made.result, kind, values, made.meshes)
                shown.hide(hidden)
                self._classes.append(shown)
                self._viewer.add_layer(shown.layer)
        if made.scan is not None:
            parts = [(made.scan, np.array(_GREY))]
            layer, _ = _layer(labels, made.result, SCAN_SURFACE, parts, _TRANSLUCENT)
            self._viewer.add_layer(layer)
        self._hid = [x for x in (labels, made.result.image) if x.visible]
        for layer in self._hid:
            layer.visible = False
        self._labels = labels
        labels.events.colormap.connect(self._hide_classes)
        layers.selection.active = active

    def _hide_classes(self, _event: Any = None) -> None:
        """Take the surfaces of hidden classes out of the picture, or bring them back."""
        assert self._labels is not None  # it calls
        hidden = hidden_classes(self._labels)
        for each in self._classes:
            each.hide(hidden)


_SURFACES: WeakKeyDictionary[napari.Viewer, Surfaces] = WeakKeyDictionary()


def surfaces_of(viewer: napari.Viewer) -> Surfaces:
    """Return what decides whether a viewer shows surfaces."""
    viewer = getattr(viewer, "__wrapped__", viewer)  # a plugin's proxy does not last
    if viewer not in _SURFACES:
        _SURFACES[viewer] = Surfaces(viewer)
    return _SURFACES[viewer]


def stood_for(viewer: napari.Viewer) -> list[Layer]:
    """Return the layers that are hidden because surfaces are shown in their place."""
    return surfaces_of(viewer).hid()


def class_surfaces(
    labels: Labels,
    result: ShownResult,
    kind: str,
    values: Collection[int],
    meshes: Mapping[int, Mesh],
) -> ClassSurfaces:
    """Return a layer with the surfaces of classes, where their labels lie.

    Parameters
    ----------
    labels
        The layer of labels.
    result
        Whose labels they are.
    kind
        `INNER_SURFACES` or `OUTER_SURFACES`; the latter is translucent.
    values
        Of the classes.
    meshes
        Of every class, in voxels ``(i, j, k)`` of the volume.
    """
    info = result.network.info
    assert info is not None
    colours = {c.value: np.array([*c.color, 255]) / 255 for c in info.classes}
    ordered = sorted(values)
    chosen = [(meshes[value], colours[value]) for value in ordered]
    opacity = _TRANSLUCENT if kind == OUTER_SURFACES else 1.0
    layer, faces = _layer(labels, result, kind, chosen, opacity)
    return ClassSurfaces(layer, dict(zip(ordered, faces, strict=True)))


def _layer(
    labels: Labels,
    result: ShownResult,
    kind: str,
    parts: Sequence[tuple[Mesh, NDArray[np.float64]]],
    opacity: float,
) -> tuple[Surface, list[NDArray[np.int64]]]:
    """Return one layer of several surfaces, each in its colour, and the triangles of each."""
    volume, lengths = result.volume, [len(mesh.vertices) for mesh, _ in parts]
    vertices = np.concatenate([mesh.vertices for mesh, _ in parts])
    shown = shown_placement(volume).points_to_shown(vertices, volume.shape)
    first = np.cumsum([0, *lengths[:-1]])
    faces = [mesh.faces + at for (mesh, _), at in zip(parts, first, strict=True)]
    places, placement = lit(shown, placement_kwargs(labels))
    layer = Surface(
        (places, np.concatenate(faces), np.ones(len(vertices))),
        name=f"{result.image.name} {kind}",
        vertex_colors=np.repeat([colour for _, colour in parts], lengths, axis=0),
        shading="smooth",
        opacity=opacity,
        **{**placement, "metadata": {**placement["metadata"], RESULT_KEY: kind}},
    )
    return layer, faces


def enclosing(labels: NDArray[Any], boxes: Mapping[int, Box]) -> set[int]:
    """Return the classes that hide what is within: they lie all round the middle of a smaller one.

    All round is on five of the six sides along the axes: a shell may be open on one.

    Parameters
    ----------
    labels
        Of a volume.
    boxes
        The box of each class in it.
    """
    outer: set[int] = set()
    for box in boxes.values():
        sides = Counter(value for side in _sides(labels, box) for value in np.unique(side).tolist())
        outer |= {
            value
            for value, number in sides.items()
            if number >= _ALL_ROUND and value in boxes and _size(boxes[value]) > _size(box)
        }
    return outer


def _sides(labels: NDArray[Any], box: Box) -> Iterator[NDArray[Any]]:
    """Yield the six lines of labels from the middle of a box to the ends of the volume."""
    middle = [(start + stop) // 2 for start, stop in zip(box.start, box.stop, strict=True)]
    for axis, at in enumerate(middle):
        line = labels[tuple(slice(None) if n == axis else m for n, m in enumerate(middle))]
        yield from (line[:at], line[at + 1 :])


def _size(box: Box) -> int:
    return int(np.prod(np.subtract(box.stop, box.start)))


def _made(result: ShownResult, put: int, shown: NDArray[Any]) -> _Made:
    """Make all surfaces, in a thread; ``shown`` are labels as their layer has them."""
    from napari_tokensparse.outputs.meshes import class_mesh, scan_mesh  # late, for its imports

    labels = shown_placement(result.volume).unview(shown)
    boxes = dict(_boxes(labels))
    meshes = {
        value: class_mesh(labels, value, box, step=1 + (_size(box) > _FINE_VOXELS))
        for value, box in boxes.items()
    }
    outer = enclosing(labels, boxes)
    scan = None if outer else scan_mesh(result.volume.array[0])
    return _Made(result, put, meshes, outer, scan)


def _boxes(labels: NDArray[Any]) -> Iterator[tuple[int, Box]]:
    from scipy import ndimage  # late: the Segment widget opens without it

    for value, slices in enumerate(ndimage.find_objects(labels), start=1):
        if slices is not None:
            i, j, k = slices
            yield value, Box((i.start, j.start, k.start), (i.stop, j.stop, k.stop))
