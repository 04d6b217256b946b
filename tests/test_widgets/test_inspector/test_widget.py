"""The Token inspector as the menu opens it."""

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_tokensparse.widgets.inspector.token_pane import NO_RESULT

pytestmark = pytest.mark.gui


def test_without_a_result_every_pane_says_what_to_do(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-tokensparse", "Token inspector")
    titles = [widget.tabs.tabText(n) for n in range(widget.tabs.count())]
    assert titles == ["Token", "Stages", "Curve", "Audit", "Least sure"]
    assert widget.token.message.text() == widget.stages.message.text() == NO_RESULT
    assert not widget.stages.cut.isEnabled()
    canvas = viewer.window._qt_viewer.canvas.native
    qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=canvas.rect().center())
    assert widget.token.voxel() is None
    assert len(viewer.layers) == 0


def test_a_run_of_the_segment_widget_is_inspected_at_once(write_nano, opened):
    viewer, segment = opened.viewer, opened.widget
    _, widget = viewer.window.add_plugin_dock_widget("napari-tokensparse", "Token inspector")
    viewer.add_image(np.random.default_rng(0).integers(1, 200, (32, 32, 32)), name="scan")
    segment.model.setValue(write_nano())
    opened.segment()
    assert widget.token.message.text() == "Point at scan, or click there to hold a token."
    assert widget.stages.stage.maximum() == 3
    widget.token.show_voxel((3, 5, 30))  # i and j run against the patient's right and front
    assert widget.token.values["position"].text() == "3, 3, 3 of 4 × 4 × 4"
    assert widget.token.values["centre"].text() == "-3.5, -3.5, 27.5 mm; orientation unknown"
