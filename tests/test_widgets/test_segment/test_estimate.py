"""Before the click: how long a run will take, and whether it fits."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_tokensparse.segmenting.estimating import estimate
from napari_tokensparse.segmenting.estimating.rates import Rates
from napari_tokensparse.segmenting.estimating.timing import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Opened

pytestmark = pytest.mark.gui


@pytest.fixture
def eager(
    opened: Opened,
    write_nano: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Opened:
    """Open a widget that estimates at once; a small model is chosen, and no image."""
    monkeypatch.setenv("TOKENSPARSE_CACHE", str(tmp_path))
    opened.widget.estimate._timer.setInterval(10)
    opened.widget.model.setValue(write_nano())
    return opened


def add_scan(opened: Opened, side: int = 40) -> None:
    grey = np.random.default_rng(0).integers(1, 200, (side, 36, 20)).astype(np.uint8)
    opened.viewer.add_image(grey, name="scan")


def wait_for(opened: Opened, text: str) -> None:
    label = opened.widget.estimate
    opened.qtbot.waitUntil(lambda: label.text().endswith(text), timeout=120_000)


def test_what_a_run_will_take_is_told_before_the_click_and_follows_the_choice(
    eager: Opened,
) -> None:
    assert eager.widget.estimate.text() == ""
    add_scan(eager)
    wait_for(eager, " free: 4 windows")
    assert eager.widget.estimate.text().startswith("About 1 ")
    assert eager.widget.message.text() == ""
    eager.viewer.layers.clear()
    add_scan(eager, side=80)
    wait_for(eager, " free: 8 windows")
    eager.segment()
    assert "(8 windows," in eager.widget.message.text()
    wait_for(eager, " free: 8 windows")  # of the next click


def test_what_a_click_takes_beyond_its_run_is_added_and_confidence_is_counted(
    eager: Opened, clicks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clicks.write_text('{"first": [26.0], "each": [0.0]}')
    monkeypatch.setattr(Stopwatch, "slowdown", lambda _: 1.0)
    add_scan(eager)
    wait_for(eager, " free: 4 windows")
    assert eager.widget.estimate.text().startswith("About 20 to 3")  # 26 s / 1.3, 26 s x 1.3
    eager.segment()
    asked: list[bool] = []
    whole = estimate.estimating

    def noted(volume: Any, network: Any, options: Any) -> Any:
        asked.append(options.confidence)
        return whole(volume, network, options)

    monkeypatch.setattr(estimate, "estimating", noted)
    eager.widget.confidence.setChecked(True)
    wait_for(eager, " free: 4 windows")
    assert asked == [True]
    assert not eager.widget.estimate.text().startswith("About 20")  # no first click any more


def test_an_estimate_comes_down_at_once_when_something_else_ends(
    eager: Opened, clicks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clicks.write_text('{"first": [26.0], "each": [0.0]}')
    busy, told, label = [2.0], list[Any](), eager.widget.estimate
    monkeypatch.setattr(Stopwatch, "slowdown", lambda _: busy[-1])
    add_scan(eager)
    wait_for(eager, " free: 4 windows")
    assert label.text().startswith("About 3")  # 52 s / 1.3²
    eager.qtbot.waitUntil(lambda: label._worker is None, timeout=60_000)
    busy.append(1.0)
    label.estimated.connect(told.append)
    window = eager.widget.window()
    with eager.qtbot.waitActive(window):
        window.activateWindow()
    label._again.setInterval(10)
    eager.qtbot.waitUntil(lambda: bool(told), timeout=60_000)
    low, high = told[0].span  # the first one: there is no "Estimating …" between
    assert (told[0].slowdown, high / low) == (1.0, pytest.approx(1.69))
    assert label.text().startswith("About 2")  # 26 s / 1.3


def test_a_click_teaches_how_long_the_next_one_takes(eager: Opened, tmp_path: Path) -> None:
    add_scan(eager)
    wait_for(eager, " free: 4 windows")
    (file,) = (tmp_path / "calibration").glob("*.json")
    slow = Rates.model_validate_json(file.read_bytes()).model_copy(update={"start": 60.0})
    file.write_text(slow.model_dump_json())
    eager.segment()
    eager.qtbot.waitUntil(lambda: not eager.widget.running.is_busy, timeout=60_000)
    ((_, times),) = Rates.model_validate_json(file.read_bytes()).runs
    assert times == 0.25  # at the least
    wait_for(eager, " free: 4 windows")


def test_a_run_stops_an_estimate(eager: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended = threading.Event(), threading.Event()

    def estimating(*_: Any, **__: Any) -> Iterator[None]:
        begun.set()
        try:
            while True:
                threading.Event().wait(0.01)
                yield
        finally:
            ended.set()

    monkeypatch.setattr(estimate, "estimating", estimating)
    add_scan(eager)
    eager.qtbot.waitUntil(begun.is_set, timeout=60_000)
    assert eager.widget.estimate.text() == "Estimating time and memory …"
    eager.click()
    assert ended.wait(60)
    assert eager.widget.estimate.text() == ""
    eager.finish()
    assert eager.widget.message.text().startswith("Done")


def test_what_cannot_be_run_has_no_estimate(eager: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    label = eager.widget.estimate
    add_scan(eager)
    wait_for(eager, " free: 4 windows")
    eager.qtbot.waitUntil(lambda: label._worker is None, timeout=60_000)
    eager.viewer.layers.clear()
    assert label.text() == ""
    eager.viewer.add_image(np.ones((4, 40, 36, 20)), name="series")
    label._begin()
    assert label._worker is None

    def estimating(*_: Any, **__: Any) -> Iterator[None]:
        raise ValueError("cannot be preprocessed")

    monkeypatch.setattr(estimate, "estimating", estimating)
    label._timer.setInterval(10_000_000)
    add_scan(eager)
    label._begin()
    assert label.text() == "Estimating time and memory …"
    eager.qtbot.waitUntil(lambda: label._worker is None, timeout=60_000)
    assert label.text() == ""
    assert eager.widget.message.text() == ""  # a click tells it


def test_a_run_that_does_not_fit_is_begun_by_a_second_click(
    eager: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "free_mb", lambda _: 1.5)
    add_scan(eager)
    eager.segment()
    way_on, said = eager.widget.message.text().splitlines()
    assert said.startswith("scan: this run takes about ")
    assert "and 2 MB are free" in said
    assert way_on == "Click Segment again to go on all the same."
    assert [layer.name for layer in eager.viewer.layers] == ["scan"]
    eager.segment()
    assert eager.widget.message.text().startswith("Done")
    assert "scan labels" in eager.viewer.layers
    eager.viewer.layers.clear()
    add_scan(eager, side=41)  # another scan is asked about again
    eager.segment()
    assert "this run takes about" in eager.widget.message.text()
