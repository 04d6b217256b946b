"""The inspector's first pane: all about the token under the pointer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_tokensparse.inspecting.fates import LIVE_COLOUR, PIN_COLOURS
from napari_tokensparse.inspecting.tokens import token_at
from napari_tokensparse.model.ratios import DROP, KEEP
from napari_tokensparse.segmenting.tokenmaps import stage_colour
from napari_tokensparse.volumes.placement import orientation_known
from napari_tokensparse.widgets.canvas.places import position_text
from napari_tokensparse.widgets.inspector.pointer import Pointer, voxel_at
from napari_tokensparse.widgets.layers import hex_colour
from napari_tokensparse.widgets.outline import hide_outline, show_outline
from napari_tokensparse.widgets.pruning.pinning import LAYERS, pin_box
from napari_tokensparse.widgets.results import results_of
from napari_tokensparse.widgets.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    import napari

    from napari_tokensparse.common.tables import Cell
    from napari_tokensparse.inspecting.tokens import StageScore, Token
    from napari_tokensparse.volumes.region import Box
    from napari_tokensparse.volumes.windows import Shape
    from napari_tokensparse.widgets.results import ShownResult

NO_RESULT = "Nothing to inspect yet: segment an image with the Segment widget."
_LOOK_EVERY_MS = 40
_HEADERS = ("Stage", "Importance", "Rank (%)", "Place")
_ROWS = {
    "voxel": ("Voxel", "Index (i, j, k) of the voxel in the file, from 0"),
    "predicted": ("Class", "Predicted class at this voxel"),
    "fate": ("Token", "The stage at which the token was pruned, or that it was kept"),
    "position": ("Grid position", "Position (h, w, d) on the model's token grid, from 0"),
    "box": ("Voxels", "The voxels (i, j, k) whose centres lie in the token, first to last"),
    "centre": ("Centre", "Centre of the token in the patient, mm"),
    "size": ("Size", "Size of the token along (i, j, k), mm"),
}
_PIN_WORDS = {KEEP: "kept", DROP: "dropped"}
_FORMATS = {"fate": Qt.TextFormat.RichText}


class TokenPane(QWidget):
    """Shows the token under the pointer, and outlines it in the canvas.

    A click holds the token: it stays until the pointer is followed again, or the next click.

    Parameters
    ----------
    viewer
        The viewer with the result.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer, self._results = viewer, results_of(viewer)
        self._pointer: Pointer | None = None
        self._voxel: Shape | None = None
        self._box: Box | None = None  # of its token
        self._shown: ShownResult | None = None
        self._build()
        self._looking = QTimer(self)
        self._looking.setSingleShot(True)
        self._looking.setInterval(_LOOK_EVERY_MS)
        self._looking.timeout.connect(self._look)
        self._results.changed.connect(self._result_changed)
        self._listen()
        self._result_changed()

    def _build(self) -> None:
        self.follow = QCheckBox("Follow the pointer")
        self.follow.setToolTip(
            "Show the token under the pointer while it moves over the canvas. A click in the "
            "canvas holds the token that it is on."
        )
        self.follow.setChecked(True)
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.values = {name: QLabel() for name in _ROWS}
        form = QFormLayout()
        for name, (title, tip) in _ROWS.items():
            value = self.values[name]
            value.setToolTip(tip)
            value.setWordWrap(True)
            value.setTextFormat(_FORMATS.get(name, Qt.TextFormat.PlainText))
            value.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            form.addRow(title, value)
        self.stages = Table("stages of a token")
        self.stages.setToolTip(
            "What each stage thought of the token. Importance is in (0, 1). The rank is among the "
            "live tokens of its window: 100 % the most, 0 % the least important."
        )
        columns = self.stages.horizontalHeader()
        assert columns is not None
        columns.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        above = QHBoxLayout()
        above.addWidget(self.follow)
        above.addStretch()
        above.addWidget(self.stages.save_button())
        layout = QVBoxLayout(self)
        layout.addLayout(above)
        layout.addWidget(self.message)
        layout.addLayout(form)
        layout.addLayout(self._pin_row())
        layout.addWidget(self.stages, stretch=1)

    def _pin_row(self) -> QHBoxLayout:
        self.keep, self.drop = QPushButton("Keep this token"), QPushButton("Drop this token")
        row = QHBoxLayout()
        for button, kind, what in (
            (self.keep, KEEP, "Never prune"),
            (self.drop, DROP, "Prune at the first stage"),
        ):
            button.setToolTip(
                f"{what} the token that is shown in later runs and previews: its voxels are added "
                f"to the labels layer <image> {LAYERS[kind]}, which Segment then uses"
            )
            button.clicked.connect(partial(self._pin, kind))
            row.addWidget(button)
        return row

    def _pin(self, kind: int, _checked: bool = False) -> None:
        """Add the token that is shown to those that are kept or dropped."""
        result, box = self._results.latest, self._box
        if result is None or box is None:
            return
        try:
            layer = pin_box(self._viewer, result.image, result.volume, box, kind)
        except ValueError as error:
            self.message.setText(str(error))
            return
        self._results.pinned.emit((layer, kind))
        self.message.setText(
            f"Added to {layer.name}; Segment runs with it, and Ctrl+Z takes the stroke back."
        )

    def voxel(self) -> Shape | None:
        """Return the voxel (i, j, k) whose token is shown."""
        return self._voxel

    def show_voxel(self, voxel: Shape) -> None:
        """Show the token of a voxel (i, j, k) of the latest result."""
        result = self._results.latest
        if result is None:
            return
        info = result.network.info
        token = token_at(result.segmentation, voxel, result.volume, info)
        self._voxel, self._box = voxel, None if token is None else token.box
        self._describe(result, voxel, token)
        if token is None:
            hide_outline(self._viewer, result.image)
        else:
            show_outline(self._viewer, result.image, result.volume, token.box)

    def _listen(self) -> None:
        """Hear of the pointer until the pane is closed: napari's lists hold on to what is there."""
        moves, drags = self._viewer.mouse_move_callbacks, self._viewer.mouse_drag_callbacks
        moved, pressed = self._moved, self._pressed
        moves.append(moved)
        drags.append(pressed)
        self.destroyed.connect(lambda: (moves.remove(moved), drags.remove(pressed)))

    def _moved(self, _viewer: Any, event: Any) -> None:
        if self.follow.isChecked() and self.isVisible():
            self._pointer = Pointer.of(event)
            if not self._looking.isActive():
                self._looking.start()

    def _pressed(self, _viewer: Any, event: Any) -> Iterator[None]:
        """Look where a click was; a drag turns or moves the canvas and is none."""
        pointer = Pointer.of(event)
        yield
        if event.type == "mouse_release" and self.isVisible():
            self.follow.setChecked(False)
            self._pointer = pointer
            self._look()

    def _look(self) -> None:
        result = self._results.latest
        if result is None or self._pointer is None:
            return
        voxel = voxel_at(self._viewer, result.image, result.volume, self._pointer)
        if voxel is not None and voxel != self._voxel:
            self.show_voxel(voxel)

    def _result_changed(self) -> None:
        before, self._shown = self._shown, self._results.latest
        if self._shown is None:
            self._clear(NO_RESULT)
        elif self._voxel is not None and before is not None and _alike(before, self._shown):
            self.show_voxel(self._voxel)
        else:
            self._clear(f"Point at {self._shown.image.name}, or click there to hold a token.")

    def _may_pin(self) -> None:
        """Offer pins of a token that a run can keep or drop."""
        stages = 0 if self._shown is None else self._shown.segmentation.tokens.stages
        for button in (self.keep, self.drop):
            button.setEnabled(self._box is not None and stages > 0)

    def _clear(self, message: str) -> None:
        self._voxel = self._box = None
        self._may_pin()
        self.message.setText(message)
        for value in self.values.values():
            value.setText("–")
        self.stages.show_rows(_HEADERS, [])

    def _describe(self, result: ShownResult, voxel: Shape, token: Token | None) -> None:
        self.message.setText(result.image.name)
        self._may_pin()
        texts = dict.fromkeys(_ROWS, "–")
        texts["voxel"] = _joined(voxel)
        if token is None:
            texts["fate"] = "none: preprocessing leaves this voxel out"
        else:
            known = orientation_known(result.image.metadata)
            texts.update(_texts(token, result.segmentation.tokens.stages, known))
        for name, text in texts.items():
            self.values[name].setText(text)
        stages = result.segmentation.tokens.stages
        self.stages.show_rows(_HEADERS, stage_rows(() if token is None else token.stages, stages))


