"""Small controls with ``value()``, ``setValue()`` and ``valueChanged``."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error
from qtpy.QtCore import (  # type: ignore[attr-defined]  # Signal is renamed by qtpy
    QObject,
    QSignalBlocker,
    Qt,
    Signal,
)
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QHBoxLayout,
    QInputDialog,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_tokensparse.model.folder import (
    available_models,
    no_model,
    shown_name,
)
from napari_tokensparse.model.hub import PREFIX, model_folder
from napari_tokensparse.widgets.importing import IMPORTING
from napari_tokensparse.widgets.preferences import preferences
from napari_tokensparse.widgets.workers import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_tokensparse.model.info import ModelInfo

AUTO_DEVICE = "auto"
_SUREST = 0.99
_HUB = "Hub…"
_SHORTEST_NAME = 12  # characters of a model's name, at the least


class _Models(QObject):
    """Tells every widget of this program when a model folder was written or added."""

    written = Signal(Path)

    def __init__(self) -> None:
        super().__init__()
        self.added: list[Path] = []
        """Folders from elsewhere, listed until the program ends."""

    def add(self, folder: Path) -> None:
        """List a model folder from elsewhere in every widget, also those opened later."""
        if folder not in self.added:
            self.added.append(folder)
        self.written.emit(folder)


models = _Models()


class DeviceCombo(QComboBox):
    """Choice of a device, first that of napari's Preferences; torch's join in once it is imported.

    Parameters
    ----------
    parent
        Qt parent.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setToolTip("Where to compute; auto takes the fastest device of this machine")
        self.addItems([AUTO_DEVICE, "cpu"])
        self._unlisted = ""
        self.setValue(preferences.value().computing.device)
        preferences.deviceChanged.connect(self.setValue)
        worker = in_thread(find_devices)  # a thread, so that the window need not wait for torch
        worker.returned.connect(self._list)
        worker.start()

    def value(self) -> str:
        """Return the chosen device, for example ``auto`` or ``cuda:0``."""
        return self.currentText()

    def setValue(self, device: str) -> None:
        """Choose a device; one that is not listed joins in, and a run says whether it is there."""
        if self.findText(device) < 0:
            with QSignalBlocker(self):
                self.removeItem(self.findText(self._unlisted))  # a name that is being typed grows
                self.addItem(device)
            self._unlisted = device
        self.setCurrentText(device)

    def _list(self, devices: list[str]) -> None:
        chosen = self.currentText()
        self.clear()
        self.addItems([AUTO_DEVICE, *devices])
        self.setValue(chosen)


class _ListingCombo(QComboBox):
    """A combo that looks for new entries each time it is opened."""

    def __init__(self, refresh: Callable[[], None]) -> None:
        super().__init__()
        self._refresh = refresh

    def showPopup(self) -> None:
        self._refresh()
        super().showPopup()


