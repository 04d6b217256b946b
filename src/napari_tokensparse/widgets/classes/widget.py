"""The Class list: every class of the latest result with its colour, volume and kept tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QModelIndex, QSortFilterProxyModel, Qt, QTimer
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QHBoxLayout,
    QHeaderView,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_tokensparse.widgets.accessible import name_inputs
from napari_tokensparse.widgets.canvas.context import hold_context
from napari_tokensparse.widgets.canvas.display import token_display
from napari_tokensparse.widgets.canvas.places import go_to
from napari_tokensparse.widgets.canvas.surfaces import surfaces_of
from napari_tokensparse.widgets.classes.counting import Counted, count, middle_voxel
from napari_tokensparse.widgets.classes.model import (
    SORT_ROLE,
    ClassModel,
    Column,
    Row,
    WholeCellTick,
)
from napari_tokensparse.widgets.classes.pointed import ClassUnderPointer
from napari_tokensparse.widgets.classes.saving import SaveClasses
from napari_tokensparse.widgets.closing import end_with_dock
from napari_tokensparse.widgets.fitting import ElidedLabel, dock_as_tab, scrolled
from napari_tokensparse.widgets.layers import PRUNED_AT, class_colours, hidden_classes
from napari_tokensparse.widgets.locks import locked_values, with_lock
from napari_tokensparse.widgets.results import results_of
from napari_tokensparse.widgets.showing import labels_layer
from napari_tokensparse.widgets.workers import in_thread

if TYPE_CHECKING:
    import napari
    from napari.layers import Labels

NO_RESULT = "No classes yet: segment an image with the Segment widget."
_WIDTH, _NARROWEST = 350, 30  # pixels
_LEAST_ROWS = 5
_COUNT_AFTER_MS = 400  # of the last stroke: counting takes about as long


class ClassListWidget(QWidget):
    """Lists the classes of the latest result's labels as they are now, edits included.

    Parameters
    ----------
    napari_viewer
        The viewer with the result.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer, self._results = napari_viewer, results_of(napari_viewer)
        self._display, self._surfaces = token_display(napari_viewer), surfaces_of(napari_viewer)
        self._layer: Labels | None = None
        self._counted: Counted | None = None
        self._wanted_hidden: set[int] = set()
        self._ticked = False  # since the mouse was pressed
        self._build()
        self._lay_out()
        self._connect()
        self._result_changed()
        name_inputs(self)
        hold_context(napari_viewer, self)
        dock_as_tab(self)
        end_with_dock(self, napari_viewer)

    def _build(self) -> None:
        self.model, self.sorted = ClassModel(), QSortFilterProxyModel(self)
        self.sorted.setSourceModel(self.model)
        self.sorted.setSortRole(SORT_ROLE)
        self.table = QTableView()
        self.table.setModel(self.sorted)
        self.table.setSortingEnabled(True)
        self.table.sortByColumn(-1, Qt.SortOrder.AscendingOrder)  # the model's order, until asked
        self.table.setAccessibleName("Classes of the labels")
        self.table.setToolTip("Click on a row, or press Enter, to go to the class")
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setTextElideMode(Qt.TextElideMode.ElideRight)  # the first words differ
        self.table.setWordWrap(False)
        self.table.setItemDelegateForColumn(Column.LOCK, WholeCellTick(self.table))
        rows, columns = self.table.verticalHeader(), self.table.horizontalHeader()
        assert rows is not None and columns is not None
        rows.hide()
        rows.setDefaultSectionSize(self.fontMetrics().lineSpacing() + 6)
        self.table.setMinimumHeight(_LEAST_ROWS * rows.defaultSectionSize())
        columns.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        columns.setSectionResizeMode(Column.NAME, QHeaderView.ResizeMode.Stretch)
        columns.setMinimumSectionSize(_NARROWEST)
        columns.setStretchLastSection(False)
        columns.setSectionResizeMode(Column.LOCK, QHeaderView.ResizeMode.Fixed)
        columns.resizeSection(Column.LOCK, columns.fontMetrics().horizontalAdvance("Lock") + 14)
        self.setMinimumWidth(_WIDTH)
        self.message = ElidedLabel()
        self.all = QCheckBox("All")
        self.all.setToolTip("Show all classes, or none")
        self.outlines = QCheckBox("Outlines")
        self.outlines.setToolTip(
            "Draw labels as outlines in 2-D; they are outlines anyway over a map of tokens"
        )
        self.surfaces = QCheckBox("Surfaces")
        self.surfaces.setChecked(True)
        self.surfaces.setToolTip(
            "In 3-D, draw the classes as smooth surfaces, the outer ones translucent, in place of "
            "voxels and the image"
        )
        self.kept = QCheckBox("Tokens")
        self.kept.setToolTip(
            "Show where tokens were pruned; in 3-D, kept ones as boxes in the colour of their "
            "importance. The Token inspector shows other stages"
        )
        self.pruned = QCheckBox("Pruned")
        self.pruned.setToolTip(
            "In 3-D, the edges of pruned tokens too, in the colour of the stage; those of "
            "background alone are left out"
        )
        self.save = SaveClasses(self._viewer, self)

    def _lay_out(self) -> None:
        layout = QVBoxLayout(scrolled(self))
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.message)
        layout.addWidget(self.table, stretch=1)
        for row in ((self.all, self.outlines, self.surfaces), (self.kept, self.pruned)):
            line = QHBoxLayout()
            for box in row:
                line.addWidget(box)
            line.addStretch()
            layout.addLayout(line)
        layout.addWidget(self.save)

    def _connect(self) -> None:
        self._counting = QTimer(self)
        self._counting.setSingleShot(True)
        self._counting.setInterval(_COUNT_AFTER_MS)
        self._counting.timeout.connect(self._count)
        self.pointed = ClassUnderPointer(self._viewer, self)
        self.model.shownChanged.connect(self._shown_changed)
        self.model.lockedChanged.connect(self._lock)
        self.table.pressed.connect(self._pressed)
        self.table.clicked.connect(self._clicked)
        self.table.activated.connect(self._jump)
        self.all.clicked.connect(self._all_clicked)
        self.outlines.toggled.connect(self._display.set_outlined)
        self.surfaces.toggled.connect(self._surfaces.set_shown)
        self.pruned.toggled.connect(self._display.set_pruned_shown)
        self.kept.clicked.connect(self._kept_clicked)
        self._display.changed.connect(self._display_changed)
        self._surfaces.said.connect(self._say)
        self.save.said.connect(self._say)
        self._results.changed.connect(self._result_changed)
        layers = self._viewer.layers.events
        for event in (layers.inserted, layers.removed):
            event.connect(self._layers_changed)

    def hidden(self) -> set[int]:
        """Return the values of classes that are not shown."""
        ticks = (
            (row.of.value, self.model.index(number, Column.NAME))
            for number, row in enumerate(self.model.rows())
        )
        off, role = Qt.CheckState.Unchecked, Qt.ItemDataRole.CheckStateRole
        return {value for value, at in ticks if self.model.data(at, role) == off}

    def _result_changed(self) -> None:
        """List another result; classes that a person hid stay so, a run shows them again."""
        self._counted = None
        self._follow_layer()
        if self._wanted_hidden:
            self._show_classes(self._wanted_hidden)
        self._show_rows()
        self._count()

    def _layers_changed(self, _event: Any = None) -> None:
        result = self._results.latest
        if result is not None and labels_layer(self._viewer, result) is not self._layer:
            self._result_changed()

    def _follow_layer(self) -> None:
        """Listen to the layer that holds the labels."""
        result = self._results.latest
        layer = None if result is None else labels_layer(self._viewer, result)
        if layer is not self._layer:
            self._listen(self._layer, listens=False)
            self._listen(layer, listens=True)
            self._layer = layer

    def _listen(self, layer: Labels | None, *, listens: bool) -> None:
        if layer is None:
            return
        for event in (layer.events.paint, layer.events.labels_update, layer.events.data):
            (event.connect if listens else event.disconnect)(self._edited)
        for event in (layer.events.colormap, layer.events.metadata):
            (event.connect if listens else event.disconnect)(self._show_rows)

    def _edited(self, _event: Any = None) -> None:
        self._counting.start()

    def _count(self) -> None:
        result = self._results.latest
        if self._layer is None or result is None:
            return
        if self._layer.data.size == result.segmentation.labels.size:  # or it was given another grid
            worker = in_thread(count, result, self._layer.data.copy())
            worker.returned.connect(self._take)
            worker.start()

    def _take(self, counted: Counted) -> None:
        if counted.result is self._results.latest:  # a later run may have ended meanwhile
            self._counted = counted
            self._show_rows()

    def _show_rows(self, _event: Any = None) -> None:
        result, layer = self._results.latest, self._layer
        info = None if result is None else result.network.info
        self.setEnabled(layer is not None)
        self.message.setText(NO_RESULT if layer is None else str(layer.name))
        if info is None or layer is None:
            self.model.show_rows([], (), ())
            return
        results = (None,) * len(info.classes) if self._counted is None else self._counted.classes
        rows = [Row(of, each) for of, each in zip(info.classes, results, strict=True)]
        hidden = hidden_classes(layer)
        self.model.show_rows(rows, hidden, locked_values(layer.metadata))
        self.all.setChecked(not hidden)
        self.save.follow(self._counted, {c.value for c in info.classes} - hidden)

    def _show_classes(self, hidden: set[int]) -> None:
        result, self._wanted_hidden = self._results.latest, hidden
        if result is not None and result.network.info is not None and self._layer is not None:
            self._layer.colormap = class_colours(result.network.info, hidden)

    def _all_clicked(self, shown: bool) -> None:
        self._show_classes(set() if shown else {row.of.value for row in self.model.rows()})

    def _lock(self, value: int, locked: bool) -> None:
        if self._layer is not None:
            self._layer.metadata = with_lock(self._layer.metadata, value, locked)

    def _pressed(self, _index: QModelIndex) -> None:
        self._ticked = False

    def _shown_changed(self) -> None:
        self._ticked = True
        self._show_classes(self.hidden())

    def _clicked(self, index: QModelIndex) -> None:
        """Go to the class of a row; a click that hides or shows it, or locks it, moves nothing."""
        if index.column() != Column.LOCK and not self._ticked:
            self._jump(index)

    def _jump(self, index: QModelIndex) -> None:
        """Go to the class of a row; one without voxels is nowhere."""
        row, counted = self.model.row(self.sorted.mapToSource(index).row()), self._counted
        if counted is None or row.result is None or row.result.box is None:
            self._say(f"{row.of.name}: no voxel has this label.")
            return
        labels = counted.labels
        go_to(self._viewer, counted.result, middle_voxel(labels, row.of.value, row.result.box))

    def _kept_clicked(self, shown: bool) -> None:
        self._display.setValue((PRUNED_AT, 1) if shown else None)

    def _display_changed(self) -> None:
        self.kept.setChecked(self._display.value() is not None)

    def _say(self, text: str) -> None:
        name = "" if self._layer is None else str(self._layer.name)
        self.message.setText(text or name)
