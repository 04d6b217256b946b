"""Pruning by importance and by pins, chosen in the Segment widget by keys and clicks."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QLineEdit

from napari_tokensparse.benchmarks.networks import dense_of
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.presets import preset
from napari_tokensparse.segmenting.estimating.estimate import Estimate
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.segmenting.preview import PreviewSession
from napari_tokensparse.volumes.volume import Volume
from napari_tokensparse.widgets.history.history import history_of
from napari_tokensparse.widgets.pruning.rule import NO_STAGES, SHARE
from napari_tokensparse.widgets.results import results_of
from napari_tokensparse.widgets.segment.gains import NOT_KNOWN
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
    opened.viewer.add_image(NOISE, name="scan", units=("mm",) * 3)
    return opened


def copied(opened: Opened) -> str:
    """Click on "Copy command line" and return what the clipboard holds then."""
    clipboard = QApplication.clipboard()
    assert clipboard is not None
    clipboard.clear()
    opened.qtbot.mouseClick(opened.widget.receipt.copy_button, Qt.MouseButton.LeftButton)
    opened.qtbot.waitUntil(lambda: bool(clipboard.text()), timeout=30_000)
    return clipboard.text()


def by_importance(opened: Opened, least: str) -> None:
    """Choose the rule by its key, and type the least importance."""
    control = opened.widget.pruning
    opened.qtbot.keyClick(control.rule, Qt.Key.Key_Down)
    number = control.importance.findChild(QLineEdit)
    number.selectAll()
    opened.qtbot.keyClicks(number, least)
    opened.qtbot.keyClick(number, Qt.Key.Key_Return)


def middle(importances: list[np.ndarray]) -> float:
    """Return an importance that some tokens have and others have not."""
    return round(float(np.nanmedian(importances[0])), 3)


def test_the_slider_and_its_unit_follow_the_rule(opened: Opened) -> None:
    widget = opened.widget
    control = widget.pruning
    assert control.rule.currentText() == SHARE and control.title.text() == "Keep ratio"
    assert control.keep_ratio.isVisible() and not control.importance.isVisible()
    by_importance(opened, "0.35")
    assert control.title.text() == "Importance ≥"
    assert control.importance.isVisible() and not control.keep_ratio.isVisible()
    assert widget.auto.isEnabled()
    assert control.importance.meaning.text().startswith("Importance ≥ 0.35: each stage keeps")
    assert NOT_KNOWN in control.importance.gains.text().lower()
    opened.qtbot.keyClick(control.rule, Qt.Key.Key_Up)
    assert control.keep_ratio.isVisible()
    widget._results.keepRatioChosen.emit(0.25)
    assert control.keep_ratio.value() == 0.25


def test_a_run_by_importance_is_one_in_labels_list_receipt_and_command(
    looking: Opened, nano: Path
) -> None:
    viewer, widget = looking.viewer, looking.widget
    volume = Volume(NOISE.transpose(2, 1, 0)[None].astype(np.float32), np.eye(4), "scan")
    least = middle(list(segment(volume, load_model(nano), 1.0).tokens.importance))
    by_importance(looking, f"{least:g}")
    looking.segment()
    latest = results_of(viewer).latest
    assert latest is not None
    stats, options = latest.segmentation.stats, latest.options
    assert options.importance == stats.importance == least
    assert 0 < stats.tokens["kept"] < stats.tokens["processed"]
    (run,) = history_of(viewer).runs
    assert run.keep == f"≥ {least:g}" and not run.is_unpruned
    assert widget.runs._model.index(0, 2).data() == run.keep
    assert viewer.layers["scan labels"].metadata[PRUNING_KEY]["importance"] == least
    command = copied(looking)
    assert f"--importance {least:g}" in command and "--keep-ratio" not in command
    kept = f"The last run kept {stats.tokens['kept']} of {stats.tokens['processed']} tokens"
    assert kept in widget.pruning.importance.gains.text()
    live, shares = stats.tokens["processed"], []
    for stage in (1, 2, 3):
        after = live - stats.tokens[f"pruned at {stage}"]
        shares.append(after / live)
        live = after
    assert stats.kept_shares == pytest.approx(shares)
    assert widget._question().keep_ratio == pytest.approx(shares)
    by_importance(looking, "1")
    assert widget._question().importance == 1.0  # how many that leaves is not known
    looking.segment()
    counts = results_of(viewer).latest.segmentation.stats.tokens_per_stage
    assert counts[1:] == (1, 1, 1)  # never fewer than one


def test_the_preview_by_importance_says_how_many_tokens_that_leaves(looking: Opened) -> None:
    widget = looking.widget
    widget.live.setChecked(True)
    looking.qtbot.waitUntil(lambda: "Preview in" in widget.message.text(), timeout=60_000)
    source, voxel, _ = widget._in_view()
    session = PreviewSession(source.volume, source.network(), voxel)
    scores = session.run((1.0,) * 3).trace.scores
    least = middle([s.exp().numpy() for s in scores])
    by_importance(looking, f"{least:g}")
    looking.qtbot.waitUntil(
        lambda: f"importance ≥ {least:g} leaves" in widget.message.text(), timeout=60_000
    )
    live = widget.counts._of_view().live
    assert live[0] == session.tokens and live[-1] < live[0]
    counts = " → ".join(map(str, live))
    assert f"leaves {counts} tokens of the window" in widget.message.text()
    assert counts in widget.pruning.importance.gains.text()
    assert widget._question().keep_ratio == pytest.approx(tuple(b / a for a, b in pairwise(live)))


def test_a_model_that_prunes_nothing_offers_neither_rule_nor_pins(looking: Opened) -> None:
    control = looking.widget.pruning
    by_importance(looking, "0.5")
    control.set_network(dense_of(preset("nano")))
    assert control.rule.currentText() == SHARE and control.least is None
    for combo in (control.rule, control.keep, control.drop):
        assert not combo.isEnabled() and combo.toolTip() == NO_STAGES
    control.set_network(preset("nano"))
    assert control.keep.isEnabled() and control.keep.toolTip() != NO_STAGES


def test_an_estimate_by_importance_is_at_most_so_long() -> None:
    estimate = Estimate(10.0, 3, None, at_most=True)  # type: ignore[arg-type]
    assert estimate.time == "At most about 13 s"


def test_a_layer_of_pins_whose_last_token_is_pinned_the_other_way_is_let_go_of(
    looking: Opened,
) -> None:
    control, results = looking.widget.pruning, looking.widget._results
    shape = looking.viewer.layers["scan"].data.shape
    keep, drop = (looking.viewer.add_labels(np.zeros(shape, np.uint8)) for _ in range(2))
    keep.data_setitem((np.array([3]),) * 3, 1)
    results.pinned.emit((keep, 1))
    assert (control.keep.value(), control.drop.value()) == (keep, None)
    keep.data_setitem((np.array([3]),) * 3, 0)
    drop.data_setitem((np.array([3]),) * 3, 1)
    results.pinned.emit((drop, -1))
    assert (control.keep.value(), control.drop.value()) == (None, drop)


def test_a_click_that_pins_takes_over_what_was_painted_or_drawn_before(looking: Opened) -> None:
    viewer, control = looking.viewer, looking.widget.pruning
    shape = viewer.layers["scan"].data.shape
    painted, small, pins = (
        viewer.add_labels(np.zeros(each, np.uint8)) for each in (shape, (9, 9, 9), shape)
    )
    square = np.array([[2, 4, 6], [2, 4, 9], [2, 9, 9], [2, 9, 6]])
    drawn = viewer.add_shapes(square, shape_type="polygon", ndim=3)
    painted.data_setitem((np.array([3]),) * 3, 5)
    small.data_setitem((np.array([3]),) * 3, 5)
    for before, marked in ((painted, 1), (drawn, 1 + 6 * 4), (small, 1 + 6 * 4)):
        control.keep.setValue(before)
        looking.widget._results.pinned.emit((pins, 1))
        assert control.keep.value() is pins and (pins.data == 1).sum() == marked
    assert painted.data[3, 3, 3] == 5
    pins.undo()
    assert pins.data.sum() == 1
