"""Sliders of what is kept of tokens: a keep ratio, a range of them, the least importance."""

from __future__ import annotations

from qtpy.QtCore import (  # type: ignore[attr-defined]  # Signal is renamed by qtpy
    QEvent,
    QObject,
    Qt,
    Signal,
)
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QLabel, QSlider, QVBoxLayout, QWidget
from superqt import QLabeledDoubleRangeSlider, QLabeledDoubleSlider

from napari_tokensparse.model.ratios import (
    describe_importance,
    describe_keep_ratio,
    live_counts,
)
from napari_tokensparse.widgets.amber import make_amber, show_warnings

SMALLEST_KEEP_RATIO = 0.05
NO_TOKEN = "No token is left after stage {}: raise the keep ratio."
USUAL_IMPORTANCE = 0.1
_STEP, _PAGE = 0.05, 0.1
_FINE, _FINE_PAGE = 0.01, 0.1  # of importances
_KEYS = {
    Qt.Key.Key_Left: -1,
    Qt.Key.Key_Down: -1,
    Qt.Key.Key_Right: 1,
    Qt.Key.Key_Up: 1,
}
_PAGES = {Qt.Key.Key_PageDown: -1, Qt.Key.Key_PageUp: 1}
_ENDS = {Qt.Key.Key_Home: -1.0, Qt.Key.Key_End: 1.0}


class _Keys(QObject):
    """Moves a slider by keys, which superqt's sliders of floats do not do themselves."""

    def __init__(self, slider: QLabeledDoubleSlider, step: float, page: float) -> None:
        super().__init__(slider)
        self._slider = slider
        self._steps = {
            **{key: step * way for key, way in _KEYS.items()},
            **{key: page * way for key, way in _PAGES.items()},
            **_ENDS,
        }
        for handle in slider.findChildren(QSlider):
            handle.installEventFilter(self)

    def eventFilter(self, _watched: QObject | None, event: QEvent | None) -> bool:
        """Move by the keys of a slider; leave all other events alone."""
        step = self._steps.get(Qt.Key(event.key())) if isinstance(event, QKeyEvent) else None
        if step is None or event is None or event.type() != QEvent.Type.KeyPress:
            return False
        self._slider.setValue(self._slider.value() + step)
        return True


class _FloatSlider(QWidget):
    """A slider of one number, with lines below it on what its value means and brings."""

    valueChanged = Signal(float)
    _digits: int

    def __init__(self, parent: QWidget | None) -> None:
        super().__init__(parent)
        self.slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.meaning, self.gains = QLabel(), QLabel()
        self.gains.hide()
        self.slider.valueChanged.connect(self._changed)

    def value(self) -> float:
        """Return the number, as it is written."""
        return round(float(self.slider.value()), self._digits)

    def setValue(self, value: float) -> None:
        """Set the number; beyond the slider's range it is the nearest end."""
        self.slider.setValue(value)
        self._describe()

    def say_gains(self, text: str) -> None:
        """Say, below what it means, what the number brings: tokens, time and agreement."""
        self.gains.setText(text)
        self.gains.setVisible(bool(text))

    def _changed(self) -> None:
        self._describe()
        self.valueChanged.emit(self.value())

    def _describe(self) -> None:
        raise NotImplementedError


class KeepRatioSlider(_FloatSlider):
    """Slider for the keep ratio of each stage, in [0.05, 1], with a line that says what it means.

    Parameters
    ----------
    parent
        Qt parent.
    """

    _digits = 2

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._stages, self._tokens, self._crops = 3, 0, False
        self.slider.setToolTip(
            "Share of the live tokens that each pruning stage keeps, from 0.05 to 1; 1 prunes none"
        )
        self.warning = QLabel()
        _set_up(self, self.slider, self.meaning, self.warning, self.gains)
        make_amber(self.warning)
        self._keys = _Keys(self.slider, _STEP, _PAGE)
        self.setValue(0.5)

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


class ImportanceSlider(_FloatSlider):
    """Slider for the least importance of what a stage keeps, in [0, 1], with what that comes to.

    Parameters
    ----------
    parent
        Qt parent.
    """

    _digits = 3  # importances lie close together

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.slider.setToolTip(
            "Each pruning stage keeps the tokens of at least this importance, from 0 to 1, and "
            "never fewer than one of a window; 0 prunes none"
        )
        _lay_out(self, self.slider, self.meaning, self.gains)
        # superqt types its sliders of floats as integer ones.
        self.slider.setRange(0.0, 1.0)
        self.slider.setSingleStep(_FINE)  # type: ignore[arg-type]
        self.slider.setPageStep(_FINE_PAGE)  # type: ignore[arg-type]
        self.slider.setDecimals(self._digits)
        self._keys = _Keys(self.slider, _FINE, _FINE_PAGE)
        self.setValue(USUAL_IMPORTANCE)

    def _describe(self) -> None:
        self.meaning.setText(describe_importance(self.value()))


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
    _lay_out(widget, slider, *below)


def _lay_out(
    widget: QWidget, slider: QLabeledDoubleSlider | QLabeledDoubleRangeSlider, *below: QLabel
) -> None:
    layout = QVBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(slider)
    for line in below:
        line.setWordWrap(True)
        layout.addWidget(line)
