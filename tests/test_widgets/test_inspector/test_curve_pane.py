"""The Curve pane in a real viewer, driven by clicks and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import QPointF, Qt
from qtpy.QtWidgets import QFileDialog, QPushButton

from napari_tokensparse.inspecting.sweep import sweep
from napari_tokensparse.widgets.inspector.curve_pane import MEAN, NO_RESULT, CurvePane
from napari_tokensparse.widgets.inspector.sweep_plot import BY_IMPORTANCE
from napari_tokensparse.widgets.layers import placement_kwargs
from napari_tokensparse.widgets.results import results_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from conftest import Inspected
    from napari_tokensparse.inspecting.sweep import Sweep

pytestmark = pytest.mark.gui


def open_pane(inspected: Inspected, ratios: str) -> CurvePane:
    """Show the pane, and type the keep ratios."""
    pane, qtbot = inspected.widget.curve, inspected.qtbot
    inspected.widget.tabs.setCurrentWidget(pane)
    pane.ratios.selectAll()
    qtbot.keyClicks(pane.ratios, ratios)
    return pane


def click(qtbot: QtBot, button: QPushButton) -> None:
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def run(inspected: Inspected, pane: CurvePane) -> None:
    click(inspected.qtbot, pane.run.button)
    assert pane.run.button.text() == "Cancel"
    inspected.qtbot.waitUntil(lambda: not pane.run.is_busy, timeout=120_000)
    assert pane.run.button.text() == "Sweep"


def drawn(pane: CurvePane, scorer: Any) -> list[tuple[float, float]]:
    x, y = pane.plot.lines[scorer].getOriginalDataset()
    return list(zip(x.tolist(), y.tolist(), strict=True))


def check_costs(pane: CurvePane, expected: Sweep) -> None:
    shown = [[row[0], row[1], row[2], row[4], row[6]] for row in pane.table.rows()]
    assert shown == [
        [p.scorer, p.keep_ratio, p.mean_dice, p.gmacs, 100 * p.tokens_kept / p.tokens]
        for p in expected.points
    ]
    assert all(row[3] > 0 and row[5] >= 0 for row in pane.table.rows())


def test_a_click_sweeps_and_plots_every_scorer(inspected: Inspected) -> None:
    pane = open_pane(inspected, "0.25")
    run(inspected, pane)
    shown = inspected.shown
    expected = sweep(shown.volume, shown.network, [0.25])
    assert list(pane.plot.lines) == ["learned", "random", "intensity"]
    for scorer in expected.scorers:
        points = [(p.keep_ratio, p.mean_dice) for p in expected.line(scorer)]
        assert drawn(pane, scorer) == points
    check_costs(pane, expected)
    widths = [line.opts["pen"].widthF() for line in pane.plot.lines.values()]
    assert widths[0] == 2 * widths[1] == 2 * widths[2]
    assert pane.run.message.text().startswith("scan, nano on cpu. MB: peak growth of")
    assert pane.legend.text().count("●") == 3


def test_a_click_on_a_point_or_a_row_chooses_its_keep_ratio(inspected: Inspected) -> None:
    pane, qtbot = open_pane(inspected, "0.25, 0.5"), inspected.qtbot
    click(qtbot, pane.controls)
    assert not pane.controls.isChecked()
    run(inspected, pane)
    assert list(pane.plot.lines) == ["learned"]
    chosen: list[float] = []
    results_of(inspected.viewer).keepRatioChosen.connect(chosen.append)
    qtbot.wait(50)  # a paint
    for ratio, dice in drawn(pane, "learned")[:2]:
        scene = pane.plot.getPlotItem().vb.mapViewToScene(QPointF(ratio, dice))
        at = pane.plot.mapFromScene(scene)
        qtbot.mouseMove(pane.plot.viewport(), at)
        qtbot.mouseClick(pane.plot.viewport(), Qt.MouseButton.LeftButton, pos=at)
    assert chosen == [0.25, 0.5]
    pane.table.setFocus()
    pane.table.setCurrentCell(0, 0)
    qtbot.keyClick(pane.table, Qt.Key.Key_Down)
    qtbot.keyClick(pane.table, Qt.Key.Key_Down)
    qtbot.keyClick(pane.table, Qt.Key.Key_Return)
    assert chosen == [0.25, 0.5, 1.0]


def test_a_sweep_by_importance_too_is_a_second_curve_over_tokens_kept(
    inspected: Inspected,
) -> None:
    pane, qtbot = open_pane(inspected, "0.5"), inspected.qtbot
    click(qtbot, pane.controls)
    click(qtbot, pane.by_importance)
    run(inspected, pane)
    assert list(pane.plot.lines) == ["learned", BY_IMPORTANCE]
    assert pane._sweep is not None
    expected = pane._sweep.importance_line
    assert drawn(pane, BY_IMPORTANCE) == [(p.keep_ratio, p.mean_dice) for p in expected]
    qtbot.keyClick(pane.over, Qt.Key.Key_Down)
    assert drawn(pane, BY_IMPORTANCE) == [(100 * p.kept_share, p.mean_dice) for p in expected]
    assert "by importance" in pane.legend.text()
    assert pane.table.rows()[-1][0] == f"≥ {expected[0].importance:.3g}"
    chosen: list[float] = []
    results_of(inspected.viewer).importanceChosen.connect(chosen.append)
    pane.plot.pointClicked.emit(BY_IMPORTANCE, 0)
    assert chosen == [expected[0].importance]


def test_labels_and_single_classes_can_be_looked_at(inspected: Inspected) -> None:
    shown, qtbot = inspected.shown, inspected.qtbot
    half = np.asarray(inspected.layer("labels").data).copy()
    half[:, :, : half.shape[2] // 2] = 0
    inspected.viewer.add_labels(half, name="truth", **placement_kwargs(inspected.image))
    pane = open_pane(inspected, "0.5")
    click(qtbot, pane.controls)
    names = [pane.labels.native.itemText(n) for n in range(pane.labels.native.count())]
    assert names == ["none", "truth"]  # not what a run made
    qtbot.keyClick(pane.labels.native, Qt.Key.Key_Down)
    run(inspected, pane)
    assert [pane.against.itemText(n) for n in range(2)] == ["keep ratio 1.0", "truth"]
    assert [pane.of_class.itemText(n) for n in range(2)] == [MEAN, "seven"]

    truth = shown.segmentation.labels.copy()
    truth[truth.shape[0] // 2 :] = 0  # shown from the other side
    expected = []
    for ratio in (0.5, 1.0):
        predicted = inspected.scanned.segmented(ratio).labels == 7
        true = truth == 7
        expected.append((ratio, 2 * (predicted & true).sum() / (predicted.sum() + true.sum())))
    before = drawn(pane, "learned")
    qtbot.keyClick(pane.against, Qt.Key.Key_Down)
    assert np.allclose(drawn(pane, "learned"), expected)
    assert pane.table.rows()[0][2] == pytest.approx(expected[0][1])
    qtbot.keyClick(pane.against, Qt.Key.Key_Up)
    qtbot.keyClick(pane.of_class, Qt.Key.Key_Down)
    assert drawn(pane, "learned") == before  # there is one class only
    assert pane.plot.getAxis("left").labelText == "Dice, seven"


def test_labels_that_do_not_fit_are_refused_in_one_line(inspected: Inspected) -> None:
    inspected.viewer.add_labels(np.ones((4, 5, 6), np.uint8), name="small")
    pane = open_pane(inspected, "0.5")
    inspected.qtbot.keyClick(pane.labels.native, Qt.Key.Key_Down)
    run(inspected, pane)
    assert pane.run.message.text() == (
        "small: shape (6, 5, 4): must be its image's (32, 30, 28); resample it"
    )
    assert pane.plot.lines == {}


def test_cancel_stops_within_a_window(inspected: Inspected) -> None:
    pane = open_pane(inspected, "0.2, 0.4, 0.6, 0.8")
    qtbot = inspected.qtbot
    click(qtbot, pane.run.button)
    qtbot.waitUntil(lambda: pane.run.message.text().startswith("Run 2 of 13"), timeout=60_000)
    assert 0 < pane.run.progress.value() < 400
    click(qtbot, pane.run.button)
    qtbot.waitUntil(lambda: not pane.run.is_busy, timeout=60_000)
    assert pane.run.message.text() == "Cancelled."
    assert pane.run.progress.isHidden()
    assert drawn(pane, "learned")[-1] == (1.0, 1.0)  # what was done stays


def test_keep_ratios_that_are_none_are_refused_in_one_line(inspected: Inspected) -> None:
    pane = inspected.widget.curve
    for ratios, said in (
        ("0.5, half", "keep ratios '0.5, half': give numbers in (0, 1], commas between"),
        ("0.5, 1.4", "keep ratio 1.4: must be in (0, 1]"),
        (" ", "nothing to sweep: give at least one keep ratio and one scorer"),
    ):
        open_pane(inspected, ratios)
        click(inspected.qtbot, pane.run.button)
        inspected.qtbot.waitUntil(lambda: not pane.run.is_busy, timeout=60_000)
        assert pane.run.message.text() == said


def test_without_a_result_the_pane_says_what_to_do(
    make_napari_viewer: Callable[..., Any], qtbot: QtBot
) -> None:
    pane = CurvePane(make_napari_viewer())
    qtbot.addWidget(pane)
    assert pane.run.message.text() == NO_RESULT
    click(qtbot, pane.run.button)
    assert pane.run.message.text() == NO_RESULT
    assert not pane.run.is_busy


def test_table_and_plot_are_saved(
    inspected: Inspected, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pane, qtbot = open_pane(inspected, "0.5"), inspected.qtbot
    click(qtbot, pane.controls)
    assert not pane.save_plot.isEnabled()  # there is no curve yet
    run(inspected, pane)
    monkeypatch.setattr(
        QFileDialog, "getSaveFileName", lambda *a: (str(tmp_path / f"saved{a[2][-4:]}"), "")
    )
    for button in pane.findChildren(QPushButton):
        if button.text().startswith("Save"):
            click(qtbot, button)
    lines = (tmp_path / "saved.csv").read_text().splitlines()
    assert lines[0] == "Scorer,Keep,Dice,Time (s),GMACs,MB,Kept %"
    assert [line.split(",")[:2] for line in lines[1:]] == [["learned", "0.5"], ["learned", "1.0"]]
    assert (tmp_path / "saved.png").read_bytes().startswith(b"\x89PNG")
