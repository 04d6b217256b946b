"""Choice of a layer whose tokens are pinned, and what it marks of an image."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels, Shapes
from qtpy.QtCore import (  # type: ignore[attr-defined]  # Signal is renamed by qtpy
    QSignalBlocker,
    QTimer,
    Signal,
)
from qtpy.QtWidgets import QComboBox

from napari_tokensparse.volumes.placement import shown_placement
from napari_tokensparse.widgets.layers import LABELS, RESULT_KEY

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Layer
    from numpy.typing import NDArray

    from napari_tokensparse.volumes.volume import Volume

NOTHING = "Nothing"
_QUIET_MS = 150
"""How long a layer must not have been painted before that counts as a change."""
_APART = 0.5  # voxels that two grids may lie apart


class MaskCombo(QComboBox):
    """Choice of a Labels or Shapes layer, or of none.

    Parameters
    ----------
    viewer
        Whose layers can be chosen; of results, labels alone.
    tip
        What becomes of the tokens.
    """

    valueChanged = Signal()
    """Another layer is chosen, or the chosen one was painted."""

    def __init__(self, viewer: napari.Viewer, tip: str) -> None:
        super().__init__()
        self._viewer = viewer
        self._layers: list[Layer] = []
        self._chosen: Layer | None = None
        self._quiet = QTimer(self)
        self._quiet.setSingleShot(True)
        self._quiet.setInterval(_QUIET_MS)
        self._quiet.timeout.connect(self.valueChanged)
        self.setToolTip(tip)
        self.setSizeAdjustPolicy(self.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.addItem(NOTHING)
        events = viewer.layers.events
        for changed in (events.inserted, events.removed, events.renamed):
            changed.connect(self._list)
        self.currentIndexChanged.connect(lambda _: self._choose())
        self._list()

    def value(self) -> Labels | Shapes | None:
        """Return the layer that is chosen."""
        index = self.currentIndex()
        return self._layers[index - 1] if index > 0 else None

    def setValue(self, layer: Layer | None) -> None:
        """Choose a layer of the viewer, or none."""
        self.setCurrentIndex(0 if layer is None else 1 + self._layers.index(layer))

    @property
    def is_empty(self) -> bool:
        """Whether a Labels layer is chosen on which nothing is painted."""
        chosen = self.value()
        return isinstance(chosen, Labels) and not np.asarray(chosen.data).any()

    def marked(self, image: Image, volume: Volume) -> NDArray[np.bool_] | None:
        """Return what the layer marks of an image, on the file's grid; None where none is chosen.

        Raises
        ------
        ValueError
            In one line: it marks nothing of the image, or lies on another grid.
        """
        chosen = self.value()
        if chosen is None or not self.isEnabled():
            return None
        shown = _shown_marks(chosen, image)
        if not shown.any():
            raise ValueError(
                f"{chosen.name}: marks no voxel of {image.name}; paint or draw there, or choose "
                f"{NOTHING}"
            )
        return np.asarray(shown_placement(volume).unview(shown))

    def _list(self, _event: Any = None) -> None:
        """List the layers; the choice stays while its layer is there."""
        before = self._chosen
        self._layers = [layer for layer in self._viewer.layers if _can_mark(layer)]
        with QSignalBlocker(self):
            while self.count() > 1:
                self.removeItem(1)
            self.addItems([layer.name for layer in self._layers])
            self.setValue(before if before in self._layers else None)
        if self.value() is not before:
            self._choose()

    def _choose(self) -> None:
        """Follow what is painted in the layer that is chosen now."""
        for layer, follow in ((self._chosen, False), (self.value(), True)):
            for event in () if layer is None else _edits(layer):
                (event.connect if follow else event.disconnect)(self._edited)
        self._chosen = self.value()
        self.valueChanged.emit()

    def _edited(self, _event: Any = None) -> None:
        self._quiet.start()


def take_over(marks: Labels | Shapes, layer: Labels) -> None:
    """Mark on a layer of pins, as one stroke, what another layer marks on its grid."""
    try:
        where = _shown_marks(marks, layer).nonzero()
    except ValueError:  # it lies on another grid, and pins no token here
        return
    layer.data_setitem(where, 1)


def _shown_marks(marks: Labels | Shapes, image: Image | Labels) -> NDArray[np.bool_]:
    return painted(marks, image) if isinstance(marks, Labels) else drawn(marks, image)


def painted(labels: Labels, image: Image | Labels) -> NDArray[np.bool_]:
    """Return where a Labels layer is not 0, on the image's grid as it is shown.

    Raises
    ------
    ValueError
        In one line: it lies on another grid.
    """
    shape = image_shape(image)
    if labels.data.shape != shape or not _lies_alike(labels, image):
        raise ValueError(
            f"{labels.name}: lies on another grid than {image.name}; paint on a layer of its voxels"
        )
    where: NDArray[np.bool_] = np.asarray(labels.data) != 0
    return where


def drawn(shapes: Shapes, image: Image | Labels) -> NDArray[np.bool_]:
    """Fill what is drawn on slices of an image, on the image's grid as it is shown.

    A line or a path encloses nothing: it marks the voxels that it runs through.
    """
    inside = np.zeros(image_shape(image), bool)
    for shape, kind in zip(shapes.data, shapes.shape_type, strict=True):
        corners = _rounded(shape) if kind == "ellipse" else shape
        world = [np.asarray(shapes.data_to_world(point))[-3:] for point in corners]
        if len(world[0]) < inside.ndim:
            raise ValueError(f"{shapes.name}: was drawn without slices; draw over {image.name}")
        points = np.array([image.world_to_data(point)[-3:] for point in world])
        flat = int(np.ptp(points, axis=0).argmin())  # the axis across which it was drawn
        across = round(float(points[:, flat].mean()))
        if 0 <= across < inside.shape[flat]:
            slice_ = np.moveaxis(inside, flat, 0)[across]
            slice_[_marked(np.delete(points, flat, axis=1), kind, slice_.shape)] = True
    return inside


def _rounded(corners: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Return points of an ellipse, of which napari gives the corners of the box round it."""
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)[:, None]
    one, other = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    middle: NDArray[np.floating[Any]] = corners.mean(axis=0)
    points: NDArray[np.floating[Any]] = middle + np.cos(angles) * one + np.sin(angles) * other
    return points


