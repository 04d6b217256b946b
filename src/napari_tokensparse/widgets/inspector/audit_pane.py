"""The inspector's fourth pane: what pruning changed, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QHeaderView, QLabel, QSplitter, QVBoxLayout, QWidget

from napari_tokensparse.model.ratios import describe_keep_ratio
from napari_tokensparse.volumes.placement import shown_placement
from napari_tokensparse.widgets.importing import IMPORTING
from napari_tokensparse.widgets.layers import (
    DIFFERENCE,
    DIFFERENCE_COLOURS,
    RESULT_KEY,
    difference_layer,
    hex_colour,
    placement_kwargs,
)
from napari_tokensparse.widgets.results import results_of
from napari_tokensparse.widgets.run_control import RunControl
from napari_tokensparse.widgets.showing import show_layers
from napari_tokensparse.widgets.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    import napari
    from napari.layers import Image

    from napari_tokensparse.common.tables import Cell
    from napari_tokensparse.inspecting.audit import Audit, ClassAudit
    from napari_tokensparse.inspecting.components import Component
    from napari_tokensparse.inspecting.progress import RunProgress
    from napari_tokensparse.volumes.windows import Shape
    from napari_tokensparse.widgets.results import ShownResult

NO_RESULT = "Nothing to audit yet: segment an image with the Segment widget."
NOT_PRUNED = "The latest result prunes nothing: segment with a keep ratio below 1, then audit."
_COMPONENTS = ("Class", "Change", "Before", "After", "x", "y", "z")
_NARROWEST = 30  # pixels, of a column
_WIDTH = 430  # pixels: all columns side by side, with the names of classes on few lines


@dataclass(frozen=True, eq=False)
class Audited:
    """An audit, and the result that it is of."""

    result: ShownResult
    audit: Audit


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
        self._build()
        self._lay_out()
        self.run.startClicked.connect(self._start)
        self.run.received.connect(self._take)
        self.components.rowChosen.connect(self._row_chosen)
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
        self.components, self.classes = Table("components"), Table("classes of an audit")
        self.components.setToolTip(
            "Connected components that shrank by more than 20 %, vanished or appeared: volumes "
            "without (before) and with pruning (after) in mm³, and the centre in the patient, RAS "
            "mm. Click on a row, or press Enter, to go there."
        )
        self.classes.setToolTip(
            "Of each class: volume without (before) and with pruning (after) in mm³, their Dice, "
            "and the share of its voxels whose token was pruned at a stage, or kept"
        )
        for table in (self.components, self.classes):
            columns, rows = table.horizontalHeader(), table.verticalHeader()
            assert columns is not None and rows is not None
            columns.setStretchLastSection(False)
            columns.setMinimumSectionSize(_NARROWEST)
            columns.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
            rows.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)  # long names wrap

    def _lay_out(self) -> None:
        self.setMinimumWidth(_WIDTH)
        tables = QSplitter(Qt.Orientation.Vertical)
        tables.setChildrenCollapsible(False)
        tables.addWidget(_titled("Components that changed (mm³, mm)", self.components))
        tables.addWidget(_titled("Classes (mm³, tokens in %)", self.classes))
        layout = QVBoxLayout(self)
        layout.addWidget(self.ratio)
        layout.addWidget(self.run)
        layout.addWidget(self.summary)
        layout.addWidget(tables, stretch=1)

    def _result_changed(self) -> None:
        result = self._results.latest
        if result is None:
            self.ratio.setText(NO_RESULT)
        else:
            ratios = result.segmentation.stats.keep_ratios
            self.ratio.setText(f"{result.image.name}: {describe_keep_ratio(ratios)}")

    def _start(self) -> None:
        result = self._results.latest
        if result is None:
            self.run.say(NO_RESULT)
        elif all(ratio == 1.0 for ratio in result.segmentation.stats.keep_ratios):
            self.run.say(NOT_PRUNED)
        else:
            self.run.start(_audit, result)

    def _take(self, audited: Audited) -> None:
        self._audited = audited
        result, audit = audited.result, audited.audit
        image = result.image
        layer = difference_layer(
            image.name, placement_kwargs(image), result.volume, audit.difference
        )
        show_layers(self._viewer, [layer])
        self.run.say(_done_text(audited))
        self.summary.setText(summary(audit))
        self.components.show_rows(_COMPONENTS, [_component_row(c) for c in audit.components])
        stages = range(1, len(audit.keep_ratio) + 1)
        headers = ("Class", "Before", "After", "Dice", *(f"at {n}" for n in stages), "kept")
        found = (c for c in audit.classes if c.before_mm3 or c.after_mm3)
        self.classes.show_rows(headers, [_class_row(c, len(stages)) for c in found])
        for table in (self.components, self.classes):
            columns = table.horizontalHeader()
            assert columns is not None
            columns.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        hide_token_maps(self._viewer, image)

    def _row_chosen(self, place: int) -> None:
        assert self._audited is not None
        result, audit = self._audited.result, self._audited.audit
        go_to(self._viewer, result, audit.components[place].voxel)


def hide_token_maps(viewer: napari.Viewer, image: Image) -> None:
    """Hide what else of an image's result would lie over a difference."""
    shown = {f"{image.name} {kind}" for kind in ("labels", DIFFERENCE)}
    for layer in viewer.layers:
        if RESULT_KEY in layer.metadata and layer.name.startswith(f"{image.name} "):
            layer.visible = layer.visible and layer.name in shown


def go_to(viewer: napari.Viewer, result: ShownResult, voxel: Shape) -> None:
    """Move the slices and the camera to a voxel (i, j, k) of a result."""
    volume = result.volume
    shown = shown_placement(volume).to_shown(voxel, volume.shape)
    world = result.image.data_to_world(shown)
    dims, camera = viewer.dims, viewer.scene.camera
    for axis, value in enumerate(world, start=dims.ndim - len(world)):
        dims.set_point(axis, value)
    centre = [dims.point[axis] for axis in dims.displayed]
    camera.center = (*camera.center[: 3 - len(centre)], *centre)


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


def _titled(title: str, table: Table) -> QWidget:
    row = QHBoxLayout()
    row.addWidget(QLabel(title))
    row.addStretch()
    row.addWidget(table.save_button())
    part = QWidget()
    layout = QVBoxLayout(part)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addLayout(row)
    layout.addWidget(table, stretch=1)
    return part


def _component_row(component: Component) -> list[Cell]:
    c = component
    return [c.name, c.change, c.before_mm3, c.after_mm3, *c.centre_mm]


def _class_row(row: ClassAudit, stages: int) -> list[Cell]:
    shares = (*(row.rebuilt or (None,) * stages), row.kept)
    percent = (None if share is None else 100 * share for share in shares)
    return [row.name, row.before_mm3, row.after_mm3, row.dice, *percent]


def _audit(result: ShownResult) -> Iterator[RunProgress | Audited]:
    """Run without pruning, and compare, in the worker's thread; touches no widget."""
    with IMPORTING:
        from napari_tokensparse.inspecting.audit import compare, unpruned
        from napari_tokensparse.inspecting.progress import RunProgress, Setting
        from napari_tokensparse.inspecting.runs import running_each

    network, found = result.network, result.segmentation
    whole = [Setting(unpruned(network.config.stages))]
    for event in running_each(result.volume, network, whole, found.region):
        if isinstance(event, RunProgress):
            yield event
        else:
            audit = compare(result.volume, network.info, event.segmentation, found)
            yield Audited(result, audit)
