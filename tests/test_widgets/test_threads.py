"""Work in threads touches no widget and no layer: every call that it makes is looked at."""

from __future__ import annotations

import gc
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import QObject, Qt

from napari_tokensparse.segmenting.estimating import estimate
from napari_tokensparse.widgets.workers import Worker, in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import FrameType

    from pytestqt.qtbot import QtBot

    from conftest import Inspected, Opened

pytestmark = pytest.mark.gui

FORBIDDEN = (
    *("napari.layers", "napari.components", "napari.viewer", "napari._qt", "napari._vispy"),
    *("superqt", "magicgui", "pyqtgraph", "vispy"),
)
OWN = "superqt.utils._qthreading"
"""What a worker itself is made of."""


class Watch:
    """What work in threads called, and which of it belongs to the window's thread."""

    def __init__(self) -> None:
        self.works: list[str] = []
        self.calls = 0
        self.touched: set[str] = set()

    def look(self, frame: FrameType, event: str, argument: Any) -> None:
        """Note a call; Python hands it every one in the thread."""
        if event == "call":
            self.calls += 1
            module = frame.f_globals.get("__name__", "")
            if module.startswith(FORBIDDEN) and module != OWN:
                self.touched.add(f"{module}.{frame.f_code.co_qualname}")
        elif event == "c_call" and isinstance(getattr(argument, "__self__", None), QObject):
            self.touched.add(f"{type(argument.__self__).__name__}.{argument.__name__}")


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Look at every call that a worker makes.

    Python's collector is put off: in whose thread it finds old cycles is chance.
    """
    watch, work = Watch(), Worker.work

    def watched(self: Worker) -> Any:
        assert threading.current_thread() is not threading.main_thread()
        watch.works.append(self._steps.gi_frame.f_locals["work"].__name__)
        sys.setprofile(watch.look)
        try:
            return work(self)
        finally:
            sys.setprofile(None)

    monkeypatch.setattr(Worker, "work", watched)
    gc.collect()
    gc.disable()
    yield watch
    gc.enable()


def test_touching_a_layer_or_a_widget_in_a_thread_is_seen(
    watch: Watch, opened: Opened, qtbot: QtBot
) -> None:
    layer = opened.viewer.add_image(np.ones((4, 5, 6)))
    for touch, seen in (
        (lambda: layer.name, "napari.layers"),
        (lambda: opened.viewer.layers[0], "napari.components"),
        (opened.widget.button.text, "QPushButton.text"),
    ):
        watch.touched.clear()
        worker = in_thread(_calls, touch)
        with qtbot.waitSignal(worker.finished, timeout=120_000):
            worker.start()
        assert any(each.startswith(seen) for each in watch.touched), watch.touched


def _calls(touch: Callable[[], object]) -> None:
    touch()


def test_estimate_preview_and_run_touch_neither(
    watch: Watch, opened: Opened, write_nano: Callable[..., Path]
) -> None:
    grey = np.random.default_rng(0).integers(1, 200, (40, 48, 32)).astype(np.uint8)
    opened.viewer.add_image(grey, name="scan")
    opened.widget.model.setValue(write_nano())
    assert estimate.estimating is not None  # imported before any thread does
    opened.widget.estimate._begin()
    opened.qtbot.waitUntil(
        lambda: opened.widget.estimate.text().endswith("windows"), timeout=120_000
    )
    opened.widget.live.setChecked(True)
    opened.qtbot.waitUntil(lambda: "scan preview" in opened.viewer.layers, timeout=120_000)
    opened.segment()
    assert "scan labels" in opened.viewer.layers
    assert {"_answer", "run"} <= set(watch.works)
    assert watch.works.count("_answer") >= 2  # the estimate and the preview
    assert watch.calls > 1000
    assert watch.touched == set()


def test_sweep_and_audit_touch_neither(watch: Watch, inspected: Inspected) -> None:
    inspected.publish(0.25)
    for pane in (inspected.widget.curve, inspected.widget.audit):
        inspected.widget.tabs.setCurrentWidget(pane)
        inspected.qtbot.mouseClick(pane.run.button, Qt.MouseButton.LeftButton)
        inspected.qtbot.waitUntil(lambda p=pane: not p.run.is_busy, timeout=120_000)
    assert len(watch.works) >= 2
    assert watch.calls > 1000
    assert watch.touched == set()