class ModelCombo(QWidget):
    """Choice of a model: bundled ones, the user's, any folder, and what is trained meanwhile.

    Parameters
    ----------
    parent
        Qt parent.
    nothing
        What the choice of no model is called, the first one; None: there is no such choice.
    """

    valueChanged = Signal(object)
    """The folder, or None."""

    def __init__(self, parent: QWidget | None = None, nothing: str | None = None) -> None:
        super().__init__(parent)
        preferences.value()  # says where the user's models lie
        self.combo = _ListingCombo(self.refresh)
        self.combo.setToolTip("Model to segment with: a bundled one, yours, or any model folder")
        # A long name may not widen the widget beyond its dock; the tool tip has it whole.
        self.combo.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.combo.setMinimumContentsLength(_SHORTEST_NAME)
        if nothing is not None:
            self.combo.addItem(nothing, None)
        self.refresh()
        self.browse = QPushButton("Browse…")
        self.browse.setToolTip("Choose a model folder, or a folder with an authors' checkpoint")
        self.refusal = QLabel()
        self.refusal.setWordWrap(True)
        self.refusal.hide()
        row = QHBoxLayout()
        row.addWidget(self.combo, stretch=1)
        row.addWidget(self.browse)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.hub = QPushButton(_HUB)
        self.hub.setToolTip("Fetch a model of the Hugging Face Hub by its address, hf://owner/repo")
        row.addWidget(self.hub)
        self._fetching = ""
        layout.addLayout(row)
        layout.addWidget(self.refusal)
        self.combo.currentIndexChanged.connect(self._chosen)
        self.browse.clicked.connect(self._browse)
        self.hub.clicked.connect(self._ask_address)
        models.written.connect(self.add)
        preferences.modelsFolderChanged.connect(self.refresh)

    def refresh(self) -> None:
        """List models that came meanwhile, for example by a download; the choice stays."""
        with suppress(OSError):  # the folder of the Preferences may be anything
            for folder in (*available_models().values(), *models.added):
                self.add(folder)

    def value(self) -> Path | None:
        """Return the chosen model folder, or None where there is none to choose."""
        folder = self.combo.currentData()
        return None if folder is None else Path(folder)

    def folder(self) -> Path:
        """Return the chosen model folder.

        Raises
        ------
        ValueError
            There is none.
        """
        folder = self.value()
        if folder is None:
            raise ValueError("No model: choose a model folder with Browse.")
        return folder

    def setValue(self, folder: Path | None) -> None:
        """Choose a model folder, adding it where it is not listed; or None, where that is one."""
        if folder is not None:
            self.add(folder)
        self.combo.setCurrentIndex(self.combo.findData(None if folder is None else str(folder)))

    def add(self, folder: Path, name: str = "") -> None:
        """List a model folder, by another name than its own if one is given; the choice stays.

        One that is listed already is called as its folder says now: a run may have ended.
        """
        at = self.combo.findData(str(folder))
        if at < 0:
            at = self.combo.count()
            self.combo.addItem(name, str(folder))
            self.combo.setItemData(at, str(folder), Qt.ItemDataRole.ToolTipRole)
        if not self.combo.itemText(at).startswith(PREFIX):
            self.combo.setItemText(at, name or shown_name(folder))

    def _chosen(self, _index: int) -> None:
        self.refusal.hide()
        self.valueChanged.emit(self.value())

    def _browse(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Choose a model folder")
        if not chosen:
            return
        refused = no_model(Path(chosen))
        self.refusal.setText(refused)
        self.refusal.setVisible(bool(refused))
        if not refused:
            self.setValue(Path(chosen))

    def _ask_address(self) -> None:
        said, given = QInputDialog.getText(
            self, "Model of the Hugging Face Hub", "owner/repo, or owner/repo@revision:"
        )
        if given and said.strip():
            self._fetch(PREFIX + said.strip().removeprefix(PREFIX))

    def _fetch(self, address: str) -> None:
        """Fetch a model in a thread, for it may take minutes, and choose it then."""
        self._fetching = address
        self.hub.setEnabled(False)
        self.hub.setText("Fetching …")
        worker = in_thread(model_folder, address, failed=self._not_fetched)
        worker.returned.connect(self._fetched)
        worker.start()

    def _fetched(self, folder: Path) -> None:
        self._may_fetch()
        self.add(folder, self._fetching)  # the folder itself is called by a hash
        self.setValue(folder)

    def _not_fetched(self, error: BaseException) -> None:
        self._may_fetch()
        show_error(str(error))

    def _may_fetch(self) -> None:
        self.hub.setText(_HUB)
        self.hub.setEnabled(True)


class LeastConfidence(QDoubleSpinBox):
    """How probable a connected piece must be at its surest voxel, from 0, where all count."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setRange(0.0, _SUREST)
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


def research_note() -> QLabel:
    """Return the line that every widget of ours ends with."""
    return QLabel("For research only, not for diagnosis.")


def find_devices() -> list[str]:
    """Import torch, and name the devices that it finds."""
    with IMPORTING:
        from napari_tokensparse.segmenting.infer import available_devices

    return available_devices()
