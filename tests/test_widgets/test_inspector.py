"""The Token inspector as the menu opens it."""

import pytest
from qtpy.QtCore import Qt

from napari_tokensparse.widgets.token_pane import NO_RESULT

pytestmark = pytest.mark.gui


def test_without_a_result_every_pane_says_what_to_do(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-tokensparse", "Token inspector")
    assert [widget.tabs.tabText(n) for n in range(widget.tabs.count())] == ["Token", "Stages"]
    assert widget.token.message.text() == widget.stages.message.text() == NO_RESULT
    assert not widget.stages.cut.isEnabled()
    canvas = viewer.window._qt_viewer.canvas.native
    qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=canvas.rect().center())
    assert widget.token.voxel() is None
    assert len(viewer.layers) == 0
