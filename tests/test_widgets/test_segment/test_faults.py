"""What may go wrong in the viewer during a run: a message, no crash, and nothing left over."""

from __future__ import annotations

import gc
import shutil
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
import torch
from napari.qt.threading import GeneratorWorker, WorkerBase

from napari_tokensparse.model.folder import WEIGHTS
from napari_tokensparse.segmenting.run import WindowRun

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Opened

pytestmark = pytest.mark.gui

SHAPE = (64, 64, 48)
"""18 windows of the nano model, run 6 at a time: time enough for something to happen."""


@pytest.fixture
def folder(write_nano: Callable[..., Path]) -> Path:
    return write_nano()


@pytest.fixture
def ready(folder: Path, opened: Opened) -> Opened:
    """Open a scan and choose a small model."""
    grey = np.random.default_rng(0).integers(1, 200, SHAPE).astype(np.uint8)
    opened.viewer.add_image(grey, name="scan")
    opened.widget.model.setValue(folder)
    return opened


def begin(opened: Opened, windows: int = 1) -> None:
    """Click on Segment and wait until so many windows are done."""
    opened.click()
    progress = opened.widget.progress
    opened.qtbot.waitUntil(lambda: progress.value() >= windows, timeout=60_000)


def names(opened: Opened) -> list[str]:
    return [layer.name for layer in opened.viewer.layers]


def test_an_image_renamed_and_a_model_deleted_during_a_run_are_told_and_so_is_the_next_click(
    ready: Opened, folder: Path
) -> None:
    begin(ready)
    ready.viewer.layers["scan"].name = "brain"
    shutil.rmtree(folder)
    ready.finish()
    done, *notes = ready.widget.message.text().splitlines()
    assert done.startswith("Done")
    assert notes[-1] == (
        "Note: the model was changed on disk during the run; click Segment to run it as it is now."
    )
    assert "brain labels" in names(ready) and "scan labels" not in names(ready)
    ready.segment()
    said = ready.widget.message.text()
    assert str(folder) in said and "\n" not in said


def test_an_image_removed_and_a_model_cut_short_during_a_run_are_told_and_so_is_the_next_click(
    ready: Opened, folder: Path
) -> None:
    begin(ready)
    del ready.viewer.layers["scan"]
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:1000])
    ready.finish()
    done, *notes = ready.widget.message.text().splitlines()
    assert done.startswith("Done")
    assert notes[-2] == "Note: scan was removed during the run; these are its labels."
    assert "the model was changed on disk during the run" in notes[-1]
    assert not ready.widget.button.isEnabled()
    ready.viewer.add_image(np.ones((32, 32, 32)), name="other")
    ready.segment()
    said = ready.widget.message.text()
    assert str(folder) in said and "not a model of ours" in said and "\n" not in said


def test_memory_that_runs_out_is_told_and_the_next_run_works(
    ready: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def fail(*_: Any) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        patch.setattr(WindowRun, "_forward", fail)
        ready.segment()
    assert ready.widget.message.text().startswith("scan: memory ran out on cpu at window 1 of ")
    assert names(ready) == ["scan"]
    ready.segment()
    assert ready.widget.message.text().startswith("Done")
    assert "scan labels" in names(ready)


def test_closing_the_viewer_during_a_run_ends_the_run(ready: Opened) -> None:
    begin(ready)
    worker = ready.widget.running.worker
    assert isinstance(worker, GeneratorWorker)
    with ready.qtbot.waitSignal(worker.finished, timeout=60_000):
        ready.viewer.close()
    assert not worker.is_running
    assert "scan labels" not in names(ready)


def cycle(opened: Opened, *, whole: bool) -> None:
    """Segment and cancel; or let the run come to its end."""
    if whole:
        opened.segment()
        assert opened.widget.message.text().startswith("Done")
        return
    begin(opened)
    opened.click()
    opened.finish()
    assert opened.widget.message.text() == "Cancelled."


def cycles(opened: Opened, times: int) -> np.ndarray:
    """Segment and cancel so often, every tenth run whole; return the memory after each, in MB."""
    process, used = psutil.Process(), []
    for number in range(times):
        cycle(opened, whole=number % 10 == 9)
        gc.collect()
        used.append(process.memory_info().rss / 1e6)
    return np.array(used)


def test_cycles_of_segment_and_cancel_leave_nothing(ready: Opened) -> None:
    cycle(ready, whole=True)
    before = threading.active_count(), names(ready)
    cycles(ready, 3)
    assert (threading.active_count(), names(ready)) == before
    assert WorkerBase._worker_set == set()


@pytest.mark.deep
def test_200_cycles_of_segment_and_cancel_leave_nothing(
    ready: Opened, figures: Callable[[str, dict[str, Any]], None]
) -> None:
    cycle(ready, whole=True)
    before = threading.active_count(), names(ready)
    used = cycles(ready, 200)
    assert (threading.active_count(), names(ready)) == before
    later = used[80:]
    line = np.polynomial.Polynomial.fit(np.arange(len(later)), later, 1).convert()
    slope, noise = line.coef[1], np.std(later - line(np.arange(len(later))))
    figures("cycles", {"cycles": 200, "mb_per_cycle": round(float(slope), 4)})
    assert slope * len(later) < max(3 * noise, 5.0), (slope, noise)
