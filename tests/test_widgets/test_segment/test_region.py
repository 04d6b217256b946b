"""The choice of a region in a real viewer; rectangles are drawn with the mouse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt

from napari_tokensparse.volumes.placement import layer_kwargs, placement_of
from napari_tokensparse.volumes.region import Box
from napari_tokensparse.volumes.volume import Volume
from napari_tokensparse.widgets.layervolumes import read_layer
from napari_tokensparse.widgets.segment.region import VIEW, WHOLE, RegionCombo

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari
    from napari.layers import Image
    from pytestqt.qtbot import QtBot

pytestmark = pytest.mark.gui

SHAPE = (20, 30, 40)


class Scene:
    """A viewer with a scan, and a combo beside it."""

    def __init__(self, viewer: napari.Viewer, qtbot: QtBot) -> None:
        # The file's axes run to the patient's left, back and head: shown z is k, y is j, x is i.
        affine = np.diag([-2.0, -1.0, 3.0, 1.0])
        self.viewer, self.qtbot = viewer, qtbot
        self.volume = Volume(np.ones((1, *SHAPE), np.uint8), affine, "scan")
        self.image: Image = viewer.add_image(
            placement_of(affine, SHAPE).view(self.volume.array[0]),
            name="scan",
            **layer_kwargs(self.volume),
        )
        self.combo = RegionCombo(viewer)
        viewer.window.add_dock_widget(self.combo)

    def box(self) -> Box | None:
        return self.combo.box(self.image, self.volume)

    def choose(self, text: str) -> None:
        """Choose an entry with the keyboard."""
        self.combo.setFocus()
        self.qtbot.keyClick(self.combo, Qt.Key.Key_Home)
        for _ in range(self.combo.findText(text)):
            self.qtbot.keyClick(self.combo, Qt.Key.Key_Down)
        assert self.combo.currentText() == text

    def canvas_point(self, voxel: tuple[float, float, float]) -> QPoint:
        """Return where a voxel (z, y, x) of the image is drawn."""
        dims, camera = self.viewer.dims, self.viewer.scene.camera
        canvas = self.viewer.window._qt_viewer.canvas.native
        world = np.array(self.image.data_to_world(voxel))[list(dims.displayed)]
        away = (world - np.array(camera.center)[-2:])[::-1]
        middle = np.array([canvas.width(), canvas.height()]) / 2
        return QPoint(*np.rint(middle + camera.zoom * away).astype(int).tolist())

    def draw(self, first: tuple[float, ...], last: tuple[float, ...]) -> None:
        """Draw a rectangle in the active Shapes layer from one voxel (z, y, x) to another."""
        self.viewer.layers.selection.active.mode = "add_rectangle"
        canvas = self.viewer.window._qt_viewer.canvas.native
        start, end = self.canvas_point(first), self.canvas_point(last)
        self.qtbot.mousePress(canvas, Qt.MouseButton.LeftButton, pos=start)
        for part in (0.5, 1.0):
            self.qtbot.mouseMove(canvas, start + (end - start) * part)
            self.qtbot.wait(10)
        self.qtbot.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=end)


@pytest.fixture
def scene(make_napari_viewer: Callable[..., Any], qtbot: QtBot) -> Scene:
    scene = Scene(make_napari_viewer(show=True), qtbot)
    qtbot.wait(50)  # a draw
    return scene


def test_the_whole_volume_is_chosen_at_first(scene: Scene) -> None:
    assert scene.combo.value() == WHOLE
    assert scene.box() is None


def test_a_rectangle_drawn_on_a_slice_takes_all_slices(scene: Scene) -> None:
    shapes = scene.viewer.add_shapes(ndim=3, name="lesion", scale=scene.image.scale)
    scene.viewer.dims.set_point(0, 30.0)
    scene.draw((10, 5.3, 4.2), (10, 14.6, 11.7))
    (drawn,) = shapes.data
    assert np.ptp(drawn[:, 0]) == 0
    scene.choose("lesion")
    assert scene.combo.value() is shapes
    box = scene.box()
    assert box is not None
    # Drawn to the nearest pixel: a voxel is several pixels wide.
    assert np.abs(np.subtract(box.start, (4, 5, 0))).max() <= 1
    assert np.abs(np.subtract(box.stop, (13, 16, 40))).max() <= 1
    assert (box.start[2], box.stop[2]) == (0, 40)


@pytest.mark.parametrize(
    ("rectangles", "box"),
    [
        # Every voxel that is touched: x 3.4 lies in voxel 3, 7.6 in voxel 8.
        ([((10, 2.6, 3.4), (10, 6.4, 7.6))], Box((3, 3, 0), (9, 7, 40))),
        # On two slices: from the one to the other.
        (
            [((10, 2, 3), (10, 6, 7)), ((14, 4, 3), (14, 20, 5))],
            Box((3, 2, 10), (8, 21, 15)),
        ),
        # Beyond the image: what lies on it.
        ([((0, -9, 15), (0, 5, 99))], Box((15, 0, 0), (20, 6, 40))),
        # Drawn in a sagittal view: all x.
        ([((5, 2, 9), (8, 6, 9))], Box((0, 2, 5), (20, 7, 9))),
    ],
    ids=["one slice", "two slices", "beyond", "sagittal"],
)
def test_shapes_bound_the_axes_that_they_extend_along(
    scene: Scene, rectangles: list[Any], box: Box
) -> None:
    corners = [np.array(ends, float) for ends in rectangles]
    shapes = scene.viewer.add_shapes(
        [_rectangle(*ends) for ends in corners],
        shape_type="polygon",
        scale=scene.image.scale,
        translate=scene.image.translate,
    )
    scene.combo.setValue(shapes)
    assert scene.box() == box


def _rectangle(first: Any, last: Any) -> Any:
    """Return the corners of a rectangle that lies across the one axis that does not change."""
    flat = int(np.flatnonzero(first == last)[0])
    one, other = (axis for axis in range(3) if axis != flat)
    corners = np.tile(first, (4, 1))
    corners[1:3, one], corners[2:, other] = last[one], last[other]
    return corners


def test_a_2d_shapes_layer_bounds_the_last_two_axes(scene: Scene) -> None:
    _, y, x = scene.image.translate
    square = np.array([[2, 3], [2, 7], [6, 7], [6, 3]]) * [1.0, 2.0] + [y, x]
    scene.combo.setValue(scene.viewer.add_shapes([square], shape_type="polygon"))
    assert scene.box() == Box((3, 2, 0), (8, 7, 40))


def test_flipped_and_turned_files_get_the_box_in_their_own_voxels(scene: Scene) -> None:
    affine = np.array([[0, 1.0, 0, 0], [0, 0, -1.0, 0], [-1.0, 0, 0, 0], [0, 0, 0, 1]])
    volume = Volume(np.ones((1, *SHAPE), np.uint8), affine, "turned")
    view = placement_of(affine, SHAPE).view
    marked = np.zeros(SHAPE, np.uint8)
    marked[2:5, 3:9, 7:11] = 1
    image = scene.viewer.add_image(view(volume.array[0]), name="turned", **layer_kwargs(volume))
    where = np.argwhere(view(marked))
    ends = [image.data_to_world(point) for point in (where.min(axis=0), where.max(axis=0))]
    first = _rectangle(np.array(ends[0]), np.array([ends[0][0], *ends[1][1:]]))
    last = first.copy()
    last[:, 0] = ends[1][0]
    scene.combo.setValue(scene.viewer.add_shapes([first, last], shape_type="polygon"))
    assert scene.combo.box(image, volume) == Box((2, 3, 7), (5, 9, 11))


def test_the_current_view_is_what_the_canvas_shows_through_all_slices(scene: Scene) -> None:
    scene.choose(VIEW)
    scene.viewer.fit_to_view()
    scene.qtbot.waitUntil(lambda: scene.box() is None, timeout=60_000)  # all of it
    camera = scene.viewer.scene.camera
    canvas = scene.viewer.window._qt_viewer.canvas.native
    centre = scene.image.data_to_world((0, 10, 8))
    camera.center, camera.zoom = centre, canvas.width() / 12  # 12 mm, 6 voxels along x
    scene.qtbot.waitUntil(lambda: scene.box() is not None, timeout=60_000)
    box = scene.box()
    assert box is not None
    assert (box.start[2], box.stop[2]) == (0, 40)
    # x from 5 to 11; a voxel that is shown in part belongs to it.
    assert box.start[0] in (4, 5) and box.stop[0] in (12, 13)
    rows = 12 * canvas.height() / canvas.width()  # of 1 mm
    assert box.stop[1] - box.start[1] == pytest.approx(rows + 1, abs=1.5)
    scene.viewer.dims.ndisplay = 3
    scene.qtbot.waitUntil(lambda: scene.box() is None, timeout=60_000)


def test_a_foreign_layer_has_its_region_in_its_own_axes(scene: Scene) -> None:
    image = scene.viewer.add_image(np.ones((9, 10, 11)), name="foreign")
    volume, known = read_layer(image)
    assert not known
    square = np.array([[4, 1, 2], [4, 1, 6], [4, 5, 6], [4, 5, 2]])
    scene.combo.setValue(scene.viewer.add_shapes([square], shape_type="polygon"))
    assert scene.combo.box(image, volume) == Box((2, 1, 0), (7, 6, 9))


def test_what_holds_no_voxel_is_refused_in_one_line(scene: Scene) -> None:
    shapes = scene.viewer.add_shapes(ndim=3, name="lesion")
    scene.combo.setValue(shapes)
    with pytest.raises(ValueError) as refused:
        scene.box()
    assert str(refused.value) == "lesion: nothing is drawn there yet; draw a rectangle"
    shapes.add(np.array([[0, 500, 5], [0, 500, 9], [0, 505, 9], [0, 505, 5]]), shape_type="polygon")
    with pytest.raises(ValueError) as refused:
        scene.box()
    assert str(refused.value) == "lesion: lies beside scan; draw over it"
    scene.combo.setValue(VIEW)
    scene.viewer.scene.camera.center = (0, 5000, 0)
    scene.qtbot.wait(50)
    with pytest.raises(ValueError) as refused:
        scene.box()
    assert str(refused.value) == "Current view: scan is not in it; move it into the canvas"


def test_shapes_layers_are_listed_by_name_and_the_choice_stays_with_its_layer(
    scene: Scene,
) -> None:
    changes: list[Any] = []
    scene.combo.valueChanged.connect(lambda: changes.append(scene.combo.value()))
    first, second = (scene.viewer.add_shapes(ndim=3, name=name) for name in ("one", "two"))
    assert [scene.combo.itemText(n) for n in range(scene.combo.count())] == [
        *(WHOLE, VIEW, "one", "two")
    ]
    scene.choose("two")
    scene.viewer.layers.remove(first)
    second.name = "lesion"
    assert scene.combo.value() is second
    assert scene.combo.currentText() == "lesion"
    scene.viewer.layers.remove(second)
    assert scene.combo.value() == WHOLE
    assert changes[-2:] == [second, WHOLE]
