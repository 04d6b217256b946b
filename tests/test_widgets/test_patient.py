import itertools

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_tokensparse.volumes.placement import layer_kwargs, placement_of
from napari_tokensparse.volumes.volume import NOTE_NO_ORIENTATION, Volume
from napari_tokensparse.widgets.patient import (
    patient_orientation,
    show_patient_sides,
    side_marks,
)


def add_scan(viewer, **more):
    volume = Volume(np.zeros((1, 5, 6, 7), np.uint8), np.eye(4), "scan", **more)
    shown = placement_of(volume.affine, volume.shape).view(volume.array[0])
    return viewer.add_image(shown, name="scan", **layer_kwargs(volume))


def marks(viewer):
    """Return the visible marks: left, right, top, bottom."""
    edges = ("middle_left", "middle_right", "top_center", "bottom_center")
    shown = [viewer.canvas.overlays[f"patient_side_{edge}"] for edge in edges]
    return "".join(overlay.text if overlay.visible else "-" for overlay in shown)


@pytest.fixture
def viewer():
    viewer = ViewerModel()
    show_patient_sides(viewer)
    return viewer


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ((0, 1, 2), "RLAP"),  # axial, radiological
        ((1, 0, 2), "RLSI"),  # coronal, radiological
        ((2, 0, 1), "APSI"),  # sagittal, face to the left
        ((0, 2, 1), "APRL"),  # transposed
        ((1, 2, 0), "ISRL"),
        ((2, 1, 0), "ISAP"),
    ],
)
def test_2d_marks_follow_the_order_of_the_axes(viewer, order, expected):
    add_scan(viewer)
    viewer.dims.order = order
    assert marks(viewer) == expected


def test_rolling_and_transposing_update_the_marks(viewer):
    add_scan(viewer)
    viewer.dims.roll()
    assert marks(viewer) == "APSI"
    viewer.dims.transpose()
    assert marks(viewer) == "ISAP"
    viewer.dims.order = (0, 1, 2)
    assert marks(viewer) == "RLAP"


def test_3d_opens_on_the_patients_face(viewer):
    add_scan(viewer)
    viewer.dims.ndisplay = 3
    assert marks(viewer) == "RLSI"
    assert np.allclose(viewer.scene.camera.view_direction, (0, 1, 0))


@pytest.mark.parametrize(
    ("view", "up", "expected"),
    [
        ((0, 1, 0), (1, 0, 0), "RLSI"),  # face to face
        ((0, -1, 0), (1, 0, 0), "LRSI"),  # from behind
        ((0, 0, -1), (1, 0, 0), "APSI"),  # from the patient's left
        ((0, 0, 1), (1, 0, 0), "PASI"),  # from the patient's right
        ((1, 0, 0), (0, -1, 0), "RLAP"),  # from the feet
        ((-1, 0, 0), (0, -1, 0), "LRAP"),  # from the top of the head
    ],
)
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_3d_marks_follow_the_camera_whatever_the_order_of_the_axes(
    viewer, view, up, expected, order
):
    add_scan(viewer)
    viewer.dims.ndisplay = 3
    viewer.dims.order = order
    shown = list(order)
    viewer.scene.camera.set_view_direction(np.array(view)[shown], np.array(up)[shown])
    assert marks(viewer) == expected


def test_a_view_between_two_sides_names_both(viewer):
    add_scan(viewer)
    viewer.dims.ndisplay = 3
    viewer.scene.camera.set_view_direction((0, 2, 1), (1, 0, 0))
    shown = side_marks(viewer.dims, viewer.scene.camera)
    assert shown["middle_left"] == "RP"
    assert shown["middle_right"] == "LA"


def test_marks_tell_the_truth_when_the_person_turns_the_camera_over(viewer):
    add_scan(viewer)
    viewer.scene.camera.orientation = ("towards", "up", "left")
    assert marks(viewer) == "LRPA"


@pytest.mark.parametrize("shown", list(itertools.permutations(range(3))))
def test_no_order_of_the_axes_is_mirrored_and_the_head_is_up(shown):
    depth, vertical, horizontal = patient_orientation(shown)
    screen = np.zeros((3, 3))  # patient (x, y, z) of the screen's right, up and towards us
    screen[0, 2 - shown[2]] = 1 if horizontal == "right" else -1
    screen[1, 2 - shown[1]] = 1 if vertical == "up" else -1
    screen[2, 2 - shown[0]] = 1 if depth == "towards" else -1
    assert np.linalg.det(screen) == pytest.approx(1)
    assert (vertical == "up") == (shown[1] == 0)


def test_marks_hide_while_an_image_of_unknown_orientation_is_there(viewer):
    assert marks(viewer) == "----"
    add_scan(viewer)
    viewer.add_labels(np.zeros((7, 6, 5), np.uint8))
    assert marks(viewer) == "RLAP"
    foreign = viewer.add_image(np.zeros((7, 6, 5)))
    assert marks(viewer) == "----"
    viewer.layers.remove(foreign)
    assert marks(viewer) == "RLAP"
    add_scan(viewer, notes=(NOTE_NO_ORIENTATION,))
    assert marks(viewer) == "----"


def test_a_fourth_axis_leaves_the_marks_on_the_last_three(viewer):
    add_scan(viewer)
    viewer.add_points(np.zeros((1, 4)))
    assert marks(viewer) == "RLAP"
    viewer.dims.order = (1, 2, 0, 3)  # a fourth axis on the screen points to no side
    assert marks(viewer) == "RL--"


def test_removing_every_layer_in_3d_is_harmless(viewer):
    layer = add_scan(viewer)
    viewer.dims.ndisplay = 3
    viewer.layers.remove(layer)
    assert marks(viewer) == "----"
    add_scan(viewer)  # napari turns the camera back to look along z
    assert marks(viewer) == "RLAP"


def test_showing_twice_connects_once(viewer):
    before = len(viewer.dims.events.order.callbacks), len(viewer.canvas.overlays)
    show_patient_sides(viewer)
    assert (len(viewer.dims.events.order.callbacks), len(viewer.canvas.overlays)) == before
