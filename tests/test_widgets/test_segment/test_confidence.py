"""How sure the network is: a layer, and a list of places that the view goes to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_tokensparse.contributions.reader import volume_layers
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.volumes.placement import placement_of

if TYPE_CHECKING:
    from conftest import Opened, Scanned

pytestmark = pytest.mark.gui


def test_confidence_is_a_layer_on_the_images_grid_and_its_doubts_are_gone_to(
    opened: Opened, scanned: Scanned
) -> None:
    widget, viewer, qtbot = opened.widget, opened.viewer, opened.qtbot
    ((array, said, _),) = volume_layers(scanned.volume)
    image = viewer.add_image(array, **said)
    _, inspector = viewer.window.add_plugin_dock_widget("napari-tokensparse", "Token inspector")
    pane = inspector.doubt
    widget.model.setValue(scanned._folder)
    opened.segment()
    assert "scan confidence" not in viewer.layers
    assert pane.said.text().startswith("Nothing to list yet: tick Confidence")
    assert not pane.button.isEnabled()

    widget.confidence.setChecked(True)
    opened.segment()
    layer = viewer.layers["scan confidence"]
    assert tuple(layer.contrast_limits) == (0, 255) and layer.scale.tolist() == image.scale.tolist()
    wanted = segment(scanned.volume, scanned.network, 0.5, confidence=True).confidence
    placement = placement_of(scanned.volume.affine, scanned.volume.shape)
    shown = placement.unview(layer.data).astype(int)
    np.testing.assert_allclose(shown, wanted, atol=1)  # networks are run in other orders

    inspector.tabs.setCurrentWidget(pane)
    pane.below.setValue(100.0 * np.median(wanted) / 255)
    qtbot.mouseClick(pane.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: pane._listed is not None, timeout=30_000)
    _, doubts = pane._listed
    assert len(doubts) > 0 and f"{len(doubts)} place" in pane.said.text()
    table, last = pane.table, len(doubts) - 1
    row = table.visualRect(table.model().index(last, 0))
    table.scrollTo(table.model().index(last, 0))
    row = table.visualRect(table.model().index(last, 0))
    qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=row.center())
    shown = placement.to_shown(doubts[last].voxel, scanned.volume.shape)
    assert viewer.dims.point[-3:] == pytest.approx(image.data_to_world(shown))
    marked, voxel_mm3 = viewer.layers["scan component"], 2.0
    assert marked.visible and marked.data.sum() * voxel_mm3 == pytest.approx(doubts[last].mm3)
    sides = table.item(last, 3).text(), table.item(last, 4).text(), table.item(last, 5).text()
    assert all(text[0] in ends for text, ends in zip(sides, ("LR", "AP", "IS"), strict=True))
