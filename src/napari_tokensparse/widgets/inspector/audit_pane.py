"""The inspector's fourth pane: what pruning changed, and where."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSplitter,
    QVBoxLayout,
    QWidget,
)

from napari_tokensparse.inspecting.components import component_at
from napari_tokensparse.model.ratios import KEEP, describe_importance, describe_keep_ratio
from napari_tokensparse.volumes.definitions import working_spacing
from napari_tokensparse.widgets.canvas.places import go_to, place_texts
from napari_tokensparse.widgets.fitting import show_whole
from napari_tokensparse.widgets.importing import IMPORTING
from napari_tokensparse.widgets.inspector.differences import (
    DIFFERENCE,
    DIFFERENCE_COLOURS,
    difference_layer,
)
from napari_tokensparse.widgets.layers import RESULT_KEY, hex_colour, placement_kwargs
from napari_tokensparse.widgets.outline import COMPONENT, show_component
from napari_tokensparse.widgets.pruning.pinning import kept_tokens, pin_mask, with_neighbours
from napari_tokensparse.widgets.results import RunAgain, results_of
from napari_tokensparse.widgets.run_control import RunControl
from napari_tokensparse.widgets.showing import show_layers
from napari_tokensparse.widgets.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    import napari
    from napari.layers import Image
    from numpy.typing import NDArray

    from napari_tokensparse.common.tables import Cell
    from napari_tokensparse.inspecting.audit import Audit, ClassAudit
    from napari_tokensparse.inspecting.components import Component
    from napari_tokensparse.inspecting.progress import RunProgress
    from napari_tokensparse.segmenting.infer import Segmentation
    from napari_tokensparse.segmenting.options import Options
    from napari_tokensparse.volumes.region import Box
    from napari_tokensparse.widgets.results import ShownResult

NO_RESULT = "Nothing to audit yet: segment an image with the Segment widget."
NOT_PRUNED = "The latest result prunes nothing: segment with a keep ratio below 1, then audit."
_COMPONENTS = ("Class", "Change", "Before", "After", "R/L", "A/P", "S/I")
_PLACES = 4  # the first of the columns that say where
_WIDTH = 430  # pixels: all columns side by side, with the names of classes on few lines


@dataclass(frozen=True, eq=False)
class Audited:
    """An audit, the result that it is of, and the run without pruning."""

    result: ShownResult
    audit: Audit
    unpruned: Segmentation

    def marked(self, component: Component) -> tuple[Box, NDArray[np.bool_]]:
        """Return the box of a component and its mask: without pruning, or as it appeared."""
        appeared = component.change == "appeared"
        run = self.result.segmentation if appeared else self.unpruned
        mask = _class_mask(run, self.result, component.value)
        return component_at(mask, component.voxel)


@dataclass(frozen=True, eq=False)
class Pinned:
    """A component whose tokens are kept now: its box and mask, and the result before."""

    component: Component
    box: Box
    inside: NDArray[np.bool_]
    before: ShownResult

    def said(self, after: ShownResult) -> str:
        """Say which share of it has its label again: where few others are kept it may stay lost."""
        was, now = (self._share(result) for result in (self.before, after))
        return f"{self.component.name}, pinned: {now:.0%} of it is back ({was:.0%} before). "

    def _share(self, result: ShownResult) -> float:
        mask = _class_mask(result.segmentation, result, self.component.value)
        return float(mask[self.box.slices][self.inside].mean())


class AuditPane(QWidget):
    """Compares the latest result with a run without pruning.

    Parameters
    ----------
    viewer
        The viewer with the result.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer, self._results = viewer, results_of(viewer)
        self._audited: Audited | None = None
        self._chosen: Component | None = None
        self._again: RunAgain | None = None
        self._pinned: Pinned | None = None
        self._build()
        self._lay_out()
        self.run.startClicked.connect(self._start)
        self.run.received.connect(self._take)
        self.components.rowChosen.connect(self._row_chosen)
        self.pin_button.clicked.connect(lambda _: self._pin_and_run_again())
        self.smallest.valueChanged.connect(lambda _: self._show_components())
        self._results.changed.connect(self._result_changed)
        self._result_changed()

    def _build(self) -> None:
        self.ratio = QLabel()
        self.ratio.setWordWrap(True)
        self.ratio.setToolTip("The keep ratio of the latest result, which is audited")
        self.run = RunControl("Audit")
        self.run.button.setToolTip(
            "Segment the image without pruning, and show what the latest result lost and gained"
        )
        self.summary = QLabel()
        self.summary.setTextFormat(Qt.TextFormat.RichText)
        self.summary.setWordWrap(True)
        self.smallest = QDoubleSpinBox()
        self.smallest.setRange(0.0, 1e6)
        self.smallest.setDecimals(0)
        self.smallest.setSuffix(" mm³")
        show_whole(self.smallest)
        self.smallest.setToolTip(
            "Components that are smaller than this, without and with pruning, are not listed; one "
            "voxel of the model's grid at first"
        )
        self.hidden = QLabel()
        self.pin_button = QPushButton("Pin and run again")
        self.pin_button.setToolTip(
            "Add the tokens of the chosen component, and those that touch them, to the labels "
            "layer <image> keep, and segment again with these kept"
        )
        self.components, self.classes = Table("components"), Table("classes of an audit")
        self.components.setToolTip(
            "Connected components that shrank by more than 20 %, vanished or appeared: volumes "
            "without (before) and with pruning (after) in mm³, and the centre in the patient, mm "
            "(in files: RAS). Click on a row, or press Enter, to go there and mark it."
        )
        self.classes.setToolTip(
            "Of each class: volume without (before) and with pruning (after) in mm³, their Dice, "
            "and the share of its voxels whose token was pruned at a stage, or kept"
        )
        for table in (self.components, self.classes):
            table.let_names_wrap()

    def _lay_out(self) -> None:
        self.setMinimumWidth(_WIDTH)
        tables = QSplitter(Qt.Orientation.Vertical)
        tables.setChildrenCollapsible(False)
        sizes = QHBoxLayout()
        sizes.addWidget(QLabel("Hide below"))
        sizes.addWidget(self.smallest)
        sizes.addWidget(self.hidden, stretch=1)
        tables.addWidget(_titled("Components that changed (mm³, mm)", self.components, sizes))
        tables.addWidget(_titled("Classes (mm³, tokens in %)", self.classes))
        layout = QVBoxLayout(self)
        layout.addWidget(self.ratio)
        layout.addWidget(self.run)
        layout.addWidget(self.summary)
        layout.addWidget(self.pin_button)
        layout.addWidget(tables, stretch=1)

    def _result_changed(self) -> None:
        result = self._results.latest
        if result is None:
            self.ratio.setText(NO_RESULT)
        else:
            self.ratio.setText(f"{result.image.name}: {_kept_text(result.options)}")
        self._chosen = None
        self.pin_button.setEnabled(False)
        if self._again is not None and result is not None and result.options == self._again.options:
            self._compare_again(result)

    def _start(self) -> None:
        result = self._results.latest
        if result is None:
            self.run.say(NO_RESULT)
        elif result.options.prunes_nothing:
            self.run.say(NOT_PRUNED)
        else:
            self._pinned = None
            self.run.start(_audit, result)

    def _take(self, audited: Audited) -> None:
        self._audited = audited
        result, audit = audited.result, audited.audit
        image = result.image
        layer = difference_layer(
            image.name, placement_kwargs(image), result.volume, audit.difference
        )
        show_layers(self._viewer, [layer])
        back, self._pinned = "" if self._pinned is None else self._pinned.said(result), None
        self.run.say(back + _done_text(audited))
        self.summary.setText(summary(audit))
        with QSignalBlocker(self.smallest):
            self.smallest.setValue(model_voxel_mm3(result))
        self._show_components()
        stages = range(1, len(audit.keep_ratio) + 1)
        headers = ("Class", "Before", "After", "Dice", *(f"at {n}" for n in stages), "kept")
        changed = (c for c in audit.classes if c.before_mm3 or c.after_mm3)
        self.classes.show_rows(headers, [_class_row(c, len(stages)) for c in changed])
        hide_token_maps(self._viewer, image)

    def _listed(self) -> list[Component]:
        """Return the components that are not too small to be listed."""
        assert self._audited is not None
        smallest = self.smallest.value()
        components = self._audited.audit.components
        return [c for c in components if max(c.before_mm3, c.after_mm3) >= smallest]

    def _show_components(self) -> None:
        if self._audited is None:
            return
        listed, all_of_them = self._listed(), len(self._audited.audit.components)
        rows = [_component_row(c) for c in listed]
        self.components.show_rows(_COMPONENTS, rows, place_texts(_PLACES))
        self.hidden.setText(f"{all_of_them - len(listed)} of {all_of_them} are hidden")

    def _row_chosen(self, place: int) -> None:
        """Go to a component, and mark it: as it was without pruning, or as it appeared."""
        assert self._audited is not None
        result, component = self._audited.result, self._listed()[place]
        box, mask = self._audited.marked(component)
        self._chosen = component
        self.pin_button.setEnabled(component.change != "appeared")
        show_component(self._viewer, result.image, result.volume, box, mask)
        go_to(self._viewer, result, component.voxel)

    def _pin_and_run_again(self) -> None:
        """Keep the tokens of what was lost, and segment as before."""
        audited, component = self._audited, self._chosen
        assert audited is not None and component is not None
        result, (box, inside) = audited.result, audited.marked(component)
        lost = np.zeros(result.volume.shape, bool)
        lost[box.slices] = inside
        mask = with_neighbours(lost, result.segmentation.tokens)
        try:
            layer = pin_mask(self._viewer, result.image, result.volume, mask, KEEP)
        except ValueError as error:
            self.run.say(str(error))
            return
        self._results.pinned.emit((layer, KEEP))
        options = result.options.model_copy(update={"pin": kept_tokens(result, layer)})
        self._again = RunAgain(result, options)
        self._pinned = Pinned(component, box, inside, result)
        self._results.runAgain.emit(self._again)
        self.run.say(self._again.refusal or f"{component.name} is pinned; segmenting again …")
        if self._again.refusal:
            self._again = self._pinned = None

    def _compare_again(self, result: ShownResult) -> None:
        """Compare a run with more pins with the same run without pruning."""
        self._again, audited = None, self._audited
        if audited is not None and not self.run.is_busy:
            self.run.start(_compare, result, audited)


