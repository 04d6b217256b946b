"""A table of figures that can be sorted, copied and saved."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import (  # type: ignore[attr-defined]  # Signal is renamed by qtpy
    QItemSelectionModel,
    Qt,
    Signal,
)
from qtpy.QtGui import QAction, QKeyEvent, QKeySequence
from qtpy.QtWidgets import (
    QApplication,
    QHeaderView,
    QMessageBox,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from napari_tokensparse.common.tables import plain, write_csv
from napari_tokensparse.widgets.layerfiles import ask_for_file, suggested_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from napari_tokensparse.common.tables import Cell

_UNKNOWN = "–"
_NARROWEST = 30  # pixels, of a column
_WHOLE_FROM = 100.0  # a number this large is shown without decimals


class Table(QTableWidget):
    """Rows of text and numbers, read only.

    A click on a header sorts. Ctrl-C copies the selected cells for a spreadsheet; the context menu
    also saves the whole table as CSV. Files and the clipboard get the numbers unrounded, in the
    order that is shown.

    Parameters
    ----------
    name
        What the table holds: the suggested file name, without its suffix.
    parent
        Qt parent.

    Attributes
    ----------
    suggest
        Makes the path that is suggested of the file's ending, such as ``curve.csv``.
    """

    filled = Signal(bool)
    """Rows are shown instead of those before: whether there are any."""
    rowChosen = Signal(int)
    """A person clicked on a row, or pressed Enter there: its place among those given."""

    def __init__(self, name: str = "table", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._name = name
        self.suggest: Callable[[str], Path] = partial(suggested_path, None)
        self.setAccessibleName(f"Table of {name}")
        self._headers: tuple[str, ...] = ()
        self._names_wrap = False
        self.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.ActionsContextMenu)
        self._add_action("Copy", self.copy)
        self._add_action("Save as CSV…", self.ask_to_save)
        rows, columns = self.verticalHeader(), self.horizontalHeader()
        assert rows is not None and columns is not None
        rows.hide()
        columns.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)  # as given, until asked
        columns.setStretchLastSection(True)
        columns.sortIndicatorChanged.connect(lambda *_: self._show_order())
        self._enable_sorting(True)
        self.itemClicked.connect(self._choose)
        self.itemActivated.connect(self._choose)

    def show_rows(
        self,
        headers: Sequence[str],
        rows: Sequence[Sequence[Cell]],
        texts: Mapping[int, Callable[[Cell], str]] | None = None,
    ) -> None:
        """Show these rows instead of those before; a chosen order of sorting stays.

        Parameters
        ----------
        headers
            One per column, with the unit where there is one.
        rows
            One cell per column. None and NaN are shown as a dash.
        texts
            For columns, counted from 0, how their cells are written; files get the numbers.
        """
        texts = texts or {}
        self._headers = tuple(headers)
        self._enable_sorting(False)
        self.clear()
        self.setColumnCount(len(headers))
        self._show_order()
        self.setRowCount(len(rows))
        for at, row in enumerate(rows):
            for column, cell in enumerate(row):
                self.setItem(at, column, _Item(cell, at, texts.get(column, shown)))
        self._enable_sorting(True)
        self.resizeColumnsToContents()
        if self._names_wrap and headers and (columns := self.horizontalHeader()) is not None:
            columns.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.filled.emit(bool(rows))

    def let_names_wrap(self) -> None:
        """Fit all columns into the width: each is as wide as its numbers, and the first wraps."""
        columns, rows = self.horizontalHeader(), self.verticalHeader()
        assert columns is not None and rows is not None
        columns.setStretchLastSection(False)
        columns.setMinimumSectionSize(_NARROWEST)
        columns.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        rows.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self._names_wrap = True

    def rows(self) -> list[list[Cell]]:
        """Return the cells in the order that is shown."""
        return [
            [self._cell(row, column) for column in range(self.columnCount())]
            for row in range(self.rowCount())
        ]

    def select_row(self, place: int) -> None:
        """Select the row that was given at this place, and nothing else."""
        for row in range(self.rowCount()):
            item = self.item(row, 0)
            if isinstance(item, _Item) and item.place == place:
                how = QItemSelectionModel.SelectionFlag
                self.setCurrentCell(row, 0, how.ClearAndSelect | how.Rows)

    def copy(self) -> None:
        """Copy the selected cells as text with tabs between."""
        shown = sorted((index.row(), index.column()) for index in self.selectedIndexes())
        lines: dict[int, list[str]] = {}
        for row, column in shown:
            cell = plain(self._cell(row, column))
            lines.setdefault(row, []).append("" if cell is None else str(cell))
        clipboard = QApplication.clipboard()
        assert clipboard is not None
        clipboard.setText("\n".join("\t".join(cells) for cells in lines.values()))

    def save_csv(self, path: Path) -> None:
        """Write the table in the order that is shown.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        write_csv(path, self._headers, self.rows())

    def save_button(self) -> QPushButton:
        """Return a new button that asks where to save the table, once it has rows."""
        button = QPushButton("Save as CSV…")
        button.setToolTip(f"Save the table of {self._name} as a CSV file, in the order shown")
        button.setAccessibleName(f"Save the table of {self._name} as CSV")
        button.clicked.connect(lambda _: self.ask_to_save())
        button.setEnabled(self.rowCount() > 0)
        self.filled.connect(button.setEnabled)
        return button

    def ask_to_save(self) -> None:
        """Ask where to, and save the table there."""
        suggested = self.suggest(f"{self._name.replace(' ', '_')}.csv")
        asked = ask_for_file(self, "Save as CSV", suggested, ["Table (*.csv)"])
        if asked is None:
            return
        try:
            self.save_csv(asked[0])
        except OSError as error:
            QMessageBox.warning(self, "Save as CSV", str(error))

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Copy the selection on Ctrl-C; Qt itself would copy one cell as it is shown."""
        if event is not None and event.matches(QKeySequence.StandardKey.Copy):
            self.copy()
        else:
            super().keyPressEvent(event)

    def _add_action(self, text: str, does: Callable[[], None]) -> None:
        action = QAction(text, self)
        action.triggered.connect(lambda _: does())
        self.addAction(action)

    def _enable_sorting(self, enabled: bool) -> None:
        """Sort on clicks, without Qt's arrow: it takes its room in every column."""
        self.setSortingEnabled(enabled)
        columns = self.horizontalHeader()
        assert columns is not None
        columns.setSortIndicatorShown(False)

    def _show_order(self) -> None:
        """Mark the column that the rows are sorted by."""
        columns = self.horizontalHeader()
        assert columns is not None
        arrow = "▴" if columns.sortIndicatorOrder() == Qt.SortOrder.AscendingOrder else "▾"
        by = columns.sortIndicatorSection()
        self.setHorizontalHeaderLabels(
            [f"{name} {arrow}" if n == by else name for n, name in enumerate(self._headers)]
        )

    def _cell(self, row: int, column: int) -> Cell:
        item = self.item(row, column)
        return item.cell if isinstance(item, _Item) else None

    def _choose(self, item: QTableWidgetItem) -> None:
        assert isinstance(item, _Item)
        self.rowChosen.emit(item.place)


class _Item(QTableWidgetItem):
    """One cell, which knows its value and the place of its row among those given."""

    def __init__(self, cell: Cell, place: int, text: Callable[[Cell], str]) -> None:
        super().__init__(text(cell))
        self.setToolTip(self.text() if isinstance(cell, str) else "")
        self.cell, self.place = cell, place
        if isinstance(cell, (int, float)):
            self.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)

    def __lt__(self, other: QTableWidgetItem) -> bool:
        assert isinstance(other, _Item)
        return _rank(self.cell) < _rank(other.cell)


def shown(cell: Cell) -> str:
    """Write a cell as a person reads it.

    Examples
    --------
    >>> shown(0.98765), shown(12345.6), shown(12345), shown(None), shown("lung")
    ('0.988', '12346', '12345', '–', 'lung')
    """
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return _UNKNOWN
    if isinstance(cell, float):
        return f"{cell:.0f}" if abs(cell) >= _WHOLE_FROM else f"{cell:.3g}"
    return str(cell)


def _rank(cell: Cell) -> tuple[int, float, str]:
    """Order of cells: what is not known, then numbers by value, then text."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return 0, 0.0, ""
    return (2, 0.0, cell.casefold()) if isinstance(cell, str) else (1, float(cell), "")