def stage_rows(scores: tuple[StageScore, ...], stages: int) -> list[list[Cell]]:
    """Lay out a token's scores: one row per stage, dashes where it did not get to."""
    rows: list[list[Cell]] = [[stage, None, None, None] for stage in range(1, stages + 1)]
    for row, score in zip(rows, scores, strict=False):
        row[1:] = score.importance, 100 * score.rank, f"{score.place} of {score.of}"
    return rows


def _alike(before: ShownResult, after: ShownResult) -> bool:
    return before.image is after.image and before.volume.shape == after.volume.shape


def _texts(token: Token, stages: int, known: bool) -> dict[str, str]:
    first, last = token.box.start, [end - 1 for end in token.box.stop]
    return {
        "predicted": token.predicted,
        "fate": _fate(token, stages),
        "position": f"{_joined(token.position)} of {' × '.join(map(str, token.grid))}",
        "box": ", ".join(f"{a}–{b}" for a, b in zip(first, last, strict=True)),
        "centre": position_text(token.centre_mm, known),
        "size": " × ".join(f"{mm:.1f}" for mm in token.size_mm) + " mm",
    }


def _fate(token: Token, stages: int) -> str:
    if token.pruned_at == 0:
        return "not processed"
    colour = LIVE_COLOUR if token.kept else stage_colour(token.pruned_at)
    text = (
        f"kept to the end, after {stages} stages"
        if token.kept
        else (f"pruned at stage {token.pruned_at} of {stages}")
    )
    if token.pinned:
        colour = PIN_COLOURS[token.pinned]
        text += f"; pinned: you {_PIN_WORDS[token.pinned]} it"
    return f"<font color='{hex_colour(colour)}'>■</font> {text}"


def _joined(index: tuple[int, ...]) -> str:
    return ", ".join(map(str, index))
