"""The table of figures, driven by clicks and keys."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QFileDialog, QMessageBox

from napari_tokensparse.widgets.table import Table

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

pytestmark = pytest.mark.gui

HEADERS = ["class", "volume (mm³)", "stage"]
ROWS = [["lung", 1234.5678, 2], ["Aorta", 99.25, 10], ["colon", None, 1], ["bone", float("nan"), 3]]


@pytest.fixture
def table(qtbot: QtBot) -> Table:
    table = Table("components")
    qtbot.addWidget(table)
    table.resize(500, 300)
    with qtbot.waitExposed(table, timeout=60_000):
        table.show()
    table.show_rows(HEADERS, ROWS)
    return table


def column(table: Table, number: int) -> list[str]:
    return [table.item(row, number).text() for row in range(table.rowCount())]


def headers(table: Table) -> list[str]:
    return [table.horizontalHeaderItem(n).text() for n in range(table.columnCount())]


def click_header(qtbot: QtBot, table: Table, number: int) -> None:
    header = table.horizontalHeader()
    at = header.viewport().rect().center()
    at.setX(header.sectionViewportPosition(number) + 5)
    qtbot.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=at)


def click_cell(qtbot: QtBot, table: Table, row: int, number: int, **how: object) -> None:
    at = table.visualItemRect(table.item(row, number)).center()
    qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=at, **how)


def test_rows_are_shown_as_given_and_rounded_for_reading(table: Table) -> None:
    assert column(table, 0) == ["lung", "Aorta", "colon", "bone"]
    assert column(table, 1) == ["1235", "99.2", "–", "–"]
    assert column(table, 2) == ["2", "10", "1", "3"]


def test_a_click_on_a_header_sorts_numbers_by_value_and_text_without_case(
    table: Table, qtbot: QtBot
) -> None:
    assert headers(table) == HEADERS
    click_header(qtbot, table, 2)
    assert column(table, 2) == ["1", "2", "3", "10"]
    assert headers(table) == [*HEADERS[:2], "stage ▴"]
    click_header(qtbot, table, 2)
    assert column(table, 2) == ["10", "3", "2", "1"]
    assert headers(table) == [*HEADERS[:2], "stage ▾"]
    click_header(qtbot, table, 0)
    assert column(table, 0) == ["Aorta", "bone", "colon", "lung"]
    click_header(qtbot, table, 1)
    assert column(table, 1) == ["–", "–", "99.2", "1235"]
    table.show_rows(HEADERS, ROWS[:2])  # the order chosen stays
    assert column(table, 0) == ["Aorta", "lung"]


def test_ctrl_c_copies_the_selection_unrounded_in_the_order_shown(
    table: Table, qtbot: QtBot
) -> None:
    click_header(qtbot, table, 2)  # colon, lung, bone, Aorta
    click_cell(qtbot, table, 0, 0)
    click_cell(qtbot, table, 1, 1, modifier=Qt.KeyboardModifier.ShiftModifier)
    qtbot.keyClick(table, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert QApplication.clipboard().text() == "colon\t\nlung\t1234.5678"


def test_a_row_is_chosen_by_click_or_enter_under_the_place_it_was_given_at(
    table: Table, qtbot: QtBot
) -> None:
    chosen: list[int] = []
    table.rowChosen.connect(chosen.append)
    click_header(qtbot, table, 0)  # Aorta, bone, colon, lung
    click_cell(qtbot, table, 3, 1)
    qtbot.keyClick(table, Qt.Key.Key_Up)
    assert chosen == [0]
    qtbot.keyClick(table, Qt.Key.Key_Return)
    assert chosen == [0, 2]
    table.select_row(1)
    assert [index.row() for index in table.selectedIndexes()] == [0, 0, 0]
    assert chosen == [0, 2]


def test_the_button_saves_the_whole_table_as_csv(
    table: Table, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    button = table.save_button()
    qtbot.addWidget(button)
    offered: list[str] = []

    def choose(_parent: object, _title: str, name: str, _filter: str) -> tuple[str, str]:
        offered.append(name)
        return str(tmp_path / "t.csv"), ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
    click_header(qtbot, table, 2)
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    assert offered == [str(Path.home() / "components.csv")]
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [
        HEADERS,
        ["colon", "", "1"],
        ["lung", "1234.5678", "2"],
        ["bone", "", "3"],
        ["Aorta", "99.25", "10"],
    ]


def test_an_empty_table_cannot_be_saved_by_its_button(table: Table, qtbot: QtBot) -> None:
    button = table.save_button()
    qtbot.addWidget(button)
    assert button.isEnabled()
    table.show_rows(HEADERS, [])
    assert not button.isEnabled()
    table.show_rows(HEADERS, ROWS)
    assert button.isEnabled()


def test_the_context_menu_copies_and_saves_and_what_cannot_be_written_is_said(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    actions = {action.text(): action for action in table.actions()}
    assert list(actions) == ["Copy", "Save as CSV…"]
    assert table.contextMenuPolicy() == Qt.ContextMenuPolicy.ActionsContextMenu
    said: list[str] = []
    monkeypatch.setattr(QMessageBox, "warning", lambda *a: said.append(a[2]))
    nowhere = str(tmp_path / "none/t.csv")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (nowhere, ""))
    actions["Save as CSV…"].trigger()
    assert len(said) == 1
    assert said[0].startswith(f"{nowhere}: cannot be written (")
