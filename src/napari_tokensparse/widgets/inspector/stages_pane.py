"""The inspector's second pane: what each stage kept and pruned, and what another cut would."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from napari.utils.theme import get_theme
from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QVBoxLayout, QWidget
from superqt import QLabeledSlider

from napari_tokensparse.widgets.canvas.display import token_display
from napari_tokensparse.widgets.inspector.class_table import ClassTable
from napari_tokensparse.widgets.inspector.cut import CutControl
from napari_tokensparse.widgets.inspector.token_pane import NO_RESULT
from napari_tokensparse.widgets.layerfiles import suggested_file
from napari_tokensparse.widgets.layers import IMPORTANCE, PRUNED_AT, RANK, STAGE
from napari_tokensparse.widgets.results import results_of

if TYPE_CHECKING:
    import napari

    from napari_tokensparse.widgets.layers import TokenView

_VIEWS: dict[str, tuple[TokenView | None, str]] = {
    "nothing": (None, "Labels and image alone"),
    "importance": (IMPORTANCE, "Importance of the tokens that reached the stage, from 0 to 1"),
    "rank": (
        RANK,
        "Percentile among the live tokens of the window: 0 the least, 1 the most important",
    ),
    "live and pruned": (
        STAGE,
        "Tokens pruned at this stage in its colour, live ones grey, gone ones clear",
    ),
    "pruned at": (PRUNED_AT, "Where each token was pruned; kept ones are clear"),
}


class StagesPane(QWidget):
    """Steps through the stages in the canvas, and tries other cuts.

    Parameters
    ----------
    viewer
        The viewer with the result.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer, self._results = viewer, results_of(viewer)
        self._display = token_display(viewer)
        self._build()
        self.view.currentTextChanged.connect(lambda _: self._show())
        self.stage.valueChanged.connect(self._stage_changed)
        self.cut.ratiosPreviewed.connect(self._results.keepRatiosPreviewed)
        self._display.changed.connect(self._follow)
        self._results.changed.connect(self._result_changed)
        viewer.events.theme.connect(self._theme_changed)
        self._theme_changed()
        self._result_changed()

    def _build(self) -> None:
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.view = QComboBox()
        for row, (title, (_, tip)) in enumerate(_VIEWS.items()):
            self.view.addItem(title)
            self.view.setItemData(row, tip, Qt.ItemDataRole.ToolTipRole)
        self.view.setToolTip("What the canvas shows of the tokens, one map at a time")
        self.stage = QLabeledSlider(Qt.Orientation.Horizontal)
        self.stage.setRange(1, 1)
        self.stage.setToolTip("Pruning stage, from 1; arrow keys step through them")
        self.cut, self.classes = CutControl(partial(suggested_file, self._results)), ClassTable()
        form = QFormLayout()
        form.addRow("Show", self.view)
        form.addRow("Stage", self.stage)
        layout = QVBoxLayout(self)
        layout.addWidget(self.message)
        layout.addLayout(form)
        layout.addWidget(self.cut, stretch=1)
        layout.addWidget(self.classes, stretch=1)

    def _result_changed(self) -> None:
        result = self._results.latest
        self.message.setText("" if result else NO_RESULT)
        self.message.setVisible(result is None)
        for widget in (self.view, self.stage, self.classes):
            widget.setEnabled(result is not None)
        with QSignalBlocker(self.stage):
            self.stage.setRange(1, result.segmentation.tokens.stages if result else 1)
        self.cut.show_result(None if result is None else result.segmentation)
        self.cut.set_stage(self.stage.value())
        self.classes.count(result)
        self._follow()

    def _stage_changed(self, stage: int) -> None:
        """Show another stage; a person who steps through them wants to see something of them."""
        self.cut.set_stage(stage)
        if self._display.value() is None:
            self._display.setValue((IMPORTANCE, stage))
        else:
            self._show()

    def _show(self) -> None:
        """Show what is chosen."""
        view = _VIEWS[self.view.currentText()][0]
        self._display.setValue(None if view is None else (view, self.stage.value()))

    def _follow(self) -> None:
        """Choose what the canvas shows, whoever chose it there."""
        chosen = self._display.value()
        view = None if chosen is None else chosen[0]
        title = next(title for title, (each, _) in _VIEWS.items() if each == view)
        with QSignalBlocker(self.view), QSignalBlocker(self.stage):
            self.view.setCurrentText(title)
            if chosen is not None:
                self.stage.setValue(chosen[1])
        self.cut.set_stage(self.stage.value())

    def _theme_changed(self, _event: Any = None) -> None:
        colour = get_theme(self._viewer.theme).text.as_hex(format="long")
        self.cut.histogram.set_foreground(colour)
