"""Choose how sure the network must be of a piece of a class for it to count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QDoubleSpinBox, QWidget

if TYPE_CHECKING:
    from napari_tokensparse.model.info import ModelInfo

MOST = 0.99


class LeastConfidence(QDoubleSpinBox):
    """How probable a connected piece must be at its surest voxel, from 0, where all count."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setRange(0.0, MOST)
        self.setSingleStep(0.01)
        self.setDecimals(2)
        self.setSpecialValueText("all pieces count")
        self.setToolTip(
            "Leave out connected pieces of a class of which the network is nowhere so sure: lower "
            "it to see fainter lesions, raise it for fewer false ones"
        )

    def show_model(self, info: ModelInfo) -> None:
        """Take what a model says."""
        self.setEnabled(info.exclusive)
        self.setValue(info.least_confidence)
