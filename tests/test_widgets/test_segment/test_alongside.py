"""Image and labels beside image and tokens, by a click in a real viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_tokensparse.widgets.results import RunAgain, results_of
from napari_tokensparse.widgets.segment.alongside import Alongside

if TYPE_CHECKING:
    from pathlib import Path

    import napari

    from conftest import Opened

pytestmark = pytest.mark.gui


@pytest.fixture
def segmented(nano: Path, opened: Opened) -> Opened:
    """Segment an image with the Segment widget."""
    grey = np.random.default_rng(0).integers(1, 200, (32, 32, 32)).astype(np.uint8)
    opened.viewer.add_image(grey, name="scan")
    opened.widget.model.setValue(nano)
    opened.segment()
    return opened


def click(opened: Opened) -> None:
    opened.qtbot.mouseClick(opened.widget.beside, Qt.MouseButton.LeftButton)


def cells(viewer: napari.Viewer) -> list[set[str]]:
    """Name what each cell of the grid shows, the left one first."""
    grid = viewer.canvas.grid
    return [
        {viewer.layers[n].name for n in indices if viewer.layers[n].visible}
        for _, indices in grid.iter_viewboxes(viewer.layers)
    ]


def state(viewer: napari.Viewer) -> tuple[object, ...]:
    grid = viewer.canvas.grid
    looks = [(layer.name, layer.visible) for layer in viewer.layers]
    camera = viewer.scene.camera
    return (looks, grid.enabled, grid.shape, grid.stride, camera.zoom, camera.center)


def test_a_click_shows_labels_beside_tokens_and_another_puts_all_back(segmented: Opened) -> None:
    viewer = segmented.viewer
    viewer.scene.camera.zoom, viewer.scene.camera.center = 21.0, (0.0, 12.0, 9.0)
    before = state(viewer)
    click(segmented)
    assert viewer.scene.camera.zoom < 21
    assert cells(viewer) == [
        {"scan", "scan labels"},
        {"scan beside tokens", "scan importance 1"},
    ]
    names = [layer.name for layer in viewer.layers]
    assert names.index("scan beside tokens") < names.index("scan importance 1")
    assert viewer.layers.selection.active.name == "scan"
    click(segmented)
    assert state(viewer) == before


def test_whatever_map_is_shown_lies_in_the_cell_of_tokens(segmented: Opened) -> None:
    viewer = segmented.viewer
    click(segmented)
    for hidden, shown in (("importance 1", "importance 2"), ("importance 2", "pruned at")):
        viewer.layers["scan labels"].visible = True
        viewer.layers[f"scan {hidden}"].visible = False
        viewer.layers[f"scan {shown}"].visible = True
        assert cells(viewer) == [{"scan", "scan labels"}, {"scan beside tokens", f"scan {shown}"}]
        viewer.layers["scan labels"].visible = False
        assert cells(viewer) == [{"scan"}, {"scan beside tokens", f"scan {shown}"}]


def test_many_maps_keep_apart_from_the_labels(segmented: Opened) -> None:
    viewer = segmented.viewer
    click(segmented)
    tokens = {"scan beside tokens", "scan importance 1"}
    for kind in ("rank 1", "rank 2", "stage"):
        viewer.add_image(
            viewer.layers["scan importance 1"].data,
            name=f"scan {kind}",
            metadata={"tokensparse_result": kind},
        )
        tokens.add(f"scan {kind}")
        assert sorted(cells(viewer), key=len) == [{"scan", "scan labels"}, tokens]


def test_layers_that_come_later_join_the_labels(segmented: Opened) -> None:
    viewer, widget = segmented.viewer, segmented.widget
    click(segmented)
    points = viewer.add_points(np.zeros((1, 3)), name="points")
    assert "points" in cells(viewer)[0]
    viewer.layers.remove(points)
    widget.live.setChecked(True)
    segmented.qtbot.waitUntil(lambda: "scan preview" in viewer.layers, timeout=60_000)
    assert cells(viewer)[0] == {"scan", "scan preview"}
    click(segmented)
    assert [layer.name for layer in viewer.layers][-2:] == ["scan labels", "scan preview"]
    assert not viewer.canvas.grid.enabled


def test_layers_that_were_there_before_are_arranged_too(segmented: Opened) -> None:
    viewer = segmented.viewer
    later = Alongside(viewer)
    later.show(viewer.layers["scan"])
    viewer.layers["scan importance 3"].visible = True
    assert cells(viewer)[1] == {"scan beside tokens", "scan importance 3"}
    later.hide()


def test_both_cells_show_the_image_alike(segmented: Opened) -> None:
    viewer = segmented.viewer
    click(segmented)
    image, copy = viewer.layers["scan"], viewer.layers["scan beside tokens"]
    assert copy.data is image.data
    image.contrast_limits = (10, 50)
    assert tuple(copy.contrast_limits) == (10, 50)
    copy.colormap = "magma"
    assert image.colormap.name == "magma"
    assert copy.opacity == image.opacity
    viewer.dims.ndisplay = 3
    assert copy.opacity < image.opacity  # tokens are seen through it
    assert viewer.layers["scan labels"].rendering == "iso_categorical"
    assert len(cells(viewer)) == 2
    viewer.dims.ndisplay = 2
    assert copy.opacity == image.opacity
    assert list(segmented.widget.image.choices) == [image]


def test_the_object_fills_its_cell_without_the_air_around(segmented: Opened) -> None:
    viewer = segmented.viewer
    air = np.zeros((32, 64, 64), np.uint8)
    air[:, 20:36, 8:40] = 200
    viewer.layers["scan"].data = air
    click(segmented)
    width = viewer.canvas.viewbox_size(viewer.layers)[1] / viewer.scene.camera.zoom
    assert 32 <= width <= 38  # mm, of 64
    assert viewer.scene.camera.center[1:] == pytest.approx((27.5, 23.5), abs=1)


def test_closing_the_dock_puts_the_viewer_back_and_ends_the_preview(segmented: Opened) -> None:
    viewer, widget, qtbot = segmented.viewer, segmented.widget, segmented.qtbot
    click(segmented)
    widget.live.setChecked(True)
    qtbot.waitUntil(lambda: "scan preview" in viewer.layers, timeout=60_000)
    viewer.window.remove_dock_widget(widget)  # as a click on the dock's cross
    qtbot.waitUntil(lambda: not viewer.canvas.grid.enabled, timeout=60_000)
    qtbot.waitUntil(lambda: "scan preview" not in viewer.layers, timeout=60_000)
    assert "scan beside tokens" not in viewer.layers
    results = results_of(viewer)
    assert results.latest is not None
    asked = RunAgain(results.latest, results.latest.options)
    results.runAgain.emit(asked)
    assert asked.refusal and not widget.running.is_busy  # the one that is opened next answers


def test_it_ends_when_the_grid_or_the_image_goes(segmented: Opened) -> None:
    viewer, beside = segmented.viewer, segmented.widget.beside
    for how in ("grid", "scan beside tokens", "scan"):
        click(segmented)
        assert beside.isChecked()
        if how == "grid":
            viewer.canvas.grid.enabled = False
        else:
            viewer.layers.remove(how)
        assert not beside.isChecked()
        assert "scan beside tokens" not in viewer.layers
        assert not viewer.canvas.grid.enabled
        assert ("scan" in viewer.layers) is (how != "scan")


def test_without_tokens_it_says_what_to_do(opened: Opened) -> None:
    opened.viewer.add_image(np.ones((8, 8, 8)), name="scan")
    click(opened)
    assert opened.widget.message.text() == (
        "No tokens to show beside the labels yet: click on Segment first."
    )
    assert not opened.widget.beside.isChecked()
    assert not opened.viewer.canvas.grid.enabled
