"""Image and labels beside image and tokens: napari's grid, whose cells share camera and slices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.layers import Image
from qtpy.QtCore import (  # type: ignore[attr-defined]  # Signal is renamed by qtpy
    QObject,
    QSignalBlocker,
    Signal,
)
from qtpy.QtWidgets import QPushButton

from napari_tokensparse.widgets.canvas.display import token_display
from napari_tokensparse.widgets.canvas.places import fit_to_object
from napari_tokensparse.widgets.layers import (
    IMPORTANCE,
    KEPT_BOXES,
    PRUNED_AT,
    PRUNED_BOXES,
    RANK,
    RESULT_KEY,
    STAGE,
)
from napari_tokensparse.widgets.outline import KIND as OUTLINE

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari
    from napari.layers import Layer
    from qtpy.QtWidgets import QAbstractButton

COPY = "beside tokens"
_TOKENS = (IMPORTANCE, RANK, STAGE, PRUNED_AT, KEPT_BOXES, PRUNED_BOXES, OUTLINE, COPY)
_LINKED = ("contrast_limits", "gamma", "colormap", "visible")
_FAINT = 0.3  # in 3-D: the image's projection would outshine the tokens


@dataclass(frozen=True)
class _Before:
    """How the viewer was."""

    order: tuple[Layer, ...]
    grid: dict[str, Any]
    has_tokens: bool
    ndisplay: int
    camera: dict[str, Any]


class Alongside(QObject):
    """Shows tokens, or one layer, over a copy of the image, in a cell beside all other layers.

    Parameters
    ----------
    viewer
        The viewer.
    parent
        Qt parent.
    """

    ended = Signal()
    """It is over: hidden, or the image or the grid was taken away."""
    began = Signal(bool)
    """It is shown: tokens if true, else a layer that was chosen."""

    def __init__(self, viewer: napari.Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer, self._layers, self._grid = viewer, viewer.layers, viewer.canvas.grid
        self._tokens = token_display(viewer)
        self._image: Image | None = None
        self._copy: Image | None = None
        self._chosen: Layer | None = None
        self._before: _Before | None = None
        for layer in viewer.layers:
            layer.events.visible.connect(self._arrange)
        self._layers.events.inserted.connect(self._inserted)
        self._layers.events.removed.connect(self._removed)
        self._grid.events.enabled.connect(self._grid_switched)
        viewer.dims.events.ndisplay.connect(self._fade)

    def show(self, image: Image | None, chosen: Layer | None = None) -> None:
        """Show an image's labels and tokens side by side; or all its layers and one that is chosen.

        Raises
        ------
        ValueError
            There are no tokens of it yet.
        """
        names = {layer.name for layer in self._layers}
        if image is None or (chosen is None and f"{image.name} {PRUNED_AT}" not in names):
            raise ValueError("No tokens to show beside the labels yet: click on Segment first.")
        self._put_back()
        grid = {name: getattr(self._grid, name) for name in ("shape", "stride", "enabled")}
        has_tokens = chosen is not None or self._tokens.value() is not None
        dims, camera = self._viewer.dims, self._viewer.scene.camera
        looks = {"zoom": camera.zoom, "center": camera.center}
        self._before = _Before(tuple(self._layers), grid, has_tokens, dims.ndisplay, looks)
        self._image, self._copy, self._chosen = image, _copy_of(image), chosen
        active = self._layers.selection.active
        self._viewer.add_layer(self._copy)
        self._layers.selection.active = active
        self._layers.link_layers([image, self._copy], _LINKED)
        self._fade()
        self._arrange()
        self._grid.shape = (1, 2)
        self._grid.enabled = True
        if not has_tokens:
            self._tokens.setValue((IMPORTANCE, 1))
        fit_to_object(self._viewer, image)
        self.began.emit(chosen is None)

    def hide(self, *, leave_tokens: bool = False) -> None:
        """Put the viewer back as it was, zoom included; layers that have come since lie on top.

        Tokens that were shown for it go too, unless ``leave_tokens``.
        """
        if self._put_back(leave_tokens):
            self.ended.emit()

    def _put_back(self, leave_tokens: bool = False) -> bool:
        before, copy, image = self._before, self._copy, self._image
        if before is None or copy is None or image is None:
            return False
        self._before = self._image = self._copy = self._chosen = None
        if copy in self._layers:
            self._layers.remove(copy)
        rest = [layer for layer in before.order if layer in self._layers]
        self._order([*rest, *(layer for layer in self._layers if layer not in rest)])
        for name, value in before.grid.items():
            setattr(self._grid, name, value)
        if not (before.has_tokens or leave_tokens):
            self._tokens.setValue(None)
        if self._viewer.dims.ndisplay == before.ndisplay:
            self._viewer.scene.camera.update(before.camera)
        else:  # 2-D and 3-D are zoomed differently
            fit_to_object(self._viewer, image)
        return True

    def _inserted(self, event: Any) -> None:
        event.value.events.visible.connect(self._arrange)
        self._arrange()

    def _removed(self, event: Any) -> None:
        if event.value in (self._image, self._copy, self._chosen):
            self.hide(leave_tokens=True)  # nothing is shown or hidden while napari removes a layer
        self._arrange()

    def _grid_switched(self, _event: Any = None) -> None:
        if not self._grid.enabled:
            self.hide()

    def _fade(self, _event: Any = None) -> None:
        """Let the tokens be seen through the image in 3-D."""
        if self._image is not None and self._copy is not None:
            share = _FAINT if self._viewer.dims.ndisplay == 3 else 1.0
            self._copy.opacity = share * self._image.opacity

    def _arrange(self, _event: Any = None) -> None:
        """Put the tokens that show on top, into a cell of their own.

        The cells of napari's grid hold equally many layers, hidden ones too, and the last one what
        is left. So the larger group gives the number; where it is the tokens' the cells are counted
        from the top.
        """
        if self._before is None:
            return
        shown = [layer for layer in self._layers if layer.visible and self._goes_beside(layer)]
        tokens = sorted(shown, key=lambda layer: layer is not self._copy)  # the copy below all
        rest = [layer for layer in self._layers if layer not in tokens]
        self._order([*rest, *tokens])
        if len(rest) >= len(tokens):
            self._grid.stride = len(rest)
        else:
            self._grid.stride = -len(tokens)

    def _goes_beside(self, layer: Layer) -> bool:
        chosen = self._chosen
        return _shows_tokens(layer) if chosen is None else layer in (chosen, self._copy)

    def _order(self, layers: list[Layer]) -> None:
        """Put layers in this order, the bottom one first, moving as few as can be."""
        for place, layer in enumerate(layers):
            if self._layers[place] is not layer:
                self._layers.move(self._layers.index(layer), place)


class BesideButton(QPushButton):
    """Shows an image's labels and tokens side by side while it is pressed.

    Parameters
    ----------
    alongside
        What shows them; another button may show a layer by it.
    choose
        Returns the image, or None where there is none.
    """

    said = Signal(str)
    """Why nothing is shown, in one line."""

    def __init__(self, alongside: Alongside, choose: Callable[[], Image | None]) -> None:
        super().__init__("Side by side")
        self._alongside, self._choose = alongside, choose
        self.setCheckable(True)
        self.setToolTip("Show image and labels beside image and tokens, moving together")
        self.toggled.connect(self._toggled)
        alongside.ended.connect(lambda: self.setChecked(False))
        alongside.began.connect(partial(mark, self))

    def _toggled(self, on: bool) -> None:
        if not on:
            self._alongside.hide()
            return
        try:
            self._alongside.show(self._choose())
        except ValueError as error:
            self.said.emit(str(error))
            self.setChecked(False)


def mark(button: QAbstractButton, on: bool) -> None:
    """Check a button, or not, for what has happened already."""
    with QSignalBlocker(button):
        button.setChecked(on)


def _shows_tokens(layer: Layer) -> bool:
    kind = str(layer.metadata.get(RESULT_KEY, ""))
    return kind.rstrip(" 0123456789") in _TOKENS


def _copy_of(image: Image) -> Image:
    """Return a layer of the same voxels and looks."""
    data, looks, _ = image.as_layer_data_tuple()
    metadata = {**image.metadata, RESULT_KEY: COPY}
    return Image(data, **{**looks, "name": f"{image.name} {COPY}", "metadata": metadata})
