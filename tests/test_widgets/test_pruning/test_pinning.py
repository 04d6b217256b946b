"""Pins by clicks in the Token inspector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_tokensparse.volumes.placement import shown_placement
from napari_tokensparse.widgets.pruning.pinning import pin_box
from napari_tokensparse.widgets.results import results_of

if TYPE_CHECKING:
    from conftest import Inspected

pytestmark = pytest.mark.gui


def test_a_click_keeps_a_token_another_drops_it_and_undo_takes_it_back(
    inspected: Inspected,
) -> None:
    viewer, pane, qtbot = inspected.viewer, inspected.widget.token, inspected.qtbot
    assert not pane.keep.isEnabled()
    chosen: list[tuple[str, int]] = []
    results_of(viewer).pinned.connect(lambda pinned: chosen.append((pinned[0].name, pinned[1])))
    pane.show_voxel((9, 10, 11))
    tokens, volume = inspected.shown.segmentation.tokens, inspected.shown.volume
    token = np.zeros(tokens.pruned_at.shape, np.uint8)
    token[tokens.token_of((9, 10, 11))] = 1
    expected = shown_placement(volume).view(tokens.on_input_grid(token))

    qtbot.mouseClick(pane.keep, Qt.MouseButton.LeftButton)
    keep = viewer.layers["scan keep"]
    assert np.array_equal(keep.data, expected)
    np.testing.assert_array_equal(keep.translate, inspected.image.translate)
    assert viewer.layers.selection.active is keep and "scan keep" in pane.message.text()
    keep.undo()
    assert not keep.data.any()
    keep.redo()
    qtbot.mouseClick(pane.drop, Qt.MouseButton.LeftButton)
    assert np.array_equal(viewer.layers["scan drop"].data, expected) and not keep.data.any()
    assert chosen == [("scan keep", 1), ("scan drop", -1)]

    viewer.layers["scan drop"].scale = (7, 7, 7)
    before = viewer.layers["scan drop"].data.copy()
    pane.show_voxel((1, 1, 1))
    qtbot.mouseClick(pane.drop, Qt.MouseButton.LeftButton)
    assert pane.message.text().startswith("scan drop: lies on another grid than scan")
    assert np.array_equal(viewer.layers["scan drop"].data, before)
    viewer.layers.remove(inspected.image)
    with pytest.raises(ValueError, match="scan was removed"):
        pin_box(viewer, inspected.image, volume, tokens.box((0, 0, 0)), 1)
