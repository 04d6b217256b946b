"""Choice of the part of a volume to work on: all of it, what is in view, or drawn shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Shapes
from qtpy.QtCore import QSignalBlocker, Signal  # type: ignore[attr-defined]  # renamed by qtpy
from qtpy.QtWidgets import QComboBox, QWidget

from napari_tokensparse.volumes.placement import shown_placement
from napari_tokensparse.volumes.region import Box

if TYPE_CHECKING:
    import napari
    from napari.layers import Image
    from numpy.typing import NDArray

    from napari_tokensparse.volumes.volume import Volume

WHOLE, VIEW = "Whole volume", "Current view"
_FLAT = 0.5  # voxels: shapes that extend less along an axis do not bound it


class RegionCombo(QComboBox):
    """Choice of a region: the whole volume, the current view, or a Shapes layer.

    A region is a box of voxels along the image's axes.

    - The current view is what the 2-D canvas shows of the image, through all slices. In 3-D it is
      the whole volume.
    - Of a Shapes layer it is the smallest box round all its shapes. A rectangle drawn on one slice
      bounds the two axes that are shown and takes all slices; rectangles on two slices take the
      slices from the one to the other.

    Parameters
    ----------
    viewer
        Whose view and Shapes layers can be chosen.
    parent
        Qt parent.
    """

    valueChanged = Signal()

    def __init__(self, viewer: napari.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._shapes: list[Shapes] = []
        self.setToolTip(
            "Work on a part of the image alone. Current view: what the canvas shows, through all "
            "slices. Shapes: the box round what is drawn in that layer; drawn on one slice, it "
            "goes through all slices."
        )
        self.setSizeAdjustPolicy(self.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.addItems([WHOLE, VIEW])
        events = viewer.layers.events
        for changed in (events.inserted, events.removed, events.renamed):
            changed.connect(self._list)
        self.currentIndexChanged.connect(lambda _: self.valueChanged.emit())
        self._list()

    def value(self) -> Shapes | str:
        """Return what is chosen: a layer, or one of the two other choices."""
        index = self.currentIndex()
        return self._shapes[index - 2] if index > 1 else self.itemText(index)

    def setValue(self, chosen: Shapes | str) -> None:
        """Choose a Shapes layer, the whole volume or the view."""
        if isinstance(chosen, str):
            self.setCurrentText(chosen)
        else:
            self.setCurrentIndex(2 + self._shapes.index(chosen))

    def box(self, layer: Image, volume: Volume) -> Box | None:
        """Return the region of an image that is chosen now; None for all of it.

        Parameters
        ----------
        layer
            The image's layer.
        volume
            Its voxels, in the file's order.

        Raises
        ------
        ValueError
            Nothing is drawn, or the region lies beside the image.
        """
        chosen = self.value()
        if isinstance(chosen, str) and chosen == WHOLE:
            return None
        size = np.ptp(_whole(layer), axis=0)
        ends = _view(self._viewer, layer) if isinstance(chosen, str) else _drawn(chosen, layer)
        # A voxel reaches half a voxel from its index to either side.
        first, last = np.floor(ends + 0.5).astype(int)
        inside = (last >= 0) & (first < size)
        if not inside.all():
            raise ValueError(f"{self.currentText()}: lies beside {layer.name}; draw over it")
        first, last = first.clip(min=0), last.clip(max=size - 1)
        if (first == 0).all() and (last == size - 1).all():
            return None
        return _file_box(first, last, volume)

    def _list(self, _event: Any = None) -> None:
        """List the Shapes layers; the choice stays while its layer is there."""
        before = self.value()
        self._shapes = [x for x in self._viewer.layers if isinstance(x, Shapes)]
        with QSignalBlocker(self):
            while self.count() > 2:
                self.removeItem(2)
            self.addItems([shapes.name for shapes in self._shapes])
            kept = before if isinstance(before, str) or before in self._shapes else WHOLE
            self.setValue(kept)
        if kept != before:
            self.valueChanged.emit()


def _view(viewer: napari.Viewer, layer: Image) -> NDArray[np.float64]:
    """Return the ends (2, 3) of what the canvas shows, in the image's voxels."""
    ends = _whole(layer)
    if viewer.dims.ndisplay == 3:
        return ends
    corners = np.asarray(layer.corner_pixels)[:, -3:]
    if layer.multiscale:
        corners = corners * np.asarray(layer.downsample_factors)[layer.data_level][-3:]
    shown = [axis - (viewer.dims.ndim - 3) for axis in viewer.dims.displayed]
    if (corners[0, shown] == corners[1, shown]).any():
        raise ValueError(f"{VIEW}: {layer.name} is not in it; move it into the canvas")
    ends[:, shown] = corners[:, shown]
    return ends


def _drawn(shapes: Shapes, layer: Image) -> NDArray[np.float64]:
    """Return the ends (2, 3) of all shapes of a layer, in the image's voxels."""
    if not len(shapes.data):
        raise ValueError(f"{shapes.name}: nothing is drawn there yet; draw a rectangle")
    world = [
        np.asarray(shapes.data_to_world(point))[-3:] for drawn in shapes.data for point in drawn
    ]
    missing = 3 - len(world[0])  # axes that the shapes layer lacks
    points = np.array([layer.world_to_data([*np.zeros(missing), *point])[-3:] for point in world])
    ends = np.array([points.min(axis=0), points.max(axis=0)])
    flat = np.ptp(ends, axis=0) < _FLAT
    flat[:missing] = True
    ends[:, flat] = _whole(layer)[:, flat]
    return ends


def _whole(layer: Image) -> NDArray[np.float64]:
    shape = (layer.data[0] if layer.multiscale else layer.data).shape[-3:]
    ends: NDArray[np.float64] = np.array([np.zeros(3), shape]) - 0.5
    return ends


def _file_box(first: NDArray[np.int64], last: NDArray[np.int64], volume: Volume) -> Box:
    """Turn the first and the last shown voxel into a box of the file's voxels."""
    placement = shown_placement(volume)
    ends = [placement.to_file(end.tolist(), volume.shape) for end in (first, last)]
    i, j, k = np.sort(np.array(ends).astype(int), axis=0).T.tolist()
    return Box((i[0], j[0], k[0]), (i[1] + 1, j[1] + 1, k[1] + 1))
