"""A window with a result and the Class list beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QStyle, QStyleOptionViewItem

if TYPE_CHECKING:
    from qtpy.QtCore import QModelIndex

    from conftest import Inspected
    from napari_tokensparse.widgets import ClassListWidget
    from napari_tokensparse.widgets.classes.model import Column


@dataclass(frozen=True)
class Listed:
    """A window that shows the Class list."""

    inspected: Inspected
    widget: ClassListWidget

    @property
    def layer(self) -> Any:
        """The labels."""
        return self.inspected.layer("labels")

    def index(self, column: Column, row: int = 0) -> QModelIndex:
        """Return a cell as it is sorted."""
        return self.widget.sorted.index(row, column)

    def text(self, column: Column) -> str:
        """Return what the first row shows."""
        return str(self.index(column).data())

    def click(self, column: Column, *, tick: bool = False) -> None:
        """Click on a cell of the first row, or on its tick."""
        table, index = self.widget.table, self.index(column)
        at = table.visualRect(index).center()
        if tick:
            option = QStyleOptionViewItem()
            table.initViewItemOption(option)
            option.rect = table.visualRect(index)
            option.features |= QStyleOptionViewItem.ViewItemFeature.HasCheckIndicator
            element = QStyle.SubElement.SE_ItemViewItemCheckIndicator
            at = table.style().subElementRect(element, option, table).center()
        self.inspected.qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=at)

    def wait_for(self, voxels: int) -> None:
        """Wait until so many voxels are counted."""

        def counted() -> bool:
            result = self.widget.model.row(0).result
            return result is not None and result.voxels == voxels

        self.inspected.qtbot.waitUntil(counted, timeout=30_000)


@pytest.fixture
def listed(inspected: Inspected) -> Listed:
    """Open the Class list, as the menu does, and wait until it has counted."""
    window = inspected.viewer.window
    _, widget = window.add_plugin_dock_widget("napari-tokensparse", "Class list")
    made = Listed(inspected, widget)
    made.wait_for(int(np.count_nonzero(made.layer.data == 7)))
    return made