def _marked(
    points: NDArray[np.floating[Any]], kind: str, shape: tuple[int, ...]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the voxels of a slice that a drawn shape of so many points ``(n, 2)`` marks."""
    from skimage.draw import line, polygon  # not needed when Segment opens

    if kind not in ("line", "path"):
        rows, columns = polygon(points[:, 0], points[:, 1], shape)
        return rows, columns
    pieces = [line(*a, *b) for a, b in pairwise(np.rint(points).astype(int))]
    rows, columns = (np.concatenate(each) for each in zip(*pieces, strict=True))
    there = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    return rows[there], columns[there]


def image_shape(image: Image | Labels) -> tuple[int, ...]:
    """Return the last three sides of an image in voxels."""
    shape: tuple[int, ...] = (image.data[0] if image.multiscale else image.data).shape[-3:]
    return shape


def _can_mark(layer: Layer) -> bool:
    kind = layer.metadata.get(RESULT_KEY)
    return isinstance(layer, (Labels, Shapes)) and kind in (None, LABELS)


def _edits(layer: Layer) -> tuple[Any, ...]:
    events = layer.events
    return (
        (events.data, events.paint, events.labels_update)
        if isinstance(layer, Labels)
        else (events.data,)
    )


def _lies_alike(labels: Labels, image: Image | Labels) -> bool:
    """Whether first and last voxel of a layer of an image's shape are those of the image."""
    ends = np.array([np.zeros(3), np.array(labels.data.shape) - 1])
    there = np.array([image.world_to_data(labels.data_to_world(end))[-3:] for end in ends])
    return bool(np.abs(there - ends).max() < _APART)
