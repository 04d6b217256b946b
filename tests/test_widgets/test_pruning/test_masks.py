"""Layers whose tokens are pinned: painted, drawn, and of the wrong kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.segmenting.pins import written
from napari_tokensparse.segmenting.preview import PreviewSession
from napari_tokensparse.widgets.pruning.masks import NOTHING
from napari_tokensparse.widgets.results import results_of
from napari_tokensparse.widgets.segment.runs import PRUNING_KEY

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Opened

pytestmark = pytest.mark.gui

NOISE = np.random.default_rng(0).integers(1, 200, (40, 36, 33)).astype(np.uint8)


@pytest.fixture
def looking(opened: Opened, nano: Path) -> Opened:
    """Open a scan of noise, of several windows, beside a small model."""
    opened.widget.model.setValue(nano)
    opened.viewer.add_image(NOISE, name="scan", scale=(2, 1, 1), units=("mm",) * 3)
    return opened


def test_a_run_keeps_and_drops_the_tokens_under_what_is_painted(looking: Opened) -> None:
    viewer, widget, qtbot = looking.viewer, looking.widget, looking.qtbot
    scan = widget._read_scan()
    network = widget._networks.load(widget.model.folder(), "cpu")
    free = segment(scan.volume, network, 0.5).tokens
    lost, kept = free.pruned_at == 1, free.pruned_at == free.stages + 1
    for name, tokens in (("mine", lost), ("yours", kept)):
        voxels = free.on_input_grid(tokens.astype(np.uint8)).transpose(2, 1, 0)
        viewer.add_labels(voxels, name=name, scale=(2, 1, 1), units=("mm",) * 3)
    control = widget.pruning
    assert control.keep.currentText() == control.drop.currentText() == NOTHING
    qtbot.keyClick(control.keep, Qt.Key.Key_Down)
    qtbot.keyClick(control.drop, Qt.Key.Key_End)
    assert (control.keep.currentText(), control.drop.currentText()) == ("mine", "yours")
    looking.segment()

    latest = results_of(viewer).latest
    assert latest is not None
    tokens = latest.segmentation.tokens
    assert (tokens.pruned_at[lost] == free.stages + 1).all()
    assert (tokens.pruned_at[kept] == 1).all()
    assert latest.options.pin == written(lost) and latest.options.drop == written(kept)
    assert viewer.layers["scan labels"].metadata[PRUNING_KEY]["pin"] == written(lost)
    assert widget.runs._model.index(0, 2).data() == "0.5, pins"
    shown = viewer.layers["scan pruned at"]
    painted = viewer.layers["mine"].data > 0
    assert set(np.unique(shown.data[painted])) == {free.stages + 2}
    shown.visible = True
    status = shown.get_status(np.argwhere(painted)[0] * (2, 1, 1), world=True)
    assert "pinned: kept to the end" in status["value"]

    session = PreviewSession(scan.volume, network)
    _, pins = widget._read_request().pruning.of_session(session)
    assert np.array_equal(pins, tokens.pins)

    clipboard = QApplication.clipboard()
    qtbot.mouseClick(widget.receipt.copy_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: widget.message.text().startswith("Copied"), timeout=60_000)
    assert f"--pin {written(lost)} --drop {written(kept)}" in clipboard.text()
    assert "numbers of tokens" in widget.message.text()


def test_layers_that_cannot_pin_say_so_and_start_no_run(looking: Opened) -> None:
    viewer, widget = looking.viewer, looking.widget
    viewer.add_labels(np.ones((9, 9, 9), np.uint8), name="small")
    viewer.add_labels(np.ones(NOISE.shape, np.uint8), name="elsewhere", scale=(1, 1, 1))
    viewer.add_labels(np.zeros(NOISE.shape, np.uint8), name="empty", scale=(2, 1, 1))
    viewer.add_shapes(ndim=3, name="undrawn")
    for name, said in (
        ("small", "small: lies on another grid than scan"),
        ("elsewhere", "elsewhere: lies on another grid than scan"),
        ("empty", "empty: marks no voxel of scan"),
        ("undrawn", "undrawn: marks no voxel of scan"),
    ):
        widget.pruning.keep.setValue(viewer.layers[name])
        looking.click()
        assert widget.message.text().startswith(said) and not widget.running.is_busy
    with looking.qtbot.waitSignal(widget.pruning.valueChanged):
        viewer.layers.remove("undrawn")
    assert widget.pruning.keep.value() is None
    looking.segment()
    assert "scan labels" in viewer.layers
    # labels of a result can be chosen, its maps cannot
    listed = [widget.pruning.keep.itemText(n) for n in range(widget.pruning.keep.count())]
    assert listed == [NOTHING, "small", "elsewhere", "empty", "scan labels"]


def test_a_drawn_shape_is_filled_on_its_slice_and_paint_is_noticed(looking: Opened) -> None:
    viewer, widget = looking.viewer, looking.widget
    corners = np.array([[6, 4, 6], [6, 4, 20], [6, 30, 20], [6, 30, 6]]) * (2, 1, 1)
    viewer.add_shapes(corners, shape_type="polygon", ndim=3, name="drawn")
    widget.pruning.drop.setValue(viewer.layers["drawn"])
    scan = widget._read_scan()
    mask = widget.pruning.drop.marked(scan.layer, scan.volume)
    expected = np.zeros(NOISE.shape, bool)
    expected[6, 4:31, 6:21] = True
    assert np.array_equal(mask, expected.transpose(2, 1, 0))

    layer = viewer.layers["drawn"]
    for kind, points, voxels in (
        ("ellipse", corners, np.pi / 4 * 26 * 14),  # not all of the box round it
        ("path", [[6, 4, 6], [6, 4, 20], [6, 30, 20]], 15 + 26),
        ("line", [[6, 4, 6], [6, 4, 50]], 27),  # as far as the image goes
    ):
        layer.data = []
        layer.add(
            np.array(points) * ((1, 1, 1) if kind == "ellipse" else (2, 1, 1)), shape_type=kind
        )
        mask = widget.pruning.drop.marked(scan.layer, scan.volume)
        assert mask.sum() == pytest.approx(voxels, rel=0.03)

    labels = viewer.add_labels(np.zeros(NOISE.shape, np.uint8), name="mine", scale=(2, 1, 1))
    widget.pruning.keep.setValue(viewer.layers["mine"])
    with looking.qtbot.waitSignal(widget.pruning.valueChanged, timeout=60_000):
        labels.paint((3, 4, 5), 1)
    assert widget.pruning.value(scan.layer, scan.volume).keep.any()
