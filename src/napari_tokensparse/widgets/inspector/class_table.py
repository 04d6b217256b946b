"""A table of what became of each class: tokens, or mm³, kept and pruned at each stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QComboBox, QHBoxLayout, QHeaderView, QLabel, QVBoxLayout, QWidget

from napari_tokensparse.inspecting.tokens import class_fates
from napari_tokensparse.widgets.table import Table
from napari_tokensparse.widgets.workers import in_thread

if TYPE_CHECKING:
    from napari_tokensparse.common.tables import Cell
    from napari_tokensparse.inspecting.tokens import ClassFates
    from napari_tokensparse.widgets.results import ShownResult

TOKENS, MM3 = "tokens", "mm³"
_NARROWEST = 40  # pixels


@dataclass(frozen=True, eq=False)
class Counted:
    """A result and what became of its classes."""

    result: ShownResult
    fates: tuple[ClassFates, ...]


class ClassTable(QWidget):
    """One row per class that occurs, the background too.

    Parameters
    ----------
    parent
        Qt parent.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._result: ShownResult | None = None
        self._fates: tuple[ClassFates, ...] = ()
        self.unit = QComboBox()
        self.unit.addItems([TOKENS, MM3])
        self.unit.setToolTip(
            "Tokens: each counts for the class that most of its voxels have. "
            "mm³: the volume of the class's voxels, by what became of their tokens."
        )
        self.table = Table("classes")
        self.table.setToolTip(
            "What became of each class: kept to the end, or pruned at a stage. Windows of "
            "background alone, and what preprocessing left out, do not count."
        )
        columns, rows = self.table.horizontalHeader(), self.table.verticalHeader()
        assert columns is not None and rows is not None
        columns.setStretchLastSection(False)
        columns.setMinimumSectionSize(_NARROWEST)
        columns.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        rows.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)  # long names wrap
        row = QHBoxLayout()
        row.addWidget(QLabel("Per class, in"))
        row.addWidget(self.unit)
        row.addStretch()
        row.addWidget(self.table.save_button())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.table, stretch=1)
        self.unit.currentTextChanged.connect(lambda _: self._show())

    def count(self, result: ShownResult | None) -> None:
        """Count a result's classes in a thread, and show them; None empties the table."""
        self._result, self._fates = result, ()
        self._show()
        if result is not None:
            worker = in_thread(_count, result)
            worker.returned.connect(self._take)
            worker.start()

    def _take(self, counted: Counted) -> None:
        if counted.result is self._result:  # a later run may have ended meanwhile
            self._fates = counted.fates
            self._show()

    def _show(self) -> None:
        fates = [row for row in self._fates if sum(row.mm3)]
        unit = self.unit.currentText()
        stages = len(fates[0].tokens) - 2 if fates else 0
        at = (f"at {n}" for n in range(1, stages + 1))
        self.table.show_rows(
            [f"Class, in {unit}", "kept", *at], [class_row(row, unit) for row in fates]
        )
        columns = self.table.horizontalHeader()
        assert columns is not None
        columns.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)


def class_row(fates: ClassFates, unit: str) -> list[Cell]:
    """Lay out one class: its name, kept, pruned at 1..S."""
    _, *pruned, kept = fates.tokens if unit == TOKENS else fates.mm3
    return [fates.name, kept, *pruned]


def _count(result: ShownResult) -> Counted:
    info = result.network.info
    return Counted(result, class_fates(result.segmentation, result.volume, info))
