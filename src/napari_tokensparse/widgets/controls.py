"""Small controls with ``value()``, ``setValue()`` and ``valueChanged``."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import (  # type: ignore[attr-defined]  # Signal is renamed by qtpy
    Qt,
    Signal,
)
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QLabeledDoubleSlider

from napari_tokensparse.model.folder import available_models
from napari_tokensparse.model.ratios import describe_keep_ratio, live_counts

SMALLEST_KEEP_RATIO = 0.05


class KeepRatioSlider(QWidget):
    """Slider for the keep ratio, with a line that says what it means.

    Parameters
    ----------
    parent
        Qt parent.
    """

    valueChanged = Signal(float)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._stages, self._tokens = 3, 0
        self.slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(SMALLEST_KEEP_RATIO, 1.0)
        self.slider.setSingleStep(0.05)  # type: ignore[arg-type]  # typed as an integer slider
        self.slider.setPageStep(0.1)  # type: ignore[arg-type]
        self.slider.setDecimals(2)
        self.meaning = QLabel()
        self.meaning.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.slider)
        layout.addWidget(self.meaning)
        self.slider.valueChanged.connect(self._changed)
        self.setValue(0.5)

    def value(self) -> float:
        """Return the keep ratio of each stage, in [0.05, 1]."""
        return round(float(self.slider.value()), 2)

    def setValue(self, keep_ratio: float) -> None:
        """Set the keep ratio; beyond the slider's range it is the nearest end."""
        self.slider.setValue(keep_ratio)
        self._describe()

    def set_network(self, stages: int, tokens: int) -> None:
        """Describe the keep ratio for a network of so many stages and tokens per window."""
        self._stages, self._tokens = stages, tokens
        self._describe()

    def _changed(self) -> None:
        self._describe()
        self.valueChanged.emit(self.value())

    def _describe(self) -> None:
        ratios = (self.value(),) * self._stages
        text = describe_keep_ratio(ratios)
        if self._tokens:
            counts = " → ".join(f"{n}" for n in live_counts(self._tokens, ratios))
            text += f"\nTokens of a window after each stage: {counts}"
        self.meaning.setText(text)


class ModelCombo(QWidget):
    """Choice of a model: bundled ones, the user's, and any folder through a dialog.

    Parameters
    ----------
    parent
        Qt parent.
    """

    valueChanged = Signal(Path)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.combo = QComboBox()
        for name, folder in available_models().items():
            self.combo.addItem(name, str(folder))
        self.browse = QPushButton("Browse…")
        self.browse.setToolTip("Choose a model folder, or a folder with an authors' checkpoint")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.combo, stretch=1)
        layout.addWidget(self.browse)
        self.combo.currentIndexChanged.connect(lambda _: self.valueChanged.emit(self.value()))
        self.browse.clicked.connect(self._browse)

    def value(self) -> Path | None:
        """Return the chosen model folder, or None where there is none to choose."""
        folder = self.combo.currentData()
        return None if folder is None else Path(folder)

    def setValue(self, folder: Path) -> None:
        """Choose a model folder, adding it where it is not listed."""
        index = self.combo.findData(str(folder))
        if index < 0:
            self.combo.addItem(folder.name, str(folder))
            index = self.combo.count() - 1
            self.combo.setItemData(index, str(folder), Qt.ItemDataRole.ToolTipRole)
        self.combo.setCurrentIndex(index)

    def _browse(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Choose a model folder")
        if chosen:
            self.setValue(Path(chosen))
