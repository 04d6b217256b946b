"""The slider says what a keep ratio buys, and Auto sets the smallest that agrees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_tokensparse.model.ratios import Importance
from napari_tokensparse.segmenting.agreement import agreement
from napari_tokensparse.segmenting.autoratio import IMPORTANCES
from napari_tokensparse.segmenting.preview import PreviewSession

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Inspected, Opened
    from napari_tokensparse.segmenting.estimating.estimate import Estimate

pytestmark = pytest.mark.gui


@pytest.fixture
def looking(opened: Opened, write_nano: Callable[..., Path]) -> Opened:
    """Open a scan of noise beside a small model."""
    opened.widget.model.setValue(write_nano())
    grey = np.random.default_rng(0).integers(1, 200, (40, 36, 33)).astype(np.uint8)
    opened.viewer.add_image(grey, name="scan", units=("mm",) * 3)
    return opened


def test_a_ratio_that_leaves_no_token_is_marked(opened: Opened) -> None:
    slider = opened.widget.keep_ratio
    slider.set_network(3, 640)
    slider.setValue(0.5)
    assert not slider.warning.isVisible()
    slider.setValue(0.05)
    assert "640 → 32 → 1 → 0" in slider.meaning.text()
    assert slider.warning.isVisible()
    assert slider.warning.text() == "⚠ No token is left after stage 3: raise the keep ratio."
    assert slider.warning.grab().toImage().pixelColor(2, 8).red() > 200


def test_the_time_of_a_run_stands_beside_the_ratio(looking: Opened) -> None:
    widget = looking.widget
    widget.estimate._timer.setInterval(10)
    estimates: list[Estimate | None] = []
    widget.estimate.estimated.connect(estimates.append)
    widget.estimate.ask()
    looking.qtbot.waitUntil(widget.keep_ratio.gains.isVisible, timeout=120_000)
    estimate = estimates[-1]
    assert estimate is not None
    assert widget.keep_ratio.gains.text() == estimate.time
    widget.estimate.stop()
    assert not widget.keep_ratio.gains.isVisible()


def test_the_preview_says_how_far_it_agrees_once_nothing_moves(looking: Opened) -> None:
    widget, qtbot = looking.widget, looking.qtbot
    widget._preview._quiet.setInterval(10)
    widget.live.setChecked(True)
    gains = widget.keep_ratio.gains
    qtbot.waitUntil(lambda: "in the window in view" in gains.text(), timeout=60_000)
    source, voxel, _ = widget._in_view()
    session = PreviewSession(source.volume, source.network(), voxel)
    wanted = agreement(session.update(0.5).labels, session.reference())
    assert gains.text() == f"agrees with 1.0 by {wanted:.1%} in the window in view"
    widget.keep_ratio.setValue(1.0)
    qtbot.waitUntil(lambda: "by 100.0%" in gains.text(), timeout=60_000)


def test_auto_sets_the_smallest_ratio_that_agrees_as_asked(looking: Opened) -> None:
    widget, qtbot = looking.widget, looking.qtbot
    widget.auto.share.setValue(90.0)
    qtbot.mouseClick(widget.auto.button, Qt.MouseButton.LeftButton)
    assert widget.auto.button.text() == "Cancel"
    qtbot.waitUntil(lambda: widget.auto.button.text() == "Auto", timeout=120_000)
    source, voxel, _ = widget._in_view()
    session = PreviewSession(source.volume, source.network(), voxel)
    shares = {r: agreement(session.update(r).labels, session.reference()) for r in TRIED}
    wanted = min(ratio for ratio, share in shares.items() if share >= 0.9)
    assert widget.keep_ratio.value() == wanted
    assert widget.message.text().startswith(
        f"Auto: keep ratio {wanted:g} leaves {shares[wanted]:.1%}"
    )
    assert f"agrees with 1.0 by {shares[wanted]:.1%}" in widget.keep_ratio.gains.text()


def test_auto_sets_the_largest_importance_that_agrees_where_importance_decides(
    looking: Opened,
) -> None:
    widget, qtbot = looking.widget, looking.qtbot
    qtbot.keyClick(widget.pruning.rule, Qt.Key.Key_Down)
    widget.auto.share.setValue(90.0)
    qtbot.mouseClick(widget.auto.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: widget.auto.button.text() == "Auto", timeout=120_000)
    source, voxel, _ = widget._in_view()
    session = PreviewSession(source.volume, source.network(), voxel)
    reference = session.reference()
    agrees = (
        each
        for each in IMPORTANCES
        if agreement(session.update(Importance(each)).labels, reference) >= 0.9
    )
    wanted = next(agrees)
    slider = widget.pruning.importance
    assert slider.isVisible() and slider.value() == wanted
    assert widget.message.text().startswith(f"Auto: importance ≥ {wanted:g} leaves ")
    assert "agrees with 1.0 by " in slider.gains.text()


TRIED = tuple(round(0.05 * n, 2) for n in range(5, 21))
"""From the smallest ratio that leaves one of 64 tokens."""


def test_auto_without_a_scan_or_in_the_air_says_so(
    opened: Opened, write_nano: Callable[..., Path]
) -> None:
    widget, qtbot = opened.widget, opened.qtbot
    qtbot.mouseClick(widget.auto.button, Qt.MouseButton.LeftButton)
    assert widget.message.text().startswith("No image")
    widget.model.setValue(write_nano())
    opened.viewer.add_image(np.zeros((33, 33, 33), np.uint8), name="air", units=("mm",) * 3)
    qtbot.mouseClick(widget.auto.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: "background alone" in widget.message.text(), timeout=60_000)


def test_a_sweep_tells_the_slider_its_dice(inspected: Inspected) -> None:
    _, segment = inspected.viewer.window.add_plugin_dock_widget("napari-tokensparse", "Segment")
    segment.model.combo.addItem("nano", str(inspected.scanned._folder))
    segment.model.setValue(inspected.scanned._folder)
    pane = inspected.widget.curve
    pane.ratios.setText("0.5")
    pane.controls.setChecked(False)
    inspected.qtbot.mouseClick(pane.run.button, Qt.MouseButton.LeftButton)
    segment.keep_ratio.setValue(0.5)
    inspected.qtbot.waitUntil(
        lambda: segment.keep_ratio.gains.text().startswith("mean Dice with 1.0: "), timeout=120_000
    )
    (half, _) = pane._sweep.line("learned")
    assert segment.keep_ratio.gains.text().endswith(f"{half.mean_dice:.3f} (sweep)")
    segment.keep_ratio.setValue(0.7)
    assert not segment.keep_ratio.gains.isVisible()
