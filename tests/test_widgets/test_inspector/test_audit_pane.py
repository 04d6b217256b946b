"""The Audit pane in a real viewer, driven by clicks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_tokensparse.inspecting.audit import audit
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.volumes.placement import placement_of
from napari_tokensparse.volumes.region import Box
from napari_tokensparse.widgets.inspector.audit_pane import NO_RESULT, NOT_PRUNED, AuditPane
from napari_tokensparse.widgets.results import results_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytestqt.qtbot import QtBot

    from conftest import Inspected

pytestmark = pytest.mark.gui


def open_pane(inspected: Inspected) -> AuditPane:
    pane: AuditPane = inspected.widget.audit
    inspected.widget.tabs.setCurrentWidget(pane)
    return pane


def run(inspected: Inspected, pane: AuditPane) -> None:
    inspected.qtbot.mouseClick(pane.run.button, Qt.MouseButton.LeftButton)
    inspected.qtbot.waitUntil(lambda: not pane.run.is_busy, timeout=60_000)


def test_a_click_audits_the_latest_result(inspected: Inspected) -> None:
    shown, viewer, pane = inspected.publish(0.25), inspected.viewer, open_pane(inspected)
    assert pane.ratio.text() == "scan: 25 % per stage → 1.56 % of tokens reach the end"
    run(inspected, pane)
    expected = inspected.scanned.audited

    layer = viewer.layers["scan difference"]
    view = placement_of(shown.volume.affine, shown.volume.shape).view
    assert np.array_equal(layer.data, view(expected.difference))
    np.testing.assert_array_equal(layer.translate, inspected.image.translate)
    assert layer.colormap.map(np.array([0]))[0, 3] == 0  # what is the same is clear
    assert len({tuple(layer.colormap.map(np.array([n]))[0]) for n in (1, 2, 3)}) == 3
    assert list(layer.features["name"])[1] == "lost: background with pruning"
    maps = [x for x in viewer.layers if x.visible]
    assert [x.name for x in maps] == ["scan", "scan labels", "scan difference"]

    assert pane.smallest.value() == 2  # mm³: a voxel of this model's grid, which is the scan's
    rows = [[c.name, c.change, c.before_mm3, c.after_mm3] for c in expected.components]
    assert [row[:4] for row in pane.components.rows()] == rows
    assert [tuple(row[4:]) for row in pane.components.rows()] == [
        c.centre_mm for c in expected.components
    ]
    assert len(rows) > 0
    (row,) = pane.classes.rows()
    (seven,) = expected.classes
    assert seven.rebuilt is not None and seven.kept is not None
    assert row[:4] == ["seven", seven.before_mm3, seven.after_mm3, seven.dice]
    assert row[4:] == pytest.approx([100 * s for s in (*seven.rebuilt, seven.kept)])
    x, y, z = expected.components[0].centre_mm
    sides = [pane.components.item(0, column).text() for column in (4, 5, 6)]
    letters = ("LR"[x > 0], "PA"[y > 0], "IS"[z > 0])
    assert sides == [f"{s} {abs(mm):.1f}" for s, mm in zip(letters, (x, y, z), strict=True)]
    lost = expected.voxels()["lost"] * 2.0  # mm³ of a voxel
    assert f"lost&nbsp;{lost:.0f}&nbsp;mm³" in pane.summary.text()
    assert f"{len(rows)} components shrank" in pane.run.message.text()


@pytest.mark.parametrize("displayed", [2, 3])
def test_a_click_on_a_component_moves_the_viewer_there(
    inspected: Inspected, displayed: int
) -> None:
    shown, viewer, pane = inspected.publish(0.25), inspected.viewer, open_pane(inspected)
    run(inspected, pane)
    viewer.dims.ndisplay = displayed
    last = pane.components.rowCount() - 1
    item = pane.components.item(last, 1)
    pane.components.scrollToItem(item)
    at = pane.components.visualItemRect(item).center()
    inspected.qtbot.mouseClick(pane.components.viewport(), Qt.MouseButton.LeftButton, pos=at)

    component = inspected.scanned.audited.components[last]
    x, y, z = (shown.volume.affine @ [*component.voxel, 1])[:3]
    assert viewer.dims.point == pytest.approx((z, -y, -x))  # LPS: up, back, left
    centre = viewer.scene.camera.center[-displayed:]
    assert tuple(centre) == pytest.approx((z, -y, -x)[-displayed:])
    where = inspected.image.world_to_data(viewer.dims.point)
    labels = inspected.scanned.segmented(1.0).labels
    run_labels = shown.segmentation.labels
    drawn = run_labels if component.change == "appeared" else labels
    view = placement_of(shown.volume.affine, shown.volume.shape).view
    assert view(drawn)[tuple(np.rint(where).astype(int))] == component.value
    marked = viewer.layers["scan component"]
    voxels = max(component.before_mm3, component.after_mm3) / 2  # mm³ of a voxel
    assert marked.data.sum() == voxels and marked.bounding_box.visible
    here = np.rint(marked.world_to_data(viewer.dims.point)).astype(int)
    assert marked.data[tuple(here)] == 1


def test_small_components_are_hidden_and_how_many_is_told(inspected: Inspected) -> None:
    pane, all_of_them = open_pane(inspected), inspected.scanned.audited.components
    inspected.publish(0.25)
    run(inspected, pane)
    assert pane.hidden.text() == f"0 of {len(all_of_them)} are hidden"
    pane.smallest.setValue(1 + max(max(c.before_mm3, c.after_mm3) for c in all_of_them))
    assert pane.components.rowCount() == 0
    assert pane.hidden.text() == f"{len(all_of_them)} of {len(all_of_them)} are hidden"
    pane.smallest.setValue(0)
    assert pane.components.rowCount() == len(all_of_them)


def test_an_audit_is_of_the_results_region(inspected: Inspected) -> None:
    shown, pane, box = inspected.shown, open_pane(inspected), Box((4, 4, 4), (30, 20, 20))
    part = segment(shown.volume, shown.network, 0.25, region=box)
    latest = replace(shown, segmentation=part)
    results_of(inspected.viewer).show(latest)
    run(inspected, pane)
    expected = audit(shown.volume, shown.network, 0.25, region=box)
    view = placement_of(shown.volume.affine, shown.volume.shape).view
    layer = inspected.viewer.layers["scan difference"]
    assert np.array_equal(layer.data, view(expected.difference))
    assert pane.components.rowCount() == len(expected.components)
    assert "in region 4:30,4:20,4:20" in pane.run.message.text()


def test_a_result_without_pruning_and_none_at_all_say_what_to_do(
    inspected: Inspected, make_napari_viewer: Callable[..., Any], qtbot: QtBot
) -> None:
    pane = open_pane(inspected)
    inspected.publish(1.0)
    run(inspected, pane)
    assert pane.run.message.text() == NOT_PRUNED
    results_of(inspected.viewer).latest = None
    qtbot.mouseClick(pane.run.button, Qt.MouseButton.LeftButton)
    assert pane.run.message.text() == NO_RESULT
    assert "scan difference" not in inspected.viewer.layers
    other = AuditPane(make_napari_viewer())
    qtbot.addWidget(other)
    assert other.ratio.text() == NO_RESULT


def test_what_was_lost_comes_back_once_it_is_pinned(inspected: Inspected) -> None:
    viewer, qtbot = inspected.viewer, inspected.qtbot
    shown, pane = inspected.publish(0.25), open_pane(inspected)
    run(inspected, pane)
    rows = pane.components.rows()
    place = next(n for n, row in enumerate(rows) if row[1] != "appeared")
    component = inspected.scanned.audited.components[place]
    assert not pane.pin_button.isEnabled()
    pane.components.rowChosen.emit(place)
    qtbot.mouseClick(pane.pin_button, Qt.MouseButton.LeftButton)
    assert pane.run.message.text().startswith("Open the Segment widget")

    _, segment_widget = viewer.window.add_plugin_dock_widget("napari-tokensparse", "Segment")
    results_of(viewer).show(shown)
    pane.components.rowChosen.emit(place)
    inspected.widget.tabs.setCurrentWidget(pane)
    pane._pin_and_run_again()
    assert segment_widget.button.text() == "Cancel"
    assert segment_widget.pruning.keep.currentText() == "scan keep"
    qtbot.waitUntil(lambda: results_of(viewer).latest is not shown, timeout=120_000)
    qtbot.waitUntil(lambda: not pane.run.is_busy, timeout=60_000)

    latest = results_of(viewer).latest
    assert latest is not None and latest.options.pin is not None
    assert latest.options.keep_ratio == shown.options.keep_ratio
    before, mask = pane._audited.marked(component)
    again = latest.segmentation.labels[before.slices][mask] == component.value
    lost = shown.segmentation.labels[before.slices][mask] == component.value
    assert again.mean() > lost.mean()
    said = (
        f"{component.name}, pinned: {again.mean():.0%} of it is back ({lost.mean():.0%} before). "
    )
    assert pane.run.message.text().startswith(said)
    assert pane._audited.result is latest
    assert "some tokens are pinned" in pane.ratio.text()
    listed = [c for c in pane._audited.audit.components if c.change != "appeared"]
    assert component.voxel not in [c.voxel for c in listed]


def test_cancel_leaves_no_difference(inspected: Inspected) -> None:
    pane, qtbot = open_pane(inspected), inspected.qtbot
    inspected.publish(0.25)
    qtbot.mouseClick(pane.run.button, Qt.MouseButton.LeftButton)
    assert pane.run.button.text() == "Cancel"
    qtbot.mouseClick(pane.run.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not pane.run.is_busy, timeout=60_000)
    assert pane.run.message.text() == "Cancelled."
    assert "scan difference" not in inspected.viewer.layers
