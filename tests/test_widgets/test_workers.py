"""Work in a thread holds nothing any more once it has ended, however that was."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

import pytest

from napari_tokensparse.widgets.workers import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytestqt.qtbot import QtBot

pytestmark = pytest.mark.gui


class Large:
    """Stands for a volume."""


def count(large: Large) -> Iterator[int]:
    assert large is not None
    for number in range(1_000_000):
        threading.Event().wait(0.01)
        yield number


def fail(large: Large) -> None:
    raise MemoryError(f"no room for {type(large).__name__}")


def ident(large: Large) -> int:
    assert large is not None
    return threading.get_ident()


def test_a_worker_that_was_quit_lets_go_of_its_work(qtbot: QtBot) -> None:
    large = Large()
    seen, worker = weakref.ref(large), in_thread(count, large)
    with qtbot.waitSignal(worker.yielded, timeout=60_000):
        worker.start()
    del large
    assert seen() is not None
    with qtbot.waitSignal(worker.finished, timeout=60_000):
        worker.quit()
    assert seen() is None


def test_a_function_gives_its_value_from_another_thread(qtbot: QtBot) -> None:
    large = Large()
    seen, worker = weakref.ref(large), in_thread(ident, large)
    del large
    with qtbot.waitSignal(worker.returned, timeout=60_000) as returned:
        worker.start()
    assert returned.args is not None
    assert returned.args[0] != threading.get_ident()
    qtbot.waitUntil(lambda: seen() is None, timeout=60_000)


def test_an_error_goes_to_who_takes_it(qtbot: QtBot) -> None:
    said: list[str] = []
    worker = in_thread(fail, Large(), failed=lambda error: said.append(str(error)))
    with qtbot.waitSignal(worker.finished, timeout=60_000):
        worker.start()
    assert said == ["no room for Large"]


def test_an_error_that_nobody_takes_is_raised_in_the_window(qtbot: QtBot) -> None:
    worker = in_thread(fail, Large())
    with qtbot.captureExceptions() as raised, qtbot.waitSignal(worker.finished, timeout=60_000):
        worker.start()
    assert [kind for kind, *_ in raised] == [MemoryError]
