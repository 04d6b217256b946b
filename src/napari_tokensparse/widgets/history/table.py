"""The runs as a Qt model, for any view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QObject, Qt

if TYPE_CHECKING:
    from napari_tokensparse.widgets.history.history import History
    from napari_tokensparse.widgets.history.record import Run

HEADERS = ("Run", "Model", "Keep", "s", "Agreement")
_TIPS = (
    "Number of the run, and the image",
    "The model that was run",
    "The keep ratio: one number, or one for each stage; or the least importance, as ≥ 0.2",
    "Seconds that the run took",
    "Mean Dice over classes, with the run of keep ratio 1, or the one before if there is none",
)
_NO_PARENT = QModelIndex()


class RunTable(QAbstractTableModel):
    """A row for each run, the latest first.

    Parameters
    ----------
    history
        The runs.
    parent
        Qt parent.
    """

    def __init__(self, history: History, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._history = history
        self._runs: tuple[Run, ...] = ()
        history.changed.connect(self._follow)
        self._follow()

    def run(self, row: int) -> Run:
        """Return the run of a row."""
        return self._runs[row]

    def rowCount(self, parent: QModelIndex = _NO_PARENT) -> int:
        """Count the runs."""
        return 0 if parent.isValid() else len(self._runs)

    def columnCount(self, parent: QModelIndex = _NO_PARENT) -> int:
        """Count what is said of each."""
        return 0 if parent.isValid() else len(HEADERS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:
        """Name a column."""
        if orientation == Qt.Orientation.Horizontal:
            if role == Qt.ItemDataRole.DisplayRole:
                return HEADERS[section]
            if role == Qt.ItemDataRole.ToolTipRole:
                return _TIPS[section]
        return None

    def data(self, index: QModelIndex, role: int = 0) -> Any:
        """Say one thing of a run."""
        run = self._runs[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return self._cells(run)[index.column()]
        if role == Qt.ItemDataRole.ToolTipRole:
            where = "whole volume" if run.region is None else f"region {run.region}"
            what = f"{run.info.name}, {run.options.kept_in_words}, in {run.seconds:.1f} s"
            return f"{what}\n{run.image[1]}, {where}, ended at {run.at:%H:%M:%S}"
        if role == Qt.ItemDataRole.TextAlignmentRole and index.column() != 1:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None

    def _cells(self, run: Run) -> tuple[str, ...]:
        seconds = f"{run.seconds:.1f}"
        return str(run.number), run.info.name, run.keep, seconds, self._agreement(run)

    def _agreement(self, run: Run) -> str:
        agreement = self._history.agreement(run)
        if agreement is None or agreement[1] is None:
            return "–"
        other, dice = agreement
        return f"{dice:.3f}, " + ("keep 1" if other.is_unpruned else f"run {other.number}")

    def _follow(self) -> None:
        """Take the runs as they are; a comparison that was done moves no row."""
        runs = self._history.runs[::-1]
        if [run.number for run in runs] != [run.number for run in self._runs]:
            self.beginResetModel()
            self._runs = runs
            self.endResetModel()
        elif runs:
            self._runs = runs
            last = self.index(len(runs) - 1, len(HEADERS) - 1)
            self.dataChanged.emit(self.index(0, 0), last)
