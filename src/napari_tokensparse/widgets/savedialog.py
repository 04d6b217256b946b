"""napari's own Save dialog: its first writer is napari's, which knows no NIfTI and no millimetres.

napari hands the layer to the writer whose line of formats is chosen in the dialog, whatever the
name says. So where a layer of ours is saved our line is chosen beforehand, if Qt draws the dialog;
and a name of a volume that napari's writer could not write is written by ours.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari
from napari.layers import Image, Labels
from napari.utils.notifications import (
    notification_manager,
    show_info,
    show_warning,
)
from qtpy.QtWidgets import QApplication, QDialog, QFileDialog, QLabel

from napari_tokensparse.outputs.writing import SUFFIXES
from napari_tokensparse.volumes.placement import KEY
from napari_tokensparse.widgets.layers import RESULT_KEY

if TYPE_CHECKING:
    from napari.layers import Layer
    from qtpy.QtWidgets import QWidget

PLUGIN = "napari-tokensparse"
DISPLAY_NAME = "Token Sparsification"
_FAILED = re.compile(r"File (?P<path>.+) save failed\.", re.DOTALL)


@cache  # once for all viewers
def watch_save_dialog() -> None:
    """Mend napari's Save dialog, as the module says, for as long as the program runs."""
    notification_manager.notification_ready.connect(_write_instead)
    app = QApplication.instance()
    assert isinstance(app, QApplication)
    app.focusChanged.connect(_choose_our_line)


def _write_instead(event: Any) -> None:
    """Write what napari's writer could not, in place of its error."""
    match = _FAILED.match(str(getattr(event, "exception", "")))
    viewer = napari.current_viewer()
    if match is None or viewer is None or not match["path"].lower().endswith(SUFFIXES):
        return
    _dismiss(match[0])
    path = Path(match["path"])
    layers = list(viewer.layers.selection)
    if len(layers) != 1 or not isinstance(layers[0], (Image, Labels)):
        show_warning(f"{path.name}: holds one layer of an image or of labels; select one and save")
        return
    try:
        written = viewer.layers.save(str(path), selected=True, plugin=PLUGIN)
    except OSError as error:
        show_warning(str(error))
        return
    if written:
        show_info(
            f"Saved {path.name} by {DISPLAY_NAME}: napari's own writer, which was chosen in the "
            "dialog, does not know this format."
        )


def _dismiss(text: str) -> None:
    """Close the message that has come up with napari's error: its traceback is for nobody."""
    for dialog in QApplication.allWidgets():
        if isinstance(dialog, QDialog) and dialog.isVisible():
            texts = [label.text() for label in dialog.findChildren(QLabel)]
            if any(one.startswith(text) for one in texts):
                dialog.close()


def _choose_our_line(_old: QWidget | None, new: QWidget | None) -> None:
    """Choose our line of formats in a dialog that has just come up for a layer of ours."""
    dialog = None if new is None else new.window()
    viewer = napari.current_viewer()
    if not isinstance(dialog, QFileDialog) or viewer is None or dialog.property(PLUGIN):
        return
    dialog.setProperty(PLUGIN, True)  # what a person chooses after that stays
    ours = [line for line in dialog.nameFilters() if line.startswith(f"{DISPLAY_NAME} ")]
    active = viewer.layers.selection.active
    if ours and active is not None and _is_of_a_scan(active):
        dialog.selectNameFilter(ours[0])


def _is_of_a_scan(layer: Layer) -> bool:
    return KEY in layer.metadata or RESULT_KEY in layer.metadata
