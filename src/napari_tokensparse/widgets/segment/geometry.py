"""How large voxels are and where their axes point, of layers that no file of our reader says it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import (  # type: ignore[attr-defined]  # Signal is renamed by qtpy
    QLocale,
    QSignalBlocker,
    Signal,
)
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QGridLayout,
    QLabel,
    QPushButton,
    QWidget,
)

from napari_tokensparse.volumes.placement import ORIENTATION_KEY, SHOWN_ORIENTATION
from napari_tokensparse.widgets.layervolumes import has_lengths, read_layer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image

_DIRECTIONS = {
    "S": "up (S)",
    "I": "down (I)",
    "P": "back (P)",
    "A": "front (A)",
    "L": "left (L)",
    "R": "right (R)",
}
_LINES = ("SI", "PA", "LR")
_SHORTEST_MM, _LONGEST_MM, _DECIMALS = 1e-6, 1000.0, 6


class _Millimetres(QDoubleSpinBox):
    """A length in mm, written without needless zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.setLocale(QLocale.c())
        self.setRange(_SHORTEST_MM, _LONGEST_MM)
        self.setDecimals(_DECIMALS)
        self.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
        self.setSuffix(" mm")

    def textFromValue(self, value: float) -> str:
        """Write a value as it is read."""
        return f"{value:.{_DECIMALS}f}".rstrip("0").rstrip(".")


class GeometryFields(QWidget):
    """Fields for the size of voxels and for orientation; seen where a layer does not say them.

    Nothing of a layer is changed until a person clicks on Set. Its units become mm then if they
    were no lengths.

    Parameters
    ----------
    parent
        Qt parent.
    """

    changed = Signal()
    """One of the layers lies otherwise than before, or has other units."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layers: tuple[Image, ...] = ()
        self._watched: tuple[Image, ...] = ()
        self.spacing = [_Millimetres() for _ in range(3)]
        self.towards = [QComboBox() for _ in range(3)]
        self.set = QPushButton("Set")
        self.set.setToolTip("Give these to the layer: its scale, its units in mm, its orientation")
        self.said = QLabel()
        self.said.setWordWrap(True)
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for axis, (mm, towards) in enumerate(zip(self.spacing, self.towards, strict=True)):
            mm.setToolTip(f"Edge of a voxel along axis {axis} of the layer")
            mm.setAccessibleName(f"Voxel size, axis {axis}")
            towards.addItems(list(_DIRECTIONS.values()))
            towards.setToolTip(f"The patient's side that napari's axis {axis} points to")
            towards.setAccessibleName(f"Direction of axis {axis}")
            layout.addWidget(mm, 1, axis)
            layout.addWidget(towards, 2, axis)
        for axis in range(3):
            self.towards[axis].currentIndexChanged.connect(lambda _, axis=axis: self._turned(axis))
        layout.addWidget(self.said, 0, 0, 1, 4)
        layout.addWidget(self.set, 1, 3, 2, 1)
        self._orientation = SHOWN_ORIENTATION
        self.set.clicked.connect(self._give)
        self.hide()

    def show_layers(self, layers: Sequence[Image | None]) -> None:
        """Show the fields if one of these layers, the channels of a scan, needs them."""
        self._watch(tuple(layer for layer in layers if layer is not None))
        self._layers = tuple(layer for layer in layers if layer is not None and _is_foreign(layer))
        if self._layers:
            self._read(self._layers[0])
        self.setVisible(bool(self._layers))

    def _watch(self, layers: tuple[Image, ...]) -> None:
        """Follow what a person does to the layers elsewhere, in napari's own controls."""
        for layer in self._watched:
            for event in _places(layer):
                event.disconnect(self._moved)
        self._watched = layers
        for layer in layers:
            for event in _places(layer):
                event.connect(self._moved)

    def _moved(self, _event: Any = None) -> None:
        self.show_layers(self._watched)
        self.changed.emit()

    def _read(self, layer: Image) -> None:
        volume, known = read_layer(layer, finite=False, lazy=True)
        for field, mm in zip(self.spacing, volume.spacing[::-1], strict=True):
            field.setValue(mm)
        self._orient(layer.metadata.get(ORIENTATION_KEY, SHOWN_ORIENTATION))
        unknown = [
            *([] if has_lengths(layer) else ["how large its voxels are"]),
            *([] if known else ["where its axes point to"]),
        ]
        said = f"{layer.name} does not say {' or '.join(unknown)}; these are assumed:"
        self.said.setText(said if unknown else f"{layer.name}, as you said:")

    def _orient(self, orientation: str) -> None:
        self._orientation = orientation
        for combo, letter in zip(self.towards, orientation, strict=True):
            with QSignalBlocker(combo):
                combo.setCurrentText(_DIRECTIONS[letter])

    def _turned(self, axis: int) -> None:
        """Let the axis that had this line before take the one that is free now."""
        before = self._orientation
        letter = list(_DIRECTIONS)[self.towards[axis].currentIndex()]
        now = [*before[:axis], letter, *before[axis + 1 :]]
        for other in range(3):
            if other != axis and _line(now[other]) == _line(letter):
                now[other] = before[axis]
        self._orient("".join(now))

    def _give(self) -> None:
        """Write what the fields say into the layers."""
        layers, wanted = self._watched, [field.value() for field in self.spacing]
        first = self._layers[0].data.shape
        self._watch(())
        for layer in self._layers:
            if layer.data.shape == first:
                _place(layer, wanted, self._orientation)
        self.show_layers(layers)
        self.changed.emit()


def _place(layer: Image, spacing: Sequence[float], orientation: str) -> None:
    """Give a layer the size of its voxels, (z, y, x) in mm, and what its axes point to."""
    if not has_lengths(layer):
        layer.units = ("mm",) * 3
    now = read_layer(layer, finite=False, lazy=True)[0].spacing[::-1]
    layer.scale = [old * mm / was for old, mm, was in zip(layer.scale, spacing, now, strict=True)]
    layer.metadata = {**layer.metadata, ORIENTATION_KEY: orientation}


def _places(layer: Image) -> tuple[Any, ...]:
    events = layer.events
    return events.scale, events.units, events.affine, events.rotate, events.shear


def _is_foreign(layer: Image) -> bool:
    """Whether a layer is a volume that lies otherwise than our reader placed it, if it did."""
    try:
        return read_layer(layer, finite=False, lazy=True)[0].axes_as_shown
    except ValueError:
        return False


def _line(letter: str) -> str:
    return next(line for line in _LINES if letter in line)