def hide_token_maps(viewer: napari.Viewer, image: Image) -> None:
    """Hide what else of an image's result would lie over a difference."""
    shown = {f"{image.name} {kind}" for kind in ("labels", DIFFERENCE, COMPONENT)}
    for layer in viewer.layers:
        if RESULT_KEY in layer.metadata and layer.name.startswith(f"{image.name} "):
            layer.visible = layer.visible and layer.name in shown


def summary(audit: Audit) -> str:
    """Say, as rich text, how many mm³ were lost, gained and given to another class."""
    _, *changed = audit.voxels().items()
    return " &nbsp; ".join(
        f"<font color='{hex_colour(DIFFERENCE_COLOURS[value])}'>■</font>&nbsp;"
        f"{name.replace(' ', '&nbsp;')}&nbsp;{voxels * audit.voxel_mm3:.0f}&nbsp;mm³"
        for value, (name, voxels) in enumerate(changed, start=1)
    )


def _done_text(audited: Audited) -> str:
    """Say what an audit is of."""
    result, audit = audited.result, audited.audit
    where = "" if audit.region is None else f" in region {audit.region}"
    parts = len(audit.components)
    return (
        f"{result.image.name}{where}, against keep ratio 1.0: {parts} "
        f"component{'s' * (parts != 1)} shrank by more than 20 %, vanished or appeared."
    )


