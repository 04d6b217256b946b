"""What a person did to layers is never lost: driven by clicks in a real viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Labels
from qtpy.QtCore import Qt

from napari_tokensparse.widgets.canvas.display import token_display
from napari_tokensparse.widgets.locks import locked_values, with_lock
from napari_tokensparse.widgets.results import results_of
from napari_tokensparse.widgets.showing import (
    KEPT_KEY,
    checksum,
    edited_voxels,
    is_edited,
    labels_layer,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Opened

pytestmark = pytest.mark.gui


@pytest.fixture
def segmented(opened: Opened, write_nano: Callable[..., Path]) -> Opened:
    """Open a viewer with a scan that was segmented once."""
    scan = np.random.default_rng(0).integers(1, 200, (40, 48, 32)).astype(np.uint8)
    opened.viewer.add_image(scan, name="scan")
    opened.widget.model.setValue(write_nano())
    opened.segment()
    return opened


def labels_of(opened: Opened) -> list[str]:
    return [layer.name for layer in opened.viewer.layers if "labels" in layer.name]


def paint(layer: Any) -> None:
    """Paint as the mouse does: napari's own brush, which can be undone."""
    layer.selected_label, layer.brush_size = 7, 5
    layer.paint((20, 20, 16), 7)


def test_a_checksum_is_of_values_not_of_memory() -> None:
    data = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    assert checksum(data) == checksum(np.asfortranarray(data)) != checksum(data + 1)
    assert checksum(data[::-1]) == checksum(data[::-1].copy())


def test_untouched_labels_are_updated(segmented: Opened) -> None:
    layer = segmented.viewer.layers["scan labels"]
    before = layer.data
    segmented.widget.keep_ratio.setValue(0.05)
    segmented.segment()
    assert labels_of(segmented) == ["scan labels"]
    assert segmented.viewer.layers["scan labels"] is layer and layer.data is not before


def test_a_renamed_scan_takes_its_results_along_and_renamed_labels_are_found(
    segmented: Opened,
) -> None:
    viewer, latest = segmented.viewer, results_of(segmented.viewer).latest
    assert latest is not None
    before = len(viewer.layers)
    viewer.layers["scan"].name = "patient"
    assert {layer.name.partition(" ")[0] for layer in viewer.layers} == {"patient"}
    labels = viewer.layers["patient labels"]
    labels.name = "mine"
    assert labels_layer(viewer, latest) is labels
    token_display(viewer).setValue(("importance", 1))
    assert viewer.layers["patient importance 1"].visible and len(viewer.layers) == before
    segmented.segment()
    assert "patient labels" in viewer.layers and labels in viewer.layers  # no one's names change


def test_painted_labels_stay_and_the_next_run_gets_a_layer_of_its_own(segmented: Opened) -> None:
    layer = segmented.viewer.layers["scan labels"]
    paint(layer)
    assert is_edited(layer)
    painted = layer.data.copy()
    segmented.segment()
    assert labels_of(segmented) == ["scan labels", "scan labels 2"]
    assert np.array_equal(layer.data, painted)
    assert "labels are in the layer scan labels 2" in segmented.widget.message.text()
    second = segmented.viewer.layers["scan labels 2"]
    assert second.visible and not layer.visible  # or their colours would mix
    assert "scan labels stays as it is, hidden" in segmented.widget.message.text()
    segmented.segment()  # which is untouched, so it is the one that is updated
    assert labels_of(segmented) == ["scan labels", "scan labels 2"]
    assert segmented.viewer.layers["scan labels 2"] is second


def test_undoing_a_run_shows_the_labels_again_that_it_hid(segmented: Opened) -> None:
    layer = segmented.viewer.layers["scan labels"]
    paint(layer)
    painted = layer.data.copy()
    segmented.segment()
    assert not layer.visible
    segmented.qtbot.mouseClick(segmented.widget.runs.undo, Qt.MouseButton.LeftButton)
    assert labels_of(segmented) == ["scan labels"]
    assert layer.visible and np.array_equal(layer.data, painted)


def test_labels_whose_painting_was_undone_are_untouched(segmented: Opened) -> None:
    layer = segmented.viewer.layers["scan labels"]
    paint(layer)
    layer.undo()
    segmented.segment()
    assert labels_of(segmented) == ["scan labels"]


def test_voxels_changed_by_a_script_count_as_edited(segmented: Opened) -> None:
    layer = segmented.viewer.layers["scan labels"]
    layer.data[3, 4, 5] += 1  # napari hears nothing of it
    segmented.segment()
    assert labels_of(segmented) == ["scan labels", "scan labels 2"]


def test_another_model_gets_a_layer_named_after_it(
    segmented: Opened, write_nano: Callable[..., Path]
) -> None:
    first = segmented.viewer.layers["scan labels"].data.copy()
    segmented.widget.model.setValue(write_nano("bone"))
    segmented.segment()
    assert labels_of(segmented) == ["scan labels", "scan labels · bone"]
    assert np.array_equal(segmented.viewer.layers["scan labels"].data, first)
    segmented.segment()
    assert labels_of(segmented) == ["scan labels", "scan labels · bone"]


def test_a_layer_of_the_users_that_is_called_so_is_not_touched(
    opened: Opened, write_nano: Callable[..., Path]
) -> None:
    own = np.ones((40, 48, 32), np.uint8)
    scan = np.random.default_rng(0).integers(1, 200, own.shape).astype(np.uint8)
    opened.viewer.add_image(scan, name="scan")
    opened.viewer.add_labels(own, name="scan labels")
    opened.widget.model.setValue(write_nano())
    opened.segment()
    assert (opened.viewer.layers["scan labels"].data == 1).all()
    assert len(labels_of(opened)) == 2


