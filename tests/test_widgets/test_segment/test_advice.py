"""A scan that the model was not made for is told of before the click, and the result keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_tokensparse.model.expected import HOUNSFIELD, Expected
from napari_tokensparse.volumes.placement import WARNINGS_KEY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from pytestqt.qtbot import QtBot

    from conftest import Opened

pytestmark = pytest.mark.gui
IN_CT = "⚠ scan: it has no values below -200"


def add_scan(opened: Opened) -> None:
    grey = np.random.default_rng(0).integers(1, 200, (40, 36, 20)).astype(np.uint8)
    opened.viewer.add_image(grey, name="scan", units=("mm",) * 3)


def test_a_warning_stands_above_the_button_before_the_click_and_stays_with_the_result(
    opened: Opened, write_nano: Callable[..., Path]
) -> None:
    widget, viewer = opened.widget, opened.viewer
    widget.model.setValue(write_nano("organs", expects=HOUNSFIELD))
    assert widget.expects.text() == "Expects CT, values from -1,024 to 3,071"
    assert not widget.advice.isVisible()
    add_scan(opened)
    opened.qtbot.waitUntil(widget.advice.isVisible, timeout=30_000)
    assert widget.advice.text().startswith(IN_CT)
    assert widget.advice.y() < widget.button.y()
    pixel = widget.advice.grab().toImage().pixelColor(2, 8)
    assert pixel.red() > 200 and pixel.blue() < 100  # amber in either theme

    opened.click()
    first, warned = widget.message.text().splitlines()
    assert first == "Click Segment again to go on all the same."  # in view below the button
    assert warned == widget.advice.text()[2:]
    opened.segment()
    assert widget.advice.isVisible()
    ours = [layer for layer in viewer.layers if layer.name != "scan"]
    assert {layer.metadata[WARNINGS_KEY] for layer in ours} == {(widget.advice.text()[2:],)}
    latest = widget._results.latest
    assert latest is not None and WARNINGS_KEY not in latest.image.metadata

    widget.model.setValue(write_nano("any"))
    opened.qtbot.waitUntil(lambda: not widget.advice.isVisible(), timeout=30_000)
    assert not widget.expects.isVisible()


def test_the_live_preview_warns_too(opened: Opened, write_nano: Callable[..., Path]) -> None:
    widget, viewer = opened.widget, opened.viewer
    widget.model.setValue(write_nano("organs", expects=HOUNSFIELD))
    add_scan(opened)
    widget.live.setChecked(True)
    opened.qtbot.waitUntil(lambda: "scan preview" in viewer.layers, timeout=60_000)
    opened.qtbot.waitUntil(widget.advice.isVisible, timeout=30_000)
    (line,) = viewer.layers["scan preview"].metadata[WARNINGS_KEY]
    assert widget.advice.text() == f"⚠ {line}"


def test_an_array_without_a_scale_asks_and_takes_what_is_typed(
    opened: Opened, write_nano: Callable[..., Path]
) -> None:
    widget, viewer, qtbot = opened.widget, opened.viewer, opened.qtbot
    widget.model.setValue(write_nano("by mm", expects=Expected(spacing_mm=(0.5, 3.0))))
    array = np.ones((30, 36, 20), np.uint8)
    array[9, 9, 9] = 2  # not the same everywhere, which would be said in place of all else
    image = viewer.add_image(array, name="array")
    fields = widget.placing
    assert fields.isVisible()
    assert fields.said.text() == (
        "array does not say how large its voxels are or where its axes point to; these are assumed:"
    )
    qtbot.waitUntil(widget.advice.isVisible, timeout=30_000)
    assert widget.advice.text().startswith("⚠ array: how large its voxels are is not known; 1 x 1")

    for field, mm in zip(fields.spacing, ("2.5", "0.5", "0.75"), strict=True):
        field.lineEdit().selectAll()
        qtbot.keyClicks(field.lineEdit(), mm)
    fields.towards[0].setCurrentText("right (R)")  # the axis to the left takes up, which is free
    assert [combo.currentText() for combo in fields.towards] == ["right (R)", "back (P)", "up (S)"]
    qtbot.mouseClick(fields.set, Qt.MouseButton.LeftButton)
    assert image.scale.tolist() == [2.5, 0.5, 0.75]
    assert [str(unit) for unit in image.units] == ["millimeter"] * 3
    assert fields.said.text() == "array, as you said:"
    qtbot.waitUntil(lambda: not widget.advice.isVisible(), timeout=30_000)

    scan = widget._read_scan()
    assert scan.notes == ()
    expected = np.array([[0, 0, 2.5, 0], [0, -0.5, 0, 0], [0.75, 0, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(scan.volume.affine, expected)
    image.units = ("um",) * 3  # a thousandth of it
    qtbot.waitUntil(widget.advice.isVisible, timeout=30_000)
    assert "its voxels are 0.00075 x 0.0005 x 0.0025 mm" in widget.advice.text()
    opened.segment()  # asks
    opened.segment()
    saved = viewer.layers["array labels"]
    assert saved.metadata["tokensparse_orientation"] == "RPS"


def test_what_our_reader_placed_asks_nothing(opened: Opened, scanned: object) -> None:
    from napari_tokensparse.contributions.reader import volume_layers

    ((array, said, _),) = volume_layers(scanned.volume)  # type: ignore[attr-defined]
    opened.viewer.add_image(array, **said)
    assert not opened.widget.placing.isVisible()


def test_a_scan_that_was_open_before_the_widget_is_warned_of_before_a_click(
    make_napari_viewer: Callable[..., Any], qtbot: QtBot
) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.add_image(np.random.default_rng(0).random((20, 18, 10)), name="array")
    _, widget = viewer.window.add_plugin_dock_widget("napari-tokensparse", "Segment")
    qtbot.waitUntil(widget.advice.isVisible, timeout=30_000)
    assert widget.advice.text().startswith("⚠ array: how large its voxels are is not known")
    for gains in (widget.gains, widget.counts):  # so that a run of it is told at the slider
        assert gains._chosen == (viewer.layers["array"], "brain-structures")