def model_voxel_mm3(result: ShownResult) -> float:
    """Return the volume of a voxel on the grid that the model works on, in mm³."""
    info = result.network.info
    sides = (None if info is None else working_spacing(info.preprocessing)) or ()
    return math.prod((*sides, *result.volume.spacing[len(sides) :]))


def _class_mask(run: Segmentation, result: ShownResult, value: int) -> NDArray[np.bool_]:
    """Return the mask ``(i, j, k)`` of a class in a run of the result's model."""
    if run.regions is None:
        mask: NDArray[np.bool_] = run.labels == value
        return mask
    info = result.network.info
    assert info is not None
    region: NDArray[np.bool_] = run.regions[[c.value for c in info.classes].index(value)]
    return region


def _titled(title: str, table: Table, more: QHBoxLayout | None = None) -> QWidget:
    row = QHBoxLayout()
    row.addWidget(QLabel(title))
    row.addStretch()
    row.addWidget(table.save_button())
    part = QWidget()
    layout = QVBoxLayout(part)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addLayout(row)
    if more is not None:
        layout.addLayout(more)
    layout.addWidget(table, stretch=1)
    return part


def _component_row(component: Component) -> list[Cell]:
    c = component
    return [c.name, c.change, c.before_mm3, c.after_mm3, *c.centre_mm]


def _class_row(row: ClassAudit, stages: int) -> list[Cell]:
    shares = (*(row.rebuilt or (None,) * stages), row.kept)
    percent = (None if share is None else 100 * share for share in shares)
    return [row.name, row.before_mm3, row.after_mm3, row.dice, *percent]


def _kept_text(options: Options) -> str:
    least, pinned = options.importance, (options.pin, options.drop) != (None, None)
    said = describe_keep_ratio(options.keep_ratio) if least is None else describe_importance(least)
    return f"{said}; some tokens are pinned" if pinned else said


def _compare(result: ShownResult, audited: Audited) -> Iterator[Audited]:
    """Compare another run with the one without pruning, in the worker's thread."""
    from napari_tokensparse.inspecting.audit import compare

    unpruned, info = audited.unpruned, result.network.info
    audit = compare(result.volume, info, unpruned, result.segmentation)
    yield Audited(result, audit, unpruned)


def _audit(result: ShownResult) -> Iterator[RunProgress | Audited]:
    """Run without pruning, and compare, in the worker's thread; touches no widget."""
    with IMPORTING:
        from napari_tokensparse.inspecting.audit import compare, unpruned
        from napari_tokensparse.inspecting.progress import RunProgress, Setting
        from napari_tokensparse.inspecting.runs import running_each

    network, segmented = result.network, result.segmentation
    whole = [Setting(unpruned(network.config.stages))]
    for event in running_each(result.volume, network, whole, segmented.region):
        if isinstance(event, RunProgress):
            yield event
        else:
            audit = compare(result.volume, network.info, event.segmentation, segmented)
            yield Audited(result, audit, event.segmentation)
