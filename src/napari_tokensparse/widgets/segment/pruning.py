"""What decides which tokens are pruned, beside the keep ratio: a rule, and tokens that are pinned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels, Shapes
from qtpy.QtCore import QSignalBlocker, Qt, Signal  # type: ignore[attr-defined]  # renamed by qtpy
from qtpy.QtWidgets import QComboBox, QFormLayout, QGroupBox, QWidget
from skimage.draw import polygon
from superqt import QLabeledDoubleSlider

from napari_tokensparse.volumes.placement import shown_placement

if TYPE_CHECKING:
    import napari
    from napari.layers import Image
    from numpy.typing import NDArray

    from napari_tokensparse.model.rules import Rule
    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.segmenting.preview import PreviewSession
    from napari_tokensparse.volumes.volume import Volume

SHARE, IMPORTANCE = "Share of tokens (keep ratio)", "Importance of tokens"
NOTHING = "Nothing"
_USUAL = 0.2


@dataclass(frozen=True, eq=False)
class Pruning:
    """What was chosen, read off the widget once.

    Attributes
    ----------
    importance
        The least importance of what a stage keeps; None where that is a share.
    keep, drop
        Masks ``(i, j, k)`` on the file's grid of tokens that are pinned; None where none are.
    """

    importance: float | None = None
    keep: NDArray[np.bool_] | None = None
    drop: NDArray[np.bool_] | None = None

    def options(self, volume: Volume, network: SCD) -> dict[str, Any]:
        """Return it in the words of `options_for`; the volume is placed for it, which takes time."""
        from napari_tokensparse.segmenting.pins import pins_under

        masks = {"pin": self.keep, "drop": self.drop}
        pins = {
            k: pins_under(mask, volume, network) for k, mask in masks.items() if mask is not None
        }
        return {"importance": self.importance, **pins}

    def of_session(self, session: PreviewSession) -> tuple[Rule | None, NDArray[np.int8] | None]:
        """Return the rule, None for keep ratios, and pins of a previewed volume's tokens."""
        from napari_tokensparse.model.rules import DROP, KEEP, Importance
        from napari_tokensparse.segmenting.pins import tokens_under

        rule = None if self.importance is None else Importance(self.importance)
        if self.keep is None and self.drop is None:
            return rule, None
        pins = np.zeros(session.places.grid, np.int8)
        for mask, kind in ((self.drop, DROP), (self.keep, KEEP)):
            if mask is not None:
                pins[tokens_under(mask, session.places)] = kind
        return rule, pins


BY_SHARE = Pruning()
"""Keep ratios alone decide."""


class PruningBox(QGroupBox):
    """Choice of the rule, and of layers whose tokens are kept or dropped.

    Parameters
    ----------
    viewer
        Whose Labels and Shapes layers can be chosen.
    parent
        Qt parent.
    """

    valueChanged = Signal()
    ruleChanged = Signal(bool)
    """Whether tokens are kept by their importance, and not by a share."""

    def __init__(self, viewer: napari.Viewer, parent: QWidget | None = None) -> None:
        super().__init__("Pruning", parent)
        self.setToolTip("How tokens are chosen, and which ones you decide about yourself")
        self.rule = QComboBox()
        self.rule.addItems([SHARE, IMPORTANCE])
        self.rule.setToolTip(
            "A share leaves every window the same part of its tokens; by importance, a window keeps "
            "what it needs"
        )
        self.importance = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.importance.setRange(0.0, 1.0)
        self.importance.setValue(_USUAL)
        self.importance.setToolTip(
            "Each stage keeps the tokens of at least this importance, and never fewer than one; 0 "
            "prunes none"
        )
        self.keep = _MaskCombo(
            viewer, "Never prune the tokens under what is painted or drawn there"
        )
        self.drop = _MaskCombo(
            viewer, "Prune the tokens under what is painted or drawn there first"
        )
        form = QFormLayout(self)
        form.addRow("Rule", self.rule)
        form.addRow("At least", self.importance)
        form.addRow("Keep tokens of", self.keep)
        form.addRow("Drop tokens of", self.drop)
        self.rule.currentIndexChanged.connect(lambda _: self._rule_changed())
        self.importance.valueChanged.connect(lambda _: self.valueChanged.emit())
        for combo in (self.keep, self.drop):
            combo.valueChanged.connect(self.valueChanged)
        self.importance.setEnabled(False)

    @property
    def by_importance(self) -> bool:
        """Whether tokens are kept by their importance."""
        return self.rule.currentText() == IMPORTANCE

    def value(self, layer: Image, volume: Volume) -> Pruning:
        """Return what is chosen for an image.

        Raises
        ------
        ValueError
            In one line: a layer holds nothing, or lies on another grid than the image.
        """
        importance = round(float(self.importance.value()), 3) if self.by_importance else None
        return Pruning(importance, self.keep.mask(layer, volume), self.drop.mask(layer, volume))

    def _rule_changed(self) -> None:
        self.importance.setEnabled(self.by_importance)
        self.ruleChanged.emit(self.by_importance)
        self.valueChanged.emit()


