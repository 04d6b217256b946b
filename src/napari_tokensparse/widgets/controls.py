"""Small controls with ``value()``, ``setValue()`` and ``valueChanged``."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error
from qtpy.QtCore import (  # type: ignore[attr-defined]  # Signal is renamed by qtpy
    QEvent,
    QObject,
    QSignalBlocker,
    Qt,
    Signal,
)
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QInputDialog,
    QLabel,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)
from superqt import QLabeledDoubleRangeSlider, QLabeledDoubleSlider

from napari_tokensparse.model.folder import (
    available_models,
    no_model,
    shown_name,
)
from napari_tokensparse.model.hub import PREFIX, model_folder
from napari_tokensparse.model.ratios import describe_keep_ratio, live_counts
from napari_tokensparse.widgets.amber import make_amber, show_warnings
from napari_tokensparse.widgets.importing import IMPORTING
from napari_tokensparse.widgets.preferences import preferences
from napari_tokensparse.widgets.workers import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

SMALLEST_KEEP_RATIO = 0.05
AUTO_DEVICE = "auto"
NO_TOKEN = "No token is left after stage {}: raise the keep ratio."
_HUB = "Hub…"
_STEP, _PAGE = 0.05, 0.1
_KEYS = {
    Qt.Key.Key_Left: -_STEP,
    Qt.Key.Key_Down: -_STEP,
    Qt.Key.Key_Right: _STEP,
    Qt.Key.Key_Up: _STEP,
    Qt.Key.Key_PageDown: -_PAGE,
    Qt.Key.Key_PageUp: _PAGE,
    Qt.Key.Key_Home: -1.0,
    Qt.Key.Key_End: 1.0,
}


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
        self._stages, self._tokens, self._crops = 3, 0, False
        self.slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.slider.setToolTip(
            "Share of the live tokens that each pruning stage keeps, from 0.05 to 1; 1 prunes none"
        )
        self.meaning, self.warning, self.gains = QLabel(), QLabel(), QLabel()
        _set_up(self, self.slider, self.meaning, self.warning, self.gains)
        make_amber(self.warning)
        self.gains.hide()
        for handle in self.slider.findChildren(QSlider):
            handle.installEventFilter(self)
        self.slider.valueChanged.connect(self._changed)
        self.setValue(0.5)

    def value(self) -> float:
        """Return the keep ratio of each stage, in [0.05, 1]."""
        return round(float(self.slider.value()), 2)

    def setValue(self, keep_ratio: float) -> None:
        """Set the keep ratio; beyond the slider's range it is the nearest end."""
        self.slider.setValue(keep_ratio)
        self._describe()

    def eventFilter(self, _watched: QObject | None, event: QEvent | None) -> bool:
        """Move by keys, which superqt's sliders of floats do not do themselves."""
        step = _KEYS.get(Qt.Key(event.key())) if isinstance(event, QKeyEvent) else None
        if step is None or event is None or event.type() != QEvent.Type.KeyPress:
            return False
        self.setValue(self.value() + step)
        return True

    def set_network(self, stages: int, tokens: int, crops: bool = False) -> None:
        """Describe the keep ratio for a network.

        Parameters
        ----------
        stages, tokens
            Of the network, and of a window.
        crops
            Whether windows are cropped to what they hold: they then have fewer tokens.
        """
        self._stages, self._tokens, self._crops = stages, tokens, crops
        self._describe()

    def say_gains(self, text: str) -> None:
        """Say, below what it means, what the keep ratio buys: time and agreement."""
        self.gains.setText(text)
        self.gains.setVisible(bool(text))

    def _changed(self) -> None:
        self._describe()
        self.valueChanged.emit(self.value())

    def _describe(self) -> None:
        ratios = (self.value(),) * self._stages
        text = describe_keep_ratio(ratios)
        live = live_counts(self._tokens, ratios) if self._tokens else (1,)
        show_warnings(self.warning, [] if all(live) else [NO_TOKEN.format(live.index(0))])
        if self._tokens:
            counts = " → ".join(f"{n}" for n in live)
            window = "full window (fewer where it is empty)" if self._crops else "window"
            text += f"\nTokens of a {window} after each stage: {counts}"
        self.meaning.setText(text)


class KeepRangeSlider(QWidget):
    """Slider with two handles for the lowest and the highest keep ratio, with what they mean.

    Parameters
    ----------
    parent
        Qt parent.
    """

    valueChanged = Signal(tuple)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.slider = QLabeledDoubleRangeSlider(Qt.Orientation.Horizontal)
        self.slider.setToolTip(
            "Lowest and highest share of the live tokens that each pruning stage keeps"
        )
        self.meaning = QLabel()
        _set_up(self, self.slider, self.meaning)
        self.slider.valueChanged.connect(self._changed)
        self.setValue((0.1, 1.0))

    def value(self) -> tuple[float, float]:
        """Return the lowest and the highest keep ratio of each stage, in [0.05, 1]."""
        low, high = self.slider.value()
        return round(float(low), 2), round(float(high), 2)

    def setValue(self, keep_range: tuple[float, float]) -> None:
        """Set both ends; beyond the slider's range they are its nearest end."""
        self.slider.setValue(keep_range)
        self._describe()

    def _changed(self) -> None:
        self._describe()
        self.valueChanged.emit(self.value())

    def _describe(self) -> None:
        ends = zip(("Lowest", "Highest"), self.value(), strict=True)
        self.meaning.setText(
            "\n".join(f"{end}: {describe_keep_ratio((ratio,) * 3)}" for end, ratio in ends)
        )


def _set_up(
    widget: QWidget, slider: QLabeledDoubleSlider | QLabeledDoubleRangeSlider, *below: QLabel
) -> None:
    """Let a slider go over the keep ratios, with lines below it."""
    # superqt types its sliders of floats as integer ones.
    slider.setRange(SMALLEST_KEEP_RATIO, 1.0)  # type: ignore[arg-type]
    slider.setSingleStep(_STEP)  # type: ignore[arg-type]
    slider.setPageStep(_PAGE)  # type: ignore[arg-type]
    slider.setDecimals(2)
    layout = QVBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(slider)
    for line in below:
        line.setWordWrap(True)
        layout.addWidget(line)


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


def research_note() -> QLabel:
    """Return the line that every widget of ours ends with."""
    note = QLabel("For research only, not for diagnosis.")
    note.setEnabled(False)
    return note


def find_devices() -> list[str]:
    """Import torch, and name the devices that it finds."""
    with IMPORTING:
        from napari_tokensparse.segmenting.infer import available_devices

    return available_devices()
