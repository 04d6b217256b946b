"""Choice of the image layers that are the channels of one case: one combo per channel."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox
from qtpy.QtCore import Signal  # type: ignore[attr-defined]  # renamed by qtpy
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QWidget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from napari.layers import Image

NONE_YET = "none yet"
_TIP = "3-D image to segment"
_SHORTEST = 8  # letters of a layer's name: a longer one does not widen the window


class ChannelCombos(QWidget):
    """One combo of image layers for each channel of a model.

    Of a model with several channels, the layer of each is guessed (`guess_channels`) until a person
    chooses it. A layer that is chosen for two channels is told of below the combos.

    Parameters
    ----------
    scans
        Lists the layers that can be chosen.
    parent
        Qt parent.
    """

    valueChanged = Signal()

    def __init__(self, scans: Callable[[], list[Image]], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scans = scans
        self._channels: tuple[str, ...] = ("",)
        self._by_hand: dict[int, Image] = {}
        self._emitted: tuple[Image | None, ...] = ()
        self.combos: list[ComboBox] = []
        self.note = QLabel()
        self.note.setWordWrap(True)
        self._rows = QFormLayout(self)
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._rows.addRow(self.note)
        self.set_channels(self._channels)

    @property
    def channels(self) -> tuple[str, ...]:
        """Name of each channel."""
        return self._channels

    def value(self) -> tuple[Image | None, ...]:
        """Return the layer of each channel; None where none is chosen."""
        return tuple(combo.value for combo in self.combos)

    def set_channels(self, channels: Sequence[str]) -> None:
        """Ask for these channels instead; of several, the layers are guessed."""
        if tuple(channels) == self._channels and self.combos:
            return
        self._channels = tuple(channels)
        self._by_hand = {}
        for number in range(len(self.combos), len(channels)):
            self.combos.append(self._combo(number))
            self._rows.insertRow(number, QLabel(), self.combos[number].native)
        while len(self.combos) > len(channels):
            self._rows.removeRow(self.combos.pop().native)
        for combo, channel in zip(self.combos, channels, strict=True):
            label = self._rows.labelForField(combo.native)
            assert isinstance(label, QLabel)
            label.setText(channel)
            label.setVisible(len(channels) > 1)
            combo.native.setAccessibleName(f"Image: {channel}" if len(channels) > 1 else "Image")
            combo.tooltip = f"3-D image to segment: {channel}" if len(channels) > 1 else _TIP
        self.refresh()

    def refresh(self) -> None:
        """Follow the viewer's layers: list them, and guess anew what was not chosen by hand."""
        scans = self._scans()
        for combo in self.combos:
            with combo.changed.blocked():
                combo.reset_choices()
        if len(self.combos) > 1:
            self._by_hand = {n: layer for n, layer in self._by_hand.items() if layer in scans}
            fixed = {n: scans.index(layer) for n, layer in self._by_hand.items()}
            names = [layer.name for layer in scans]
            guessed = guess_channels(self._channels, names, fixed)
            for combo, at in zip(self.combos, guessed, strict=True):
                with combo.changed.blocked():
                    combo.value = None if at is None else scans[at]
        self._update_note()

    def repeated(self) -> str:
        """Say in words which layers are chosen for more than one channel; empty if none is."""
        uses: dict[Image, list[str]] = {}
        for channel, layer in zip(self._channels, self.value(), strict=True):
            if layer is not None:
                uses.setdefault(layer, []).append(channel)
        return "\n".join(
            f"{layer.name} is chosen for {' and '.join(names)}."
            for layer, names in uses.items()
            if len(names) > 1
        )

    def _combo(self, number: int) -> ComboBox:
        combo = ComboBox(choices=lambda _: self._choices())
        native = combo.native
        assert isinstance(native, QComboBox)
        native.setMinimumContentsLength(_SHORTEST)
        native.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        combo.changed.connect(lambda value: self._chosen(number, value))
        return combo

    def _choices(self) -> list[Any]:
        scans = self._scans()
        if len(self._channels) == 1:
            return scans
        return [(NONE_YET, None), *((layer.name, layer) for layer in scans)]

    def _chosen(self, number: int, layer: Image | None) -> None:
        self._by_hand.pop(number, None)
        if layer is not None:
            self._by_hand[number] = layer
        self._update_note()

    def _update_note(self) -> None:
        """Say what is chosen for two channels, and emit where a layer is another one."""
        repeated = self.repeated()
        self.note.setText(repeated)
        self.note.setVisible(bool(repeated))
        if self.value() != self._emitted:
            self._emitted = self.value()
            self.valueChanged.emit()


def guess_channels(
    channels: Sequence[str], names: Sequence[str], fixed: Mapping[int, int]
) -> list[int | None]:
    """Guess which layer is which channel; none is taken twice.

    A channel takes the first free layer whose name holds the channel's as whole words, in whatever
    case: ``T1`` is in ``sub-01_t1`` and not in ``t1ce``. Channels of longer names choose first.
    What is left goes in the order of the layers.

    Parameters
    ----------
    channels
        Names of the channels.
    names
        Names of the layers.
    fixed
        Number of the layer of each channel that a person chose.

    Returns
    -------
    list of int or None
        Number of each channel's layer; None where there are too few.

    Examples
    --------
    >>> guess_channels(["T1", "FLAIR"], ["flair.nii", "sub-01_t1"], {})
    [1, 0]
    """
    taken = dict(fixed)
    longest_first = sorted(range(len(channels)), key=lambda n: -len(_words(channels[n])))
    for channel in longest_first:
        matching = (n for n, name in enumerate(names) if _holds(name, channels[channel]))
        _take(taken, channel, matching)
    for channel in range(len(channels)):
        _take(taken, channel, range(len(names)))
    return [taken.get(channel) for channel in range(len(channels))]


def _take(taken: dict[int, int], channel: int, layers: Iterable[int]) -> None:
    free = next((n for n in layers if n not in taken.values()), None)
    if channel not in taken and free is not None:
        taken[channel] = free


def _words(name: str) -> str:
    """Return a name as small words between blanks."""
    return " ".join(["", *re.findall(r"[^\W_]+", name.lower()), ""])


def _holds(name: str, channel: str) -> bool:
    words = _words(channel)
    return bool(words.strip()) and words in _words(name)
