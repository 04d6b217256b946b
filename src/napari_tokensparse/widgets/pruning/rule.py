"""Choice of the rule by which a stage keeps tokens, with the slider that belongs to it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from qtpy.QtCore import (  # type: ignore[attr-defined]  # Signal is renamed by qtpy
    QSignalBlocker,
    Signal,
)
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QVBoxLayout, QWidget

from napari_tokensparse.widgets.accessible import inputs
from napari_tokensparse.widgets.pruning.choice import Pruning
from napari_tokensparse.widgets.pruning.masks import MaskCombo, take_over
from napari_tokensparse.widgets.pruning.sliders import ImportanceSlider, KeepRatioSlider

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Labels

    from napari_tokensparse.model.config import SCDConfig
    from napari_tokensparse.volumes.volume import Volume

SHARE, IMPORTANCE = "Share of tokens", "Importance of tokens"
NO_STAGES = "This model prunes no tokens"
_TITLES = {SHARE: "Keep ratio", IMPORTANCE: "Importance ≥"}
_TIP = (
    "What a stage keeps: the same share of every window's tokens, or the tokens that are important "
    "enough, so that a window keeps what it needs"
)
_KEEP_TIP = (
    "A Labels or Shapes layer: tokens under what is painted or drawn there are never pruned, "
    "whatever their importance"
)
_DROP_TIP = (
    "A Labels or Shapes layer: tokens under what is painted or drawn there are pruned at the first "
    "stage; where both fall on a token, it is kept"
)


class PruningControl(QWidget):
    """The rule, its slider, and layers whose tokens are kept or dropped.

    Parameters
    ----------
    viewer
        Whose Labels and Shapes layers can be chosen.
    parent
        Qt parent.
    """

    valueChanged = Signal()
    """Anything that decides about tokens has changed."""
    ruleChanged = Signal(bool)
    """Whether tokens are kept by their importance, and not by a share."""

    def __init__(self, viewer: napari.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.rule = QComboBox()
        self.rule.addItems([SHARE, IMPORTANCE])
        self.rule.setToolTip(_TIP)
        self.keep_ratio, self.importance = KeepRatioSlider(), ImportanceSlider()
        self.title = QLabel(_TITLES[SHARE])
        self.importance.hide()
        self.keep, self.drop = MaskCombo(viewer, _KEEP_TIP), MaskCombo(viewer, _DROP_TIP)
        for part, title in zip((self.keep_ratio, self.importance), _TITLES.values(), strict=True):
            for child in inputs(part):
                child.setAccessibleName(title)  # the row has one label for both
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.keep_ratio)
        layout.addWidget(self.importance)
        self.rule.currentIndexChanged.connect(lambda _: self._rule_changed())
        for slider in (self.keep_ratio, self.importance):
            slider.valueChanged.connect(lambda _: self.valueChanged.emit())
        for combo in (self.keep, self.drop):
            combo.valueChanged.connect(self.valueChanged)

    @property
    def by_importance(self) -> bool:
        """Whether tokens are kept by their importance."""
        return self.rule.currentText() == IMPORTANCE

    @property
    def least(self) -> float | None:
        """The least importance of what is kept; None where a share is."""
        return self.importance.value() if self.by_importance else None

    def value(self, image: Image, volume: Volume) -> Pruning:
        """Return what is chosen for an image, beside the keep ratio.

        Raises
        ------
        ValueError
            In one line: a layer marks nothing of the image, or lies on another grid.
        """
        return Pruning(self.least, self.keep.marked(image, volume), self.drop.marked(image, volume))

    def set_keep_ratio(self, keep_ratio: float) -> None:
        """Keep a share of the tokens, and this one."""
        self.rule.setCurrentText(SHARE)
        self.keep_ratio.setValue(keep_ratio)

    def set_importance(self, least: float) -> None:
        """Keep tokens by their importance, and of at least this."""
        if self.rule.isEnabled():
            self.rule.setCurrentText(IMPORTANCE)
            self.importance.setValue(least)

    def set_pins(self, pinned: tuple[Labels, int]) -> None:
        """Choose a layer whose tokens are kept (1) or dropped (-1).

        What the layer marks that was chosen before is marked on it too. The other is let go of
        where its last token was pinned the other way.
        """
        layer, kind = pinned
        chosen, other = (self.keep, self.drop) if kind > 0 else (self.drop, self.keep)
        before = chosen.value()
        if before is not None and before is not layer:
            take_over(before, layer)
        chosen.setValue(layer)
        if other.is_empty:
            other.setValue(None)

    def set_network(self, config: SCDConfig) -> None:
        """Offer what a network has: its keep ratio, and rule and pins where it prunes."""
        if not config.stages:
            self.rule.setCurrentText(SHARE)
        tips = {self.rule: _TIP, self.keep: _KEEP_TIP, self.drop: _DROP_TIP}
        for combo, tip in tips.items():
            combo.setEnabled(config.stages > 0)
            combo.setToolTip(tip if config.stages else NO_STAGES)
        crops = config.crop_value is not None
        self.keep_ratio.set_network(config.stages, math.prod(config.grid), crops)
        with QSignalBlocker(self.keep_ratio):
            self.keep_ratio.setValue(config.keep_ratio[0] if config.keep_ratio else 1.0)

    def add_rows(self, form: QFormLayout) -> None:
        """Lay the rule and its slider out in a form."""
        form.addRow("Prune by", self.rule)
        form.addRow(self.title, self)

    def add_pin_rows(self, form: QFormLayout) -> None:
        """Lay the layers of pins out in a form."""
        form.addRow("Keep tokens", self.keep)
        form.addRow("Drop tokens", self.drop)

    def _rule_changed(self) -> None:
        self.title.setText(_TITLES[self.rule.currentText()])
        self.keep_ratio.setVisible(not self.by_importance)
        self.importance.setVisible(self.by_importance)
        self.ruleChanged.emit(self.by_importance)
        self.valueChanged.emit()