def test_a_region_leaves_the_labels_outside_it(segmented: Opened) -> None:
    viewer, widget = segmented.viewer, segmented.widget
    layer = viewer.layers["scan labels"]
    whole = layer.data.copy()
    box = np.array([[10, 10, 8], [10, 10, 20], [10, 30, 20], [10, 30, 8]])
    viewer.add_shapes([box], shape_type="rectangle", name="box", ndim=3)
    widget.keep_ratio.setValue(0.02)  # other labels than before, inside
    widget.region.setCurrentText("box")
    segmented.segment()
    assert labels_of(segmented) == ["scan labels"]
    changed = np.argwhere(layer.data != whole)
    assert len(changed)
    low, high = changed.min(axis=0), changed.max(axis=0)
    assert (low[1:] >= (10, 8)).all() and (high[1:] <= (30, 20)).all()


def test_undo_takes_the_last_run_back(segmented: Opened) -> None:
    viewer, widget = segmented.viewer, segmented.widget
    before = {layer.name: layer.data.copy() for layer in viewer.layers}
    widget.keep_ratio.setValue(0.02)
    segmented.segment()
    assert any(not np.array_equal(before[n], viewer.layers[n].data) for n in before)
    widget.runs.undo.click()
    assert {layer.name for layer in viewer.layers} == set(before)
    assert all(np.array_equal(before[n], viewer.layers[n].data) for n in before)
    assert not widget.runs.undo.isEnabled()
    assert widget.message.text() == "The last run was taken back."


def test_undo_removes_what_the_first_run_added_but_not_what_was_edited(segmented: Opened) -> None:
    viewer, widget = segmented.viewer, segmented.widget
    paint(viewer.layers["scan labels"])
    widget.runs.undo.click()
    assert [layer.name for layer in viewer.layers] == ["scan", "scan labels"]
    assert isinstance(viewer.layers["scan labels"], Labels)
    assert "scan labels was edited since, so it stays." in widget.message.text()


def test_undo_gives_the_layer_its_metadata_back(segmented: Opened) -> None:
    layer = segmented.viewer.layers["scan labels"]
    before = dict(layer.metadata)
    segmented.widget.keep_ratio.setValue(0.02)
    segmented.segment()
    assert layer.metadata != before
    segmented.widget.runs.undo.click()
    assert layer.metadata == before and not is_edited(layer)


def test_a_locked_class_keeps_exactly_its_voxels(segmented: Opened) -> None:
    layer = segmented.viewer.layers["scan labels"]
    before = layer.data == 7
    layer.metadata = with_lock(layer.metadata, 7, True)
    segmented.widget.keep_ratio.setValue(0.02)  # other labels than before
    segmented.segment()
    assert labels_of(segmented) == ["scan labels"]
    assert np.array_equal(layer.data == 7, before)
    assert locked_values(layer.metadata) == {7}  # still
    (said,) = layer.metadata[KEPT_KEY]
    assert said.startswith("kept as seven is locked: ")
    assert f"Note: {said}." in segmented.widget.message.text()
    layer.metadata = with_lock(layer.metadata, 7, False)
    segmented.segment()
    assert not np.array_equal(layer.data == 7, before)


def test_edited_voxels_stay_where_a_person_wants_that(segmented: Opened) -> None:
    layer, widget = segmented.viewer.layers["scan labels"], segmented.widget
    put = layer.data.copy()
    paint(layer)
    painted, edits = layer.data.copy(), layer.data != put
    assert edits.any()
    segmented.qtbot.mouseClick(widget.runs.keep_edits, Qt.MouseButton.LeftButton)
    assert widget.runs.keep_edits.isChecked()
    for ratio in (0.02, 0.5):  # a second run knows them still
        widget.keep_ratio.setValue(ratio)
        segmented.segment()
        assert labels_of(segmented) == ["scan labels"]
        assert np.array_equal(layer.data[edits], painted[edits])
        assert np.array_equal(edited_voxels(layer), edits)
    assert "edited by hand, and so kept" in layer.metadata[KEPT_KEY][0]
    widget.runs.keep_edits.setChecked(False)
    segmented.segment()  # and without the wish they are nobody's to replace
    assert labels_of(segmented) == ["scan labels", "scan labels 2"]
    assert np.array_equal(layer.data[edits], painted[edits])


def test_a_token_map_that_was_painted_and_labels_of_another_shape_are_never_replaced(
    segmented: Opened,
) -> None:
    viewer = segmented.viewer
    pruned, labels = viewer.layers["scan pruned at"], viewer.layers["scan labels"]
    paint(pruned)
    painted = pruned.data.copy()
    labels.data = labels.data[:20]
    segmented.widget.runs.keep_edits.setChecked(True)
    segmented.segment()
    assert np.array_equal(pruned.data, painted) and "scan pruned at 2" in viewer.layers
    assert len(labels.data) == 20 and labels_of(segmented) == ["scan labels", "scan labels 2"]


def test_painting_changes_the_layer_not_the_result(segmented: Opened) -> None:
    latest = results_of(segmented.viewer).latest
    assert latest is not None
    before = latest.segmentation.labels.copy()
    paint(segmented.viewer.layers["scan labels"])
    assert np.array_equal(latest.segmentation.labels, before)
