from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtCore import Qt

from napari_tokensparse.inspecting.progress import RunProgress, Setting
from napari_tokensparse.widgets.run_control import RunControl, progress_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytestqt.qtbot import QtBot

pytestmark = pytest.mark.gui

SETTING = Setting((0.25, 0.25, 0.25), "random")


def work(results: int, error: str = "") -> Iterator[Any]:
    for number in range(1, results + 1):
        yield RunProgress(SETTING, number, results, 1, 2, None)
        yield f"result {number}"
    if error:
        raise ValueError(error)


def test_progress_tells_the_run_its_setting_and_the_time_left() -> None:
    first = RunProgress(SETTING, 2, 7, 0, 4, None)
    assert progress_text(first) == "Run 2 of 7: keep ratio 0.25, random, window 1 of 4"
    last = RunProgress(Setting((0.5, 0.25)), 7, 7, 4, 4, 1.6)
    assert progress_text(last) == (
        "Run 7 of 7: keep ratio 0.5, 0.25, learned, window 4 of 4, about 2 s left"
    )


def test_results_are_passed_on_and_progress_is_shown(qtbot: QtBot) -> None:
    control, received = RunControl("Sweep"), []
    qtbot.addWidget(control)
    control.show()
    control.received.connect(received.append)
    control.startClicked.connect(lambda: control.start(work, 3))
    shown: list[int] = []
    control.progress.valueChanged.connect(shown.append)
    qtbot.mouseClick(control.button, Qt.MouseButton.LeftButton)
    assert (control.button.text(), control.is_busy) == ("Cancel", True)
    assert control.progress.isVisible()
    qtbot.waitUntil(lambda: not control.is_busy, timeout=60_000)
    assert received == ["result 1", "result 2", "result 3"]
    assert shown[-3:] == [167, 500, 833]
    assert control.button.text() == "Sweep"
    assert control.progress.isHidden()


def test_an_error_is_said_and_the_button_works_again(qtbot: QtBot) -> None:
    control = RunControl("Audit")
    qtbot.addWidget(control)
    control.start(work, 1, "scan: contains NaN")
    qtbot.waitUntil(lambda: not control.is_busy, timeout=60_000)
    assert control.message.text() == "scan: contains NaN"
    assert control.button.text() == "Audit"
    assert control.button.isEnabled()
