"""Where the Train widget finds its cases: files, or layers that are open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from magicgui.widgets import ComboBox
from napari.layers import Image, Labels
from qtpy.QtCore import Signal  # type: ignore[attr-defined]  # renamed by qtpy
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_tokensparse.widgets.layers import RESULT_KEY
from napari_tokensparse.widgets.paths.edit import PathEdit

if TYPE_CHECKING:
    from pathlib import Path

    import napari

LISTED, TWO_FOLDERS, LAYERS = "Folder or dataset.json", "Images and labels", "Open layers"
_JSON = "List of cases (*.json)"
_SHRINK = QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon  # names can be long
_SHORTEST_NAME = 12


@dataclass(frozen=True)
class FileSource:
    """A folder or list of cases, or a folder of images beside one of labels."""

    data: Path | None = None
    labels: Path | None = None
    zero_is_unlabelled: bool = False

    @property
    def name(self) -> str:
        """What to call it: the folder's name."""
        if self.data is None:
            return ""
        folder = self.data.parent if self.data.suffix == ".json" or self.labels else self.data
        return folder.name


@dataclass(frozen=True)
class LayerSource:
    """Image layers, each with its labels layer."""

    pairs: tuple[tuple[Image, Labels], ...] = ()
    zero_is_unlabelled: bool = False

    @property
    def name(self) -> str:
        """What to call it: the first image's name."""
        return self.pairs[0][0].name if self.pairs else ""


Source: TypeAlias = FileSource | LayerSource


class DataSource(QWidget):
    """Choice of the data to train on.

    Parameters
    ----------
    viewer
        Whose layers can be chosen.
    parent
        Qt parent.
    """

    valueChanged = Signal()

    def __init__(self, viewer: napari.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.kind = QComboBox()
        self.kind.addItems([LISTED, TWO_FOLDERS, LAYERS])
        self.data = PathEdit("Choose a data set", _JSON)
        self.images = PathEdit("Choose the folder of the images")
        self.labels = PathEdit("Choose the folder of the labels")
        self.pairs = LayerPairs(viewer)
        self.zero = QCheckBox("0 means unlabelled, not background")
        self.zero.setToolTip(
            "Leave voxels of label 0 out of the loss: a few painted slices are then enough,\\n"
            "if what is not the class is painted too, as another class"
        )
        self._lay_out()
        self.kind.currentIndexChanged.connect(self._show_page)
        for part in (self.data, self.images, self.labels, self.pairs):
            part.valueChanged.connect(self.valueChanged)
        self.zero.toggled.connect(lambda _: self.valueChanged.emit())
        self._show_page(0)

    def value(self) -> Source:
        """Return what is chosen."""
        zero, kind = self.zero.isChecked(), self.kind.currentText()
        if kind == LAYERS:
            return LayerSource(self.pairs.value(), zero)
        if kind == TWO_FOLDERS:
            return FileSource(self.images.value(), self.labels.value(), zero)
        return FileSource(self.data.value(), None, zero)

    def setValue(self, source: Source) -> None:
        """Choose files or layers."""
        self.zero.setChecked(source.zero_is_unlabelled)
        if isinstance(source, LayerSource):
            self.kind.setCurrentText(LAYERS)
            self.pairs.setValue(source.pairs)
        elif source.labels is not None:
            self.kind.setCurrentText(TWO_FOLDERS)
            self.images.setValue(source.data)
            self.labels.setValue(source.labels)
        else:
            self.kind.setCurrentText(LISTED)
            self.data.setValue(source.data)

    def _lay_out(self) -> None:
        self._pages = [self.data, QWidget(), self.pairs]
        folders = QFormLayout(self._pages[1])
        folders.setContentsMargins(0, 0, 0, 0)
        folders.addRow("Images", self.images)
        folders.addRow("Labels", self.labels)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.kind, *self._pages, self.zero):
            layout.addWidget(widget)

    def _show_page(self, index: int) -> None:
        for number, page in enumerate(self._pages):
            page.setVisible(number == index)
        self.valueChanged.emit()


class LayerPairs(QWidget):
    """Rows of an image layer and its labels layer.

    Parameters
    ----------
    viewer
        Whose layers can be chosen; the results of a run are left out.
    parent
        Qt parent.
    """

    valueChanged = Signal()

    def __init__(self, viewer: napari.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.rows: list[_Row] = []
        self.add = QPushButton("Add a pair")
        self.remove = QPushButton("Remove the last")
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        buttons = QHBoxLayout()
        for button in (self.add, self.remove):
            buttons.addWidget(button)
        self._layout.addLayout(buttons)
        self.add.clicked.connect(self._add_row)
        self.remove.clicked.connect(self._remove_row)
        viewer.layers.events.inserted.connect(self._layers_changed)
        viewer.layers.events.removed.connect(self._layers_changed)
        self._add_row()

    def value(self) -> tuple[tuple[Image, Labels], ...]:
        """Return the pairs that are complete."""
        pairs = [(row.image.value, row.labels.value) for row in self.rows]
        return tuple(pair for pair in pairs if None not in pair)

    def setValue(self, pairs: tuple[tuple[Image, Labels], ...]) -> None:
        """Choose these pairs of layers, which the viewer holds."""
        while len(self.rows) < max(1, len(pairs)):
            self._add_row()
        while len(self.rows) > max(1, len(pairs)):
            self._remove_row()
        for row, (image, labels) in zip(self.rows, pairs, strict=False):
            row.image.value, row.labels.value = image, labels

    def _add_row(self) -> None:
        row = _Row(self._viewer)
        row.image.changed.connect(self._emit)
        row.labels.changed.connect(self._emit)
        self.rows.append(row)
        self._layout.insertWidget(len(self.rows) - 1, row)
        for kind, combo in (("Image", row.image), ("Labels", row.labels)):
            combo.native.setAccessibleName(f"{kind} of pair {len(self.rows)}")
        self._rows_changed()

    def _remove_row(self) -> None:
        row = self.rows.pop()
        self._layout.removeWidget(row)
        row.deleteLater()
        self._rows_changed()

    def _rows_changed(self) -> None:
        self.remove.setEnabled(len(self.rows) > 1)
        self.valueChanged.emit()

    def _layers_changed(self, _event: Any = None) -> None:
        for row in self.rows:
            row.image.reset_choices()
            row.labels.reset_choices()

    def _emit(self, _value: Any = None) -> None:
        self.valueChanged.emit()


class _Row(QWidget):
    """One image layer and one labels layer."""

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self.image = ComboBox(choices=lambda _: _layers(viewer, Image))
        self.labels = ComboBox(choices=lambda _: _layers(viewer, Labels))
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        for title, combo in (("Image", self.image), ("Labels", self.labels)):
            combo.native.setSizeAdjustPolicy(_SHRINK)
            combo.native.setMinimumContentsLength(_SHORTEST_NAME)
            form.addRow(title, combo.native)


def _layers(viewer: napari.Viewer, kind: type[Any]) -> list[Any]:
    """List the layers of a kind, our own results left out."""
    layers = (layer for layer in viewer.layers if isinstance(layer, kind))
    return [layer for layer in layers if RESULT_KEY not in layer.metadata]
