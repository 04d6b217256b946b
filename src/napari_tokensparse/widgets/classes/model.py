"""The classes of a result as rows of a Qt model: shown, colour, name, volume, kept, locked."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import (  # type: ignore[attr-defined]  # Signal is renamed by qtpy
    QAbstractItemModel,
    QAbstractTableModel,
    QEvent,
    QModelIndex,
    Qt,
    Signal,
)
from qtpy.QtGui import QColor, QMouseEvent
from qtpy.QtWidgets import QStyledItemDelegate, QStyleOptionViewItem

from napari_tokensparse.widgets.table import shown

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from napari_tokensparse.model.info import LabelClass
    from napari_tokensparse.outputs.classresults import ClassResult

_ROLE = Qt.ItemDataRole
SORT_ROLE = _ROLE.UserRole
_NOWHERE = QModelIndex()


class Column(IntEnum):
    """What a column shows."""

    NAME = 0
    ML = 1
    KEPT = 2
    LOCK = 3


_HEADERS = {
    Column.NAME: ("Class", "Tick: shown. The colour is that of the labels"),
    Column.ML: ("ml", "Volume in ml: voxels times the size of one, by the file's affine"),
    Column.KEPT: ("Kept %", "Share of the class's voxels whose token was kept to the end"),
    Column.LOCK: ("Lock", "Tick: the next run leaves the voxels of this class as they are"),
}


@dataclass(frozen=True)
class Row:
    """A class, and what was found of it; None until it is counted."""

    of: LabelClass
    result: ClassResult | None = None


class ClassModel(QAbstractTableModel):
    """Rows of classes; ticks are changed here, and told by signals.

    Signals
    -------
    shownChanged, lockedChanged
        A person ticked: the class's value, and whether it is shown or locked now.
    """

    shownChanged = Signal(int, bool)
    lockedChanged = Signal(int, bool)

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[Row] = []
        self._hidden: set[int] = set()
        self._locked: set[int] = set()

    def show_rows(
        self, rows: Sequence[Row], hidden: Collection[int], locked: Collection[int]
    ) -> None:
        """Show other rows; ``hidden`` and ``locked`` are values of classes."""
        same = [row.of for row in rows] == [row.of for row in self._rows]
        if not same:
            self.beginResetModel()
        self._rows, self._hidden, self._locked = list(rows), set(hidden), set(locked)
        if not same:
            self.endResetModel()
        elif rows:
            last = self.index(len(rows) - 1, len(Column) - 1)
            self.dataChanged.emit(self.index(0, 0), last)

    def row(self, number: int) -> Row:
        """Return a row, counted from 0."""
        return self._rows[number]

    def rows(self) -> list[Row]:
        """Return all rows."""
        return list(self._rows)

    def rowCount(self, parent: QModelIndex = _NOWHERE) -> int:
        """Return the number of classes."""
        return 0 if parent.isValid() else len(self._rows)

    def columnCount(self, parent: QModelIndex = _NOWHERE) -> int:
        """Return the number of columns."""
        return 0 if parent.isValid() else len(Column)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = _ROLE.DisplayRole
    ) -> Any:
        """Return a column's title, and what it means as a tool tip."""
        if orientation != Qt.Orientation.Horizontal:
            return None
        text, tip = _HEADERS[Column(section)]
        return {_ROLE.DisplayRole: text, _ROLE.ToolTipRole: tip}.get(_ROLE(role))

    def flags(self, index: QModelIndex) -> Qt.ItemFlag:
        """Say which cells have a tick."""
        flags = super().flags(index)
        ticked = index.column() in (Column.NAME, Column.LOCK)
        return flags | Qt.ItemFlag.ItemIsUserCheckable if ticked else flags

    def data(self, index: QModelIndex, role: int = _ROLE.DisplayRole) -> Any:
        """Return what Qt asks of a cell."""
        row, column = self._rows[index.row()], Column(index.column())
        if role == _ROLE.CheckStateRole:
            return self._ticked(row, column)
        if role == _ROLE.DecorationRole:
            return QColor(*row.of.color) if column == Column.NAME else None
        if role == _ROLE.ToolTipRole:
            return _tip(row)
        if role == _ROLE.TextAlignmentRole and column in (Column.ML, Column.KEPT):
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        if role == _ROLE.DisplayRole:
            return _text(row, column)
        if role == SORT_ROLE:
            return self._rank(row, column)
        return None

    def setData(self, index: QModelIndex, value: Any, role: int = _ROLE.EditRole) -> bool:
        """Take a tick."""
        if role != _ROLE.CheckStateRole:
            return False
        ticked = Qt.CheckState(value) == Qt.CheckState.Checked
        number = self._rows[index.row()].of.value
        if index.column() == Column.NAME:
            self._hidden = self._hidden - {number} if ticked else self._hidden | {number}
            self.shownChanged.emit(number, ticked)
        else:
            self._locked = self._locked | {number} if ticked else self._locked - {number}
            self.lockedChanged.emit(number, ticked)
        self.dataChanged.emit(index, index)
        return True

    def _ticked(self, row: Row, column: Column) -> Qt.CheckState | None:
        if column == Column.NAME:
            ticked = row.of.value not in self._hidden
        elif column == Column.LOCK:
            ticked = row.of.value in self._locked
        else:
            return None
        return Qt.CheckState.Checked if ticked else Qt.CheckState.Unchecked

    def _rank(self, row: Row, column: Column) -> Any:
        if column == Column.NAME:
            return row.of.name.casefold()
        if column == Column.LOCK:
            return row.of.value in self._locked
        value = None if row.result is None else _figure(row.result, column)
        return -1.0 if value is None or value != value else value  # NaN is less than any


class WholeCellTick(QStyledItemDelegate):
    """Takes a click anywhere in a cell for one on its tick."""

    def editorEvent(
        self,
        event: QEvent | None,
        model: QAbstractItemModel | None,
        option: QStyleOptionViewItem,
        index: QModelIndex,
    ) -> bool:
        """Turn the tick over at the release of the button; keys do what they do."""
        if not isinstance(event, QMouseEvent) or model is None:
            return super().editorEvent(event, model, option, index)
        released = event.type() == QEvent.Type.MouseButtonRelease
        if not released or event.button() != Qt.MouseButton.LeftButton:
            return False
        ticked = Qt.CheckState(index.data(_ROLE.CheckStateRole)) == Qt.CheckState.Checked
        turned = Qt.CheckState.Unchecked if ticked else Qt.CheckState.Checked
        return model.setData(index, turned, _ROLE.CheckStateRole)


def _figure(result: ClassResult, column: Column) -> float:
    return result.ml if column == Column.ML else 100 * result.kept


def _text(row: Row, column: Column) -> str:
    if column == Column.NAME:
        return row.of.name
    if column == Column.LOCK:
        return ""
    figure = None if row.result is None else _figure(row.result, column)
    if figure is not None and column == Column.KEPT:
        figure = round(figure, 1)  # of some hundred tokens
    return shown(figure)


def _tip(row: Row) -> str:
    if row.result is None:
        return row.of.name
    return f"{row.of.name} ({row.of.value}): {row.result.voxels} voxels, {row.result.ml:.3f} ml"
