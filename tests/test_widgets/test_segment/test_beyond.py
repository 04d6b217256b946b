"""What a click takes beyond its run is learned, the first of a process apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from napari_tokensparse.widgets.segment.beyond import Beyond

if TYPE_CHECKING:
    from pathlib import Path


def test_the_first_click_of_a_process_is_told_from_later_ones(clicks: Path) -> None:
    beyond = Beyond()
    assert beyond.seconds(10**6) == 0.0  # nothing is known yet
    beyond.learn(4.0, 10**6)
    beyond.learn(2.0, 2 * 10**6)
    assert beyond.seconds(3 * 10**6) == pytest.approx(3.0)
    again = Beyond()  # another process
    assert again.seconds(10**6) == pytest.approx(4.0)
    assert again.seconds(2 * 10**6) == pytest.approx(5.0)
    again.learn(2.0, 10**6)
    assert Beyond().seconds(10**6) == pytest.approx(3.0)  # between 4 and 2


def test_one_click_on_a_machine_that_was_asleep_spoils_nothing(clicks: Path) -> None:
    for seconds in (4.0, 4.2, 3000.0, 3.8):
        Beyond().learn(seconds, 10**6)
    assert Beyond().seconds(10**6) == pytest.approx(4.1)
    one = Beyond()
    for seconds in (4.0, 1.0, 1.1, 2000.0):
        one.learn(seconds, 10**6)
    assert one.seconds(10**6) == pytest.approx(1.1)
    for _ in range(9):
        one.learn(2.0, 10**6)
    assert one.seconds(10**6) == pytest.approx(2.0)


@pytest.mark.parametrize("broken", ["", "[]", '{"first": -1}'])
def test_what_is_kept_may_be_lost(clicks: Path, broken: str) -> None:
    clicks.write_text(broken)
    beyond = Beyond()
    assert beyond.seconds(10**6) == 0.0
    beyond.learn(1.0, 10**6)
    assert Beyond().seconds(10**6) == pytest.approx(1.0)


def test_where_nothing_can_be_kept_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    blocked = tmp_path / "file" / "clicks.json"
    monkeypatch.setattr("napari_tokensparse.widgets.segment.beyond._file", lambda: blocked)
    beyond = Beyond()
    beyond.learn(1.0, 10**6)
    assert beyond.seconds(10**6) == 0.0
