"""Surfaces of classes in 3-D, in a real viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from napari.utils.colormaps import label_colormap

from napari_tokensparse.volumes.region import Box
from napari_tokensparse.widgets.canvas.display import token_display
from napari_tokensparse.widgets.canvas.surfaces import enclosing, surfaces_of
from napari_tokensparse.widgets.layers import OUTER_SURFACES, SCAN_SURFACE, class_colours

if TYPE_CHECKING:
    from typing import Any

    from conftest import Inspected

pytestmark = pytest.mark.gui


def solid(inspected: Inspected) -> Any:
    """Go to 3-D, and wait for the surfaces."""
    surfaces_of(inspected.viewer)
    inspected.viewer.dims.ndisplay = 3
    layers = inspected.viewer.layers
    inspected.qtbot.waitUntil(lambda: "scan surfaces" in layers, timeout=60_000)
    return inspected.layer("surfaces")


def test_what_lies_all_round_others_is_seen_through_and_what_bends_round_them_is_not() -> None:
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[2:38, 2:38, 2:38] = 1
    labels[5:35, 5:35, 5:] = 0  # a shell, open at one side
    labels[10:30, 10:14, 10:30] = 2
    labels[10:30, 10:30, 10:14] = 2  # an angle, whose box holds the whole of the third
    labels[18:22, 18:22, 18:22] = 3
    boxes = {
        1: Box((2, 2, 2), (38, 38, 38)),
        2: Box((10, 10, 10), (30, 30, 30)),
        3: Box((18, 18, 18), (22, 22, 22)),
    }
    assert enclosing(labels, boxes) == {1}
    labels[2:5] = 0  # the shell is open at two
    assert enclosing(labels, boxes) == set()


def test_in_3d_a_surface_stands_for_labels_where_they_lie(inspected: Inspected) -> None:
    labels, image = inspected.layer("labels"), inspected.image
    layer = solid(inspected)
    assert (labels.visible, image.visible) == (False, False)
    assert f"scan {OUTER_SURFACES}" not in inspected.viewer.layers  # one class hides no other
    around = inspected.layer(SCAN_SURFACE)  # or it would float in nothing
    assert around.opacity == 0.2
    reach = np.ptp([around.data_to_world(v) for v in around.data[0]], axis=0)
    assert np.abs(reach - np.array(image.data.shape) * image.scale).max() <= 4  # mm
    assert np.unique(layer.vertex_colors, axis=0).tolist() == [[1, 0, 0, 1]]
    here = np.argwhere(labels.data == 7)
    low, high = (labels.data_to_world(end) for end in (here.min(axis=0), here.max(axis=0)))
    surface = np.array([layer.data_to_world(v) for v in layer.data[0]])
    side = np.array(labels.scale)
    assert (np.abs(surface.min(axis=0) - low) <= 1.5 * side).all()
    assert (np.abs(surface.max(axis=0) - high) <= 1.5 * side).all()
    inspected.viewer.dims.ndisplay = 2
    assert (labels.visible, image.visible) == (True, True)
    assert "scan surfaces" not in inspected.viewer.layers
    assert f"scan {SCAN_SURFACE}" not in inspected.viewer.layers


def test_hidden_classes_have_no_surface_and_edits_are_followed(inspected: Inspected) -> None:
    labels, viewer = inspected.layer("labels"), inspected.viewer
    before = len(solid(inspected).data[0])
    info = inspected.shown.network.info
    labels.colormap = class_colours(info, hidden={7})
    assert len(inspected.layer("surfaces").data[1]) == 0
    viewer.dims.ndisplay = 2
    assert len(solid(inspected).data[1]) == 0
    labels.colormap = label_colormap()  # napari's own, which a person may choose
    assert len(inspected.layer("surfaces").data[1]) > 0
    viewer.dims.ndisplay = 2
    labels.data[:10] = 0
    assert len(solid(inspected).data[0]) != before


def test_boxes_of_tokens_lie_below_surfaces_so_that_these_are_seen_through(
    inspected: Inspected,
) -> None:
    solid(inspected)
    token_display(inspected.viewer).setValue(("pruned at", 1))
    layers = inspected.viewer.layers
    inspected.qtbot.waitUntil(lambda: "scan kept tokens" in layers, timeout=30_000)
    names = [layer.name for layer in layers]
    assert names.index("scan kept tokens") < names.index("scan surfaces")


def test_it_can_be_switched_off(inspected: Inspected) -> None:
    solid(inspected)
    surfaces_of(inspected.viewer).set_shown(False)
    assert inspected.layer("labels").visible
    assert "scan surfaces" not in inspected.viewer.layers
