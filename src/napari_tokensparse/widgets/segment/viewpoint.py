"""Where in the world a person looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import (  # type: ignore[attr-defined]  # Signal is renamed by qtpy
    QObject,
    Signal,
)

if TYPE_CHECKING:
    import napari


class ViewPoint(QObject):
    """The point that a person looks at.

    It is the viewer's point, ``viewer.dims.point``; along the axes that the canvas shows it goes
    along with the middle of the view.

    Parameters
    ----------
    viewer
        The viewer.
    parent
        Qt parent.
    """

    moved = Signal()

    def __init__(self, viewer: napari.Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._dims, self._camera = viewer.dims, viewer.scene.camera
        self._point = self._seen = tuple(self._dims.point)
        self._dims.events.point.connect(self._dims_moved)
        self._camera.events.center.connect(self._camera_moved)

    def value(self) -> tuple[float, ...]:
        """Return the point in world coordinates, one for each of the viewer's axes."""
        return self._point

    def _dims_moved(self, _event: Any = None) -> None:
        """Follow the axes along which the viewer's point moved."""
        point = tuple(self._dims.point)
        if len(point) == len(self._point):
            pairs = zip(self._point, self._seen, point, strict=True)
            self._go(tuple(own if new == old else new for own, old, new in pairs))
        else:
            self._go(point)
        self._seen = point

    def _camera_moved(self, _event: Any = None) -> None:
        point, shown = list(self._point), self._dims.displayed
        for axis, centre in zip(shown, self._camera.center[-len(shown) :], strict=True):
            point[axis] = float(centre)
        self._go(tuple(point))

    def _go(self, point: tuple[float, ...]) -> None:
        if point != self._point:
            self._point = point
            self.moved.emit()
