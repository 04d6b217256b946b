"""The Class list by clicks in a real viewer."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_tokensparse.outputs.classresults import class_results
from napari_tokensparse.widgets import ClassListWidget
from napari_tokensparse.widgets.canvas.surfaces import surfaces_of
from napari_tokensparse.widgets.classes.model import Column
from napari_tokensparse.widgets.fitting import dock_of
from napari_tokensparse.widgets.locks import locked_values

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from test_classes.conftest import Listed

    from conftest import Opened

pytestmark = pytest.mark.gui


def test_a_row_says_colour_name_volume_and_kept(listed: Listed) -> None:
    shown = listed.inspected.shown
    (seven,) = class_results(shown.segmentation, shown.volume, shown.network.info)
    assert listed.text(Column.NAME) == "seven"
    assert listed.text(Column.ML) == f"{seven.ml:.3g}"
    assert listed.text(Column.KEPT) == f"{100 * seven.kept:.3g}"
    assert listed.index(Column.NAME).data(Qt.ItemDataRole.DecorationRole).name() == "#ff0000"
    assert "seven (7)" in listed.index(Column.NAME).data(Qt.ItemDataRole.ToolTipRole)


def test_volumes_follow_what_is_painted(listed: Listed) -> None:
    layer, before = listed.layer, int(np.count_nonzero(listed.layer.data == 7))
    empty = np.argwhere(layer.data == 0)[0]
    layer.selected_label, layer.brush_size = 7, 1
    layer.paint(empty, 7)
    listed.wait_for(before + 1)


def test_a_tick_hides_the_class_and_another_shows_it(listed: Listed) -> None:
    def alpha() -> float:
        return float(listed.layer.colormap.map(np.array([7]))[0, 3])

    assert alpha() == 1
    listed.click(Column.NAME, tick=True)
    assert alpha() == 0 and not listed.widget.all.isChecked()
    listed.inspected.publish(0.25)
    assert alpha() == 0  # a later run leaves it hidden
    listed.widget.all.click()
    assert alpha() == 1


def test_a_tick_takes_a_surface_out_of_the_picture_and_brings_it_back_as_it_was(
    listed: Listed,
) -> None:
    viewer, said = listed.inspected.viewer, []
    viewer.dims.ndisplay = 3
    listed.inspected.qtbot.waitUntil(lambda: "scan surfaces" in viewer.layers, timeout=60_000)
    surface = listed.inspected.layer("surfaces")
    surface.shading = "none"  # a person's choice stays too
    surfaces_of(viewer).said.connect(said.append)

    def red() -> int:
        picture = viewer.screenshot(flash=False).astype(int)
        return int(np.count_nonzero(picture[..., 0] > picture[..., 1] + 100))

    before, centre = red(), viewer.scene.camera.center
    assert before > 100
    listed.click(Column.NAME, tick=True)
    assert red() == 0
    listed.click(Column.NAME, tick=True)
    assert red() == pytest.approx(before, rel=0.01)  # marks of sides lie over it
    assert surface in viewer.layers and said == []  # nothing was made anew
    assert viewer.scene.camera.center == centre  # nor is it gone to, as by a click on its name


def test_a_click_on_a_row_goes_there(listed: Listed) -> None:
    viewer = listed.inspected.viewer
    viewer.dims.set_point(0, viewer.dims.range[0].start)
    listed.click(Column.ML)
    at = np.rint(listed.layer.world_to_data(viewer.dims.point)).astype(int)
    assert listed.layer.data[tuple(at)] == 7


def test_a_lock_is_in_the_labels_metadata(listed: Listed) -> None:
    listed.click(Column.LOCK, tick=True)
    assert locked_values(listed.layer.metadata) == {7}
    listed.click(Column.LOCK)  # beside the tick
    assert locked_values(listed.layer.metadata) == frozenset()


def test_the_status_bar_names_the_class_whatever_is_selected(listed: Listed) -> None:
    inspected, pointed = listed.inspected, listed.widget.pointed
    inspected.viewer.layers.selection.active = inspected.image
    labels = inspected.shown.segmentation.labels
    i, j, k = np.argwhere(labels == 7)[len(np.argwhere(labels == 7)) // 2].tolist()

    def named() -> bool:
        inspected.point_at((i, j, k))
        return pointed.text().startswith("seven ")

    inspected.qtbot.waitUntil(named, timeout=30_000)
    x, y, _ = (inspected.shown.volume.affine @ [i, j, k, 1])[:3]
    where = f"{'LR'[int(x > 0)]} {abs(x):.1f}, {'PA'[int(y > 0)]} {abs(y):.1f}"
    assert where in pointed.text()
    assert pointed.line.window() is listed.widget.window()


def test_the_table_and_the_surfaces_are_saved(
    listed: Listed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suggested: list[str] = []

    def ask(_parent: Any, _title: str, name: str, _formats: str) -> tuple[str, str]:
        suggested.append(name.rpartition("/")[2])
        return str(tmp_path / suggested[-1]), ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", ask)
    qtbot, save = listed.inspected.qtbot, listed.widget.save
    qtbot.mouseClick(save.table_button, Qt.MouseButton.LeftButton)
    with (tmp_path / "scan_classes.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    result = listed.widget.model.row(0).result
    assert result is not None
    assert (row["name"], float(row["volume_ml"])) == ("seven", pytest.approx(result.ml))
    qtbot.mouseClick(save.mesh_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: (tmp_path / "scan_surfaces.ply").exists(), timeout=30_000)
    assert (tmp_path / "scan_surfaces.ply").read_bytes().startswith(b"ply\n")
    assert suggested == ["scan_classes.csv", "scan_surfaces.ply"]


def test_it_opens_by_itself_with_a_run_and_again_after_it_was_closed(
    opened: Opened, write_nano: Callable[..., Path]
) -> None:
    scan = np.random.default_rng(0).integers(1, 200, (32, 30, 28)).astype(np.uint8)
    opened.viewer.add_image(scan, name="scan")
    opened.widget.model.setValue(write_nano())
    main = opened.widget.window()
    assert main.findChild(ClassListWidget) is None
    opened.segment()
    listed = main.findChild(ClassListWidget)
    opened.qtbot.waitUntil(listed.isVisible, timeout=60_000)
    dock_of(listed).close()
    assert not listed.isVisible()
    opened.segment()
    opened.qtbot.waitUntil(main.findChild(ClassListWidget).isVisible, timeout=60_000)
    assert len(main.findChildren(ClassListWidget)) == 1
