"""The Token pane in a real viewer, driven by the mouse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt

from napari_tokensparse.inspecting.tokens import StageScore, token_at
from napari_tokensparse.segmenting.tokenmaps import stage_colour
from napari_tokensparse.widgets.canvas.display import token_display
from napari_tokensparse.widgets.canvas.places import position_text
from napari_tokensparse.widgets.inspector.token_pane import stage_rows

if TYPE_CHECKING:
    from conftest import Inspected

pytestmark = pytest.mark.gui

HERE, THERE, BACK = (9, 25, 12), (30, 11, 12), (20, 28, 12)


def test_the_token_under_the_pointer_is_shown_and_outlined(inspected: Inspected) -> None:
    pane = inspected.widget.token
    assert pane.message.text() == "Point at scan, or click there to hold a token."
    inspected.follow(HERE)

    shown = inspected.shown
    token = token_at(shown.segmentation, HERE, shown.volume, shown.network.info)
    assert token is not None
    assert pane.values["voxel"].text() == "9, 25, 12"
    assert pane.values["predicted"].text() == token.predicted
    assert pane.values["position"].text() == (
        ", ".join(map(str, token.position)) + " of " + " × ".join(map(str, token.grid))
    )
    assert pane.values["size"].text() == "8.0 × 8.0 × 16.0 mm"
    assert pane.values["centre"].text() == position_text(token.centre_mm, known=True)
    rows = pane.stages.rows()
    assert [row[0] for row in rows] == [1, 2, 3]
    assert [row[1] for row in rows if row[1] is not None] == [s.importance for s in token.stages]

    outline = inspected.layer("token")
    assert outline.bounding_box.visible
    assert outline.data.shape == token.box.shape[::-1]
    # The file's i and k run against the shown x and z, j along y.
    first = inspected.image.data_to_world(
        (28 - token.box.stop[2], token.box.start[1], 32 - token.box.stop[0])
    )
    assert outline.translate == pytest.approx(first)
    assert inspected.viewer.layers.selection.active is not outline


def test_the_stage_is_named_in_its_colour_and_a_new_result_read_again(
    inspected: Inspected,
) -> None:
    pane, tokens = inspected.widget.token, inspected.shown.segmentation.tokens
    at = tokens.on_input_grid(tokens.pruned_at)
    i, j, k = map(int, np.argwhere(at == 4)[0])
    pane.show_voxel((i, j, k))
    assert "kept to the end, after 3 stages" in pane.values["fate"].text()
    i, j, k = map(int, np.argwhere(at == 2)[0])
    pane.show_voxel((i, j, k))
    assert "pruned at stage 2 of 3" in pane.values["fate"].text()
    assert bytes(stage_colour(2)).hex() in pane.values["fate"].text()
    assert [row[1] is None for row in pane.stages.rows()] == [False, False, True]
    inspected.publish(1.0)
    assert "kept to the end" in pane.values["fate"].text()
    assert None not in [row[1] for row in pane.stages.rows()]


def test_a_click_holds_the_token_until_the_pointer_is_followed_again(inspected: Inspected) -> None:
    pane = inspected.widget.token
    inspected.point_at(HERE, click=True)
    assert pane.voxel() == HERE
    assert not pane.follow.isChecked()
    inspected.point_at(THERE)
    inspected.qtbot.wait(100)
    assert pane.voxel() == HERE
    inspected.qtbot.mouseClick(pane.follow, Qt.MouseButton.LeftButton, pos=QPoint(8, 8))
    assert pane.follow.isChecked()
    inspected.follow(BACK)


def test_in_3d_a_click_meets_the_first_voxel_that_is_coloured(inspected: Inspected) -> None:
    viewer, pane = inspected.viewer, inspected.widget.token
    labels = inspected.layer("labels")
    data = np.zeros(labels.data.shape, np.uint8)  # shown (z, y, x)
    data[:, 20:30, :] = 7
    labels.data = data
    viewer.dims.ndisplay = 3
    viewer.scene.camera.set_view_direction((0, 1, 0), (1, 0, 0))  # along y, towards the back
    canvas = viewer.window._qt_viewer.canvas.native
    inspected.qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=canvas.rect().center())
    assert pane.voxel() is not None
    assert pane.voxel()[1] == 20
    assert pane.voxel()[0] == pytest.approx(16, abs=1)
    assert inspected.layer("token").bounding_box.visible

    labels.data = np.zeros(labels.data.shape, np.uint8)  # background: transparent
    held = pane.voxel()
    inspected.qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=canvas.rect().center())
    assert pane.voxel() == held


def test_in_3d_a_click_on_a_box_tells_its_token(inspected: Inspected) -> None:
    viewer, pane = inspected.viewer, inspected.widget.token
    inspected.layer("labels").visible = False
    token_display(viewer).setValue(("importance", 1))
    viewer.dims.ndisplay = 3
    layers = viewer.layers
    inspected.qtbot.waitUntil(lambda: "scan kept tokens" in layers, timeout=30_000)
    viewer.scene.camera.set_view_direction((0, 1, 0), (1, 0, 0))
    middles = inspected.layer("kept tokens").metadata["tokensparse_boxes"]
    canvas = viewer.window._qt_viewer.canvas.native
    for away in (20, 40, 60, 80):  # the middle lies between boxes
        if pane.voxel() is None:
            where = canvas.rect().center() + QPoint(away, away)
            inspected.qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=where)
    assert pane.voxel() is not None
    assert list(pane.voxel()) in middles.tolist()
    assert "pruned at stage 1" not in pane.values["fate"].text()


def test_a_closed_pane_hears_no_more_of_the_mouse(inspected: Inspected) -> None:
    viewer = inspected.viewer
    listening = len(viewer.mouse_move_callbacks), len(viewer.mouse_drag_callbacks)
    viewer.window.remove_dock_widget(inspected.widget)
    inspected.qtbot.waitUntil(
        lambda: (
            (len(viewer.mouse_move_callbacks), len(viewer.mouse_drag_callbacks))
            == (listening[0] - 1, listening[1] - 1)
        ),
        timeout=60_000,
    )


def test_rows_hold_dashes_for_stages_that_a_token_did_not_reach() -> None:
    scores = (StageScore(0.5, 0.75, 2, 5, True), StageScore(0.25, 0.0, 3, 3, False))
    assert stage_rows(scores, 3) == [
        [1, 0.5, 75.0, "2 of 5"],
        [2, 0.25, 0.0, "3 of 3"],
        [3, None, None, None],
    ]


@pytest.mark.parametrize(
    ("known", "text"),
    [(True, "L 9.5, A 27.0, S 0.5 mm"), (False, "-9.5, 27.0, 0.5 mm; orientation unknown")],
)
def test_a_position_names_sides_where_they_are_known(known: bool, text: str) -> None:
    assert position_text((-9.5, 27.0, 0.5), known) == text
