"""The Stages pane in a real viewer, driven by keys, clicks and drags."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QSlider

from napari_tokensparse.inspecting.fates import LIVE_COLOUR
from napari_tokensparse.segmenting.tokenmaps import stage_colour
from napari_tokensparse.widgets.results import results_of

if TYPE_CHECKING:
    from conftest import Inspected

pytestmark = pytest.mark.gui


def visible(inspected: Inspected) -> list[str]:
    return [x.name for x in inspected.viewer.layers if x.visible and x.name != "scan labels"]


def colours(layer, values):
    return np.rint(255 * layer.colormap.map(np.array(values))).astype(int).tolist()


def test_the_canvas_shows_one_way_of_looking_at_tokens_at_a_time(inspected: Inspected) -> None:
    inspected.widget.tabs.setCurrentWidget(inspected.widget.stages)
    pane, qtbot = inspected.widget.stages, inspected.qtbot
    slider = pane.stage.findChild(QSlider)
    tokens = inspected.shown.segmentation.tokens
    qtbot.keyClick(slider, Qt.Key.Key_Right)
    assert visible(inspected) == ["scan", "scan importance 2"]

    qtbot.keyClick(pane.view, Qt.Key.Key_Down)
    assert pane.view.currentText() == "rank"
    assert visible(inspected) == ["scan", "scan rank 2"]
    rank = inspected.layer("rank 2")
    shown = np.nan_to_num(tokens.on_input_grid(tokens.rank[1]))
    assert np.array_equal(rank.data, shown.transpose()[::-1, :, ::-1])
    assert tuple(rank.contrast_limits) == (0, 1)
    assert rank.interpolation2d == "nearest"
    inspected.layer("importance 1").visible = True  # a map hides the others, this one too
    assert visible(inspected) == ["scan", "scan importance 1"]
    assert (pane.view.currentText(), pane.stage.value()) == ("importance", 1)  # it follows

    qtbot.keyClick(pane.view, Qt.Key.Key_Down)
    qtbot.keyClick(pane.view, Qt.Key.Key_Down)
    qtbot.keyClick(slider, Qt.Key.Key_Right)
    assert visible(inspected) == ["scan", "scan stage"]
    stage = inspected.layer("stage")
    clear, live = [0, 0, 0, 0], [*LIVE_COLOUR, 255]
    assert colours(stage, range(5)) == [clear, clear, [*stage_colour(2), 255], live, live]
    assert stage.features["name"][3] == "live after stage 2"
    data = stage.data
    qtbot.keyClick(slider, Qt.Key.Key_Right)
    assert stage.data is data  # the colours alone change
    assert colours(stage, range(5)) == [clear, clear, clear, [*stage_colour(3), 255], live]
    assert list(stage.features["name"]) == [
        *("not processed", "gone: pruned at stage 1", "gone: pruned at stage 2"),
        *("pruned at stage 3", "live after stage 3"),
    ]

    qtbot.keyClick(pane.view, Qt.Key.Key_Down)
    assert visible(inspected) == ["scan", "scan pruned at"]
    assert colours(inspected.layer("pruned at"), [0, 4]) == [clear, clear]

    inspected.publish(1.0)  # the layers of the pane's own follow the new result
    assert (stage.data == 4).all()
    assert inspected.layer("rank 2").data.max() == 1.0
    assert visible(inspected) == ["scan", "scan pruned at"]


def test_a_dragged_cut_is_tried_as_the_stages_own_keep_ratio(inspected: Inspected) -> None:
    inspected.widget.tabs.setCurrentWidget(inspected.widget.stages)
    pane, qtbot = inspected.widget.stages, inspected.qtbot
    ratios: list[tuple[float, ...]] = []
    results_of(inspected.viewer).keepRatiosPreviewed.connect(ratios.append)
    pane.stage.setValue(2)
    plot = pane.cut.histogram
    qtbot.waitExposed(plot, timeout=60_000)
    tokens = inspected.shown.segmentation.tokens
    live = tokens.importance[1][np.isfinite(tokens.importance[1])]
    line = plot.mapFromScene(plot.getPlotItem().vb.mapViewToScene(plot.line.pos()))
    start, end = (QPoint(line.x() + away, plot.height() // 2) for away in (0, 60))
    qtbot.mousePress(plot.viewport(), Qt.MouseButton.LeftButton, pos=start)
    for away in (20, 40, 60):
        qtbot.mouseMove(plot.viewport(), start + QPoint(away, 0))
    qtbot.mouseRelease(plot.viewport(), Qt.MouseButton.LeftButton, pos=end)
    assert ratios
    first, second, third = ratios[-1]
    assert (first, third) == (0.5, 0.5)
    assert second == pytest.approx(max((live >= plot.cut()).mean(), 0.05))
    assert second < 0.5
    assert pane.cut.ratio.value() == pytest.approx(second, abs=5e-4)
    assert f"50 / {100 * second:.3g} / 50 % per stage" in pane.cut.meaning.text()

    pane.stage.setValue(1)  # a moved cut stays
    assert pane.cut.ratio.value() == 0.5
    qtbot.keyClick(pane.cut.ratio, Qt.Key.Key_Up)
    assert ratios[-1] == pytest.approx((0.55, second, 0.5))
    qtbot.mouseClick(pane.cut.reset, Qt.MouseButton.LeftButton)
    assert ratios[-1] == (0.5, 0.5, 0.5)
    assert pane.cut.meaning.text() == "50 % per stage → 12.5 % of tokens reach the end"
