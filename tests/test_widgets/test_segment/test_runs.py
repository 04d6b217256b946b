"""The list of runs: by clicks in a real viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt

from napari_tokensparse.widgets.history.history import history_of
from napari_tokensparse.widgets.history.record import mean_dice
from napari_tokensparse.widgets.results import results_of
from napari_tokensparse.widgets.showing import labels_layer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Opened

pytestmark = pytest.mark.gui


def rows(opened: Opened) -> list[list[str]]:
    """Return what the list shows."""
    model = opened.widget.runs.table.model()
    return [
        [model.data(model.index(row, column)) for column in range(model.columnCount())]
        for row in range(model.rowCount())
    ]


def click_row(opened: Opened, row: int) -> None:
    table = opened.widget.runs.table
    place = table.visualRect(table.model().index(row, 0)).center()
    opened.qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(place))


def click(opened: Opened, button: Any) -> None:
    opened.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def compared(opened: Opened) -> None:
    """Wait until every run is compared."""
    opened.qtbot.waitUntil(lambda: all(r[-1] != "–" for r in rows(opened)), timeout=30_000)


@pytest.fixture
def two_runs(opened: Opened, write_nano: Callable[..., Path]) -> Opened:
    """Open a viewer with a scan that was segmented at keep ratios 0.02 and 1."""
    scan = np.random.default_rng(0).integers(1, 200, (40, 48, 32)).astype(np.uint8)
    opened.viewer.add_image(scan, name="scan")
    opened.widget.model.setValue(write_nano())
    assert not opened.widget.runs.box.isVisible()
    opened.widget.confidence.setChecked(True)
    for ratio in (0.02, 1.0):
        opened.widget.keep_ratio.setValue(ratio)
        opened.segment()
    return opened


def test_a_run_is_listed_compared_brought_back_and_laid_beside_another(two_runs: Opened) -> None:
    viewer, runs = two_runs.viewer, two_runs.widget.runs
    history, latest = history_of(viewer), results_of(viewer)
    first, second = (run.given.array() for run in history.runs)
    assert runs.box.isVisible() and len(history.runs) == 2
    opened_rows = [row[:3] for row in rows(two_runs)]
    assert opened_rows == [["2", "nano", "1"], ["1", "nano", "0.05"]]

    compared(two_runs)
    dice = mean_dice(first, second, [7])
    assert dice is not None and 0 < dice < 1
    assert [row[-1] for row in rows(two_runs)] == [
        f"{dice:.3f}, run 1",
        f"{dice:.3f}, keep 1",
    ]

    click_row(two_runs, 1)
    click(two_runs, runs.show_button)
    back = viewer.layers["scan labels · keep 0.05"]
    assert back.visible and not viewer.layers["scan labels"].visible
    assert np.array_equal(back.data, first.T) or np.array_equal(back.data, first)
    assert viewer.layers.selection.active is back
    assert latest.latest is not None
    assert np.array_equal(latest.latest.segmentation.labels, first)
    pruned = latest.latest.segmentation.tokens
    sure = latest.latest.segmentation.confidence
    assert sure is not None and sure.shape == first.shape and sure.any()
    shown = viewer.layers["scan pruned at"].data
    assert shown.max() == pruned.pruned_at.max()

    click(two_runs, runs.show_button)  # it is there already
    names = [layer.name for layer in viewer.layers if "labels" in layer.name]
    assert names == ["scan labels", "scan labels · keep 0.05"]

    viewer.layers.selection.active = viewer.layers["scan"]
    click(two_runs, runs.compare_button)  # nothing else is in view, so its reference is shown
    assert viewer.canvas.grid.enabled and viewer.canvas.grid.shape == (1, 2)
    assert viewer.layers["scan labels"].visible and back.visible
    assert viewer.layers[-1] is back or viewer.layers[-2] is back
    cells = viewer.canvas.grid.position(viewer.layers.index(back), viewer.layers)
    assert runs.compare_button.isChecked() and not two_runs.widget.beside.isChecked()
    other = viewer.layers.index(viewer.layers["scan labels"])
    assert cells != viewer.canvas.grid.position(other, viewer.layers)
    assert viewer.layers.selection.active.name == "scan"
    click(two_runs, runs.compare_button)  # what was shown to be compared would mix with the other
    two_runs.qtbot.waitUntil(lambda: not viewer.layers["scan labels"].visible, timeout=5_000)
    assert back.visible and two_runs.widget.message.text() == ""
    click(two_runs, runs.compare_button)
    click(two_runs, two_runs.widget.beside)  # tokens take the place of the comparison
    assert not viewer.layers["scan labels"].visible
    assert two_runs.widget.beside.isChecked() and not runs.compare_button.isChecked()
    assert sum("beside tokens" in layer.name for layer in viewer.layers) == 1
    click(two_runs, runs.compare_button)
    click(two_runs, runs.compare_button)
    assert not viewer.canvas.grid.enabled and not two_runs.widget.beside.isChecked()


def test_a_run_that_edits_were_kept_in_is_found_again_by_its_layer(two_runs: Opened) -> None:
    viewer, widget = two_runs.viewer, two_runs.widget
    first = viewer.layers["scan labels"]
    first.paint((20, 24, 16), 7 - first.data[20, 24, 16])
    click(two_runs, widget.runs.keep_edits)
    two_runs.segment()  # run 3, into the layer that was edited
    click(two_runs, widget.runs.keep_edits)
    two_runs.segment()  # run 4 gets a layer of its own
    latest = results_of(viewer).latest
    assert latest is not None and labels_layer(viewer, latest) is viewer.layers["scan labels 2"]
    click_row(two_runs, 1)
    click(two_runs, widget.runs.show_button)
    latest = results_of(viewer).latest
    assert latest is not None and latest.run == 3
    assert labels_layer(viewer, latest) is first and first.visible
    assert not viewer.layers["scan labels 2"].visible


def test_the_list_outlives_the_image_and_the_widget(two_runs: Opened) -> None:
    viewer, runs = two_runs.viewer, two_runs.widget.runs
    history = history_of(viewer)
    labels = history.runs[0].put.array()
    viewer.layers.remove("scan")
    assert all(run.shown() is None for run in history.runs)
    click_row(two_runs, 1)
    click(two_runs, runs.compare_button)
    assert "was removed" in two_runs.widget.message.text()
    click(two_runs, runs.show_button)
    assert np.array_equal(viewer.layers["scan labels · keep 0.05"].data, labels)
    assert runs.undo.isEnabled()
    viewer.layers.clear()
    assert not runs.undo.isEnabled()  # nothing of it is left
    _, again = viewer.window.add_plugin_dock_widget("napari-tokensparse", "Segment")
    assert history_of(viewer) is history and len(history.runs) == 2
    assert again.runs.table.model().rowCount() == 2


def test_the_oldest_run_is_forgotten(two_runs: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_tokensparse.widgets.history.history.MOST_RUNS", 2)
    two_runs.segment()
    assert [row[0] for row in rows(two_runs)] == ["3", "2"]
    monkeypatch.setattr("napari_tokensparse.widgets.history.history.MOST_BYTES", 1)
    two_runs.segment()
    assert [row[0] for row in rows(two_runs)] == ["4"]
