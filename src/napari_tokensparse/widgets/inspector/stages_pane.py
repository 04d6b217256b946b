"""The inspector's second pane: what each stage kept and pruned, and what another cut would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils.theme import get_theme
from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QVBoxLayout, QWidget
from superqt import QLabeledSlider

from napari_tokensparse.widgets.inspector.class_table import ClassTable
from napari_tokensparse.widgets.inspector.cut import CutControl
from napari_tokensparse.widgets.inspector.token_pane import NO_RESULT
from napari_tokensparse.widgets.layers import (
    IMPORTANCE,
    PRUNED_AT,
    RANK,
    STAGE,
    layer_kind,
    placement_kwargs,
    stage_looks,
    token_layer,
)
from napari_tokensparse.widgets.results import results_of
from napari_tokensparse.widgets.showing import result_layer, show_layers

if TYPE_CHECKING:
    from collections.abc import Iterator

    import napari
    from napari.layers import Layer

    from napari_tokensparse.widgets.layers import LayerSpec, TokenView
    from napari_tokensparse.widgets.results import ShownResult

_VIEWS: dict[str, tuple[TokenView, str]] = {
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
        self._build()
        self.view.currentTextChanged.connect(lambda _: self._show())
        self.stage.valueChanged.connect(self._stage_changed)
        self.cut.ratiosTried.connect(self._results.keepRatiosTried)
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
        self.cut, self.classes = CutControl(), ClassTable()
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
        if result is not None:
            show_layers(self._viewer, self._outdated(result))

    def _outdated(self, result: ShownResult) -> Iterator[LayerSpec]:
        """Describe anew the layers of this pane's own that an earlier run left."""
        for stage in range(1, result.segmentation.tokens.stages + 1):
            if self._layer(result, RANK, stage):
                yield self._spec(result, RANK, stage)
        if self._layer(result, STAGE, self.stage.value()):
            yield self._spec(result, STAGE, self.stage.value())

    def _stage_changed(self, stage: int) -> None:
        self.cut.set_stage(stage)
        self._show()

    def _show(self) -> None:
        """Show what is chosen, and hide the other maps."""
        result = self._results.latest
        if result is None:
            return
        view, stage = self._chosen()
        if self._layer(result, view, stage) is None:
            show_layers(self._viewer, [self._spec(result, view, stage)])
        chosen = self._layer(result, view, stage)
        assert chosen is not None
        if view == STAGE:
            for name, value in stage_looks(result.segmentation.tokens, stage).items():
                setattr(chosen, name, value)
        for other in self._maps(result):
            other.visible = other is chosen

    def _maps(self, result: ShownResult) -> list[Layer]:
        stages = range(1, result.segmentation.tokens.stages + 1)
        kinds = {layer_kind(view, n) for view, _ in _VIEWS.values() for n in stages}
        layers = (result_layer(self._viewer, result.image.name, kind) for kind in kinds)
        return [layer for layer in layers if layer is not None]

    def _chosen(self) -> tuple[TokenView, int]:
        return _VIEWS[self.view.currentText()][0], self.stage.value()

    def _layer(self, result: ShownResult, view: TokenView, stage: int) -> Layer | None:
        return result_layer(self._viewer, result.image.name, layer_kind(view, stage))

    def _spec(self, result: ShownResult, view: TokenView, stage: int) -> LayerSpec:
        image = result.image
        return token_layer(
            view,
            stage,
            image.name,
            placement_kwargs(image),
            result.volume,
            result.segmentation.tokens,
        )

    def _theme_changed(self, _event: Any = None) -> None:
        colour = get_theme(self._viewer.theme).text.as_hex(format="long")
        self.cut.histogram.set_foreground(colour)