class _MaskCombo(QComboBox):
    """Choice of a Labels or Shapes layer, or of none."""

    valueChanged = Signal()

    def __init__(self, viewer: napari.Viewer, tip: str) -> None:
        super().__init__()
        self._viewer = viewer
        self._layers: list[Labels | Shapes] = []
        self.setToolTip(tip)
        self.setSizeAdjustPolicy(self.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.addItem(NOTHING)
        events = viewer.layers.events
        for changed in (events.inserted, events.removed, events.renamed):
            changed.connect(self._list)
        self.currentIndexChanged.connect(lambda _: self.valueChanged.emit())
        self._list()

    def value(self) -> Labels | Shapes | None:
        """Return the layer that is chosen."""
        index = self.currentIndex()
        return self._layers[index - 1] if index > 0 else None

    def mask(self, layer: Image, volume: Volume) -> NDArray[np.bool_] | None:
        """Return what the layer marks, on the file's grid; None where none is chosen."""
        chosen = self.value()
        if chosen is None:
            return None
        shown = _painted(chosen, layer) if isinstance(chosen, Labels) else _drawn(chosen, layer)
        if not shown.any():
            raise ValueError(f"{chosen.name}: marks no voxel of {layer.name}; paint or draw there")
        return np.asarray(shown_placement(volume).unview(shown))

    def _list(self, _event: Any = None) -> None:
        before = self.value()
        self._layers = [x for x in self._viewer.layers if isinstance(x, (Labels, Shapes))]
        with QSignalBlocker(self):
            while self.count() > 1:
                self.removeItem(1)
            self.addItems([each.name for each in self._layers])
            kept = before if before in self._layers else None
            self.setCurrentIndex(0 if kept is None else 1 + self._layers.index(kept))
        if kept is not before:
            self.valueChanged.emit()


def _shape(layer: Image) -> tuple[int, ...]:
    shape: tuple[int, ...] = (layer.data[0] if layer.multiscale else layer.data).shape[-3:]
    return shape


def _painted(labels: Labels, layer: Image) -> NDArray[np.bool_]:
    """Return where a Labels layer is not 0, on the image's grid as it is shown."""
    painted, shape = np.asarray(labels.data) != 0, _shape(layer)
    if painted.shape != shape:
        raise ValueError(
            f"{labels.name}: has {painted.shape} voxels, {layer.name} {shape}; paint on a layer of "
            "the image's grid"
        )
    return painted


def _drawn(shapes: Shapes, layer: Image) -> NDArray[np.bool_]:
    """Fill what is drawn on slices of an image, on the image's grid as it is shown."""
    inside = np.zeros(_shape(layer), bool)
    for drawn in shapes.data:
        world = [np.asarray(shapes.data_to_world(point))[-3:] for point in drawn]
        points = np.array([layer.world_to_data(point)[-3:] for point in world])
        flat = int(np.ptp(points, axis=0).argmin())  # the axis across which it was drawn
        across = round(float(points[:, flat].mean()))
        if not 0 <= across < inside.shape[flat]:
            continue
        slice_ = np.moveaxis(inside, flat, 0)[across]
        rows, columns = (points[:, axis] for axis in range(3) if axis != flat)
        slice_[polygon(rows, columns, slice_.shape)] = True
    return inside
