"""The Batch widget in a real viewer, driven by clicks."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_tokensparse.widgets.batch.control import batch_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from napari_tokensparse.widgets import BatchWidget

pytestmark = pytest.mark.gui

A_RUN_MS = 120_000


@dataclass(frozen=True)
class Opened:
    """A window that shows the Batch widget."""

    viewer: Any
    widget: BatchWidget
    qtbot: QtBot

    def click(self, button: str = "button") -> None:
        self.qtbot.mouseClick(getattr(self.widget, button), Qt.MouseButton.LeftButton)

    def finish(self) -> None:
        self.qtbot.waitUntil(lambda: not batch_of(self.viewer).is_busy, timeout=A_RUN_MS)

    def column(self, number: int) -> list[Any]:
        return [row[number] for row in self.widget.table.rows()]


def write_scan(path: Path, seed: int, depth: int = 32) -> None:
    grey = np.random.default_rng(seed).integers(1, 200, (32, 32, depth)).astype(np.uint8)
    nib.save(nib.Nifti1Image(grey, np.eye(4)), path)


@pytest.fixture
def opened(
    make_napari_viewer: Callable[..., Any],
    qtbot: QtBot,
    tmp_path: Path,
    nano: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Opened]:
    """Open a viewer with the Batch widget, set to three scans of which one is none."""
    monkeypatch.setenv("TOKENSPARSE_MODELS", str(tmp_path / "models"))
    (tmp_path / "scans").mkdir()
    write_scan(tmp_path / "scans/one.nii", 1)
    write_scan(tmp_path / "scans/two.nii", 2, depth=96)
    (tmp_path / "scans/broken.nii").write_bytes(b"no scan")
    viewer = make_napari_viewer(show=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-tokensparse", "Batch")
    widget.source.setValue(tmp_path / "scans")
    widget.model.setValue(nano)
    widget.device.setValue("cpu")
    yield Opened(viewer, widget, qtbot)
    batch_of(viewer).cancel()  # a test that failed in the middle: closing would ask
    qtbot.waitUntil(lambda: not batch_of(viewer).is_busy, timeout=A_RUN_MS)


def test_a_folder_is_segmented_by_one_click_and_a_second_one_makes_nothing_anew(
    opened: Opened, tmp_path: Path
) -> None:
    widget, output = opened.widget, tmp_path / "scans-labels"
    assert widget.output.value() == output  # beside the scans, until a person gives another
    assert widget.keep_ratio.value() == 0.5  # the model's own
    opened.click()
    assert widget.button.text() == "Cancel"
    assert not widget.settings.isEnabled()
    opened.finish()
    assert widget.button.text() == "Segment all" and widget.settings.isEnabled()
    assert opened.column(0) == ["broken", "one", "two"]  # what failed stands first
    assert opened.column(1) == ["failed", "done", "done"]
    assert "broken.nii" in opened.column(4)[0]
    assert all(0 < kept < 100 for kept in opened.column(3)[1:])
    first, counted, why, where = widget.message.text().splitlines()
    assert (first, counted) == ("All scans are through.", "1 failed, 2 done.")
    assert why.startswith("broken: broken.nii: ")
    assert where == f"Labels and summary.csv are in {output}."
    with (output / "summary.csv").open(encoding="utf-8") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["failed", "done", "done"]
    assert {path.name for path in output.glob("*_labels.nii.gz")} == {
        "one_labels.nii.gz",
        "two_labels.nii.gz",
    }

    written = (output / "two_labels.nii.gz").read_bytes()
    by_hand = nib.Nifti1Image(np.ones((32, 32, 32), np.uint8), np.eye(4))
    nib.save(by_hand, output / "one_labels.nii.gz")
    mine = (output / "one_labels.nii.gz").read_bytes()
    opened.click()
    opened.finish()
    assert opened.column(1) == ["failed", "changed by hand", "skipped"]
    assert (output / "one_labels.nii.gz").read_bytes() == mine
    assert (output / "two_labels.nii.gz").read_bytes() == written

    assert not widget.show_scan.isEnabled()
    cell = widget.table.visualItemRect(widget.table.item(2, 0)).center()
    opened.qtbot.mouseClick(widget.table.viewport(), Qt.MouseButton.LeftButton, pos=cell)
    opened.click("show_scan")
    assert [layer.name for layer in opened.viewer.layers] == ["two", "two_labels"]
    labels = opened.viewer.layers["two_labels"]
    assert labels.colormap.map(7).tolist() == [1, 0, 0, 1]  # the model's, and its name
    assert labels.features["name"].tolist()[-1] == "seven"


def test_scans_are_pruned_by_importance_where_a_person_wants_it(
    opened: Opened, tmp_path: Path
) -> None:
    widget, pruning = opened.widget, opened.widget.pruning
    (tmp_path / "scans/broken.nii").unlink()
    assert not pruning.importance.isVisible()
    opened.qtbot.keyClicks(pruning.rule, "Importance")
    assert pruning.importance.isVisible() and not widget.keep_ratio.isVisible()
    pruning.importance.setValue(0.4)
    opened.click()
    opened.finish()
    assert opened.column(1) == ["done", "done"]
    receipt = json.loads((tmp_path / "scans-labels/two_labels.receipt.json").read_text())
    assert receipt["options"]["importance"] == 0.4
    assert "--importance 0.4" in receipt["command"]
    opened.viewer.window.remove_dock_widget(widget)
    _, again = opened.viewer.window.add_plugin_dock_widget("napari-tokensparse", "Batch")
    assert again.pruning.least == 0.4


def test_work_goes_on_while_the_dock_is_closed_and_a_new_one_shows_and_cancels_it(
    opened: Opened, tmp_path: Path
) -> None:
    for number in range(12):
        write_scan(tmp_path / f"scans/more {number:02}.nii", number, depth=96)
    opened.click()
    batch = batch_of(opened.viewer)
    opened.qtbot.waitUntil(lambda: bool(batch.log and batch.log.results), timeout=A_RUN_MS)
    opened.viewer.window.remove_dock_widget(opened.widget)
    before = len(batch.log.results)
    opened.qtbot.waitUntil(
        lambda: len(batch.log.results) > before or not batch.is_busy, timeout=A_RUN_MS
    )
    _, again = opened.viewer.window.add_plugin_dock_widget("napari-tokensparse", "Batch")
    assert again is not opened.widget
    assert again.source.value() == tmp_path / "scans"
    assert batch.is_busy and again.button.text() == "Cancel"
    opened.qtbot.waitUntil(again.progress.isVisible, timeout=60_000)
    assert again.message.text().startswith("Scan ")
    assert "left" in again.message.text()

    opened.qtbot.mouseClick(again.button, Qt.MouseButton.LeftButton)
    assert again.message.text() == "Cancelling after this window …"
    opened.qtbot.waitUntil(lambda: not batch.is_busy, timeout=A_RUN_MS)
    output = tmp_path / "scans-labels"
    assert again.message.text().startswith("Cancelled; ")
    rows = range(again.table.rowCount())
    statuses = {again.table.item(row, 1).text() for row in rows}
    assert "not run" in statuses and not statuses & {"waiting", "at work"}
    assert (output / "summary.csv").is_file()
    assert not list(output.glob(".tokensparse-*"))  # what was not finished is gone
    assert len(list(output.glob("*_labels.nii.gz"))) == sum(
        result.status == "done" for result in batch.log.results.values()
    )


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("source", "No scans: choose a folder or a list of scans."),
        ("output", "No folder for the labels: choose one."),
    ],
)
def test_what_is_missing_is_said_in_one_line(opened: Opened, field: str, said: str) -> None:
    getattr(opened.widget, field).edited.emit()
    getattr(opened.widget, field).setValue(None)
    opened.widget.output.setValue(None)
    opened.click()
    assert opened.widget.message.text() == said
    assert not batch_of(opened.viewer).is_busy


def test_a_folder_without_scans_is_said_in_one_line(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    line = opened.widget.source.line
    line.clear()
    opened.qtbot.keyClicks(line, str(tmp_path / "empty"))  # of which "/" is the beginning
    assert opened.widget.output.value() == tmp_path / "empty-labels"
    opened.click()
    opened.finish()
    assert opened.widget.message.text() == f"{tmp_path / 'empty'}: no scan is there; check the path"
