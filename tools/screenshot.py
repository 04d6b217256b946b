"""Make the pictures of the documentation from a real window: ``docs/images/*.png``.

Needs a display of at least 1280 x 800::

    xvfb-run -a -s "-screen 0 1280x800x24" python tools/screenshot.py [NAME ...]

NAME is one of PICTURES; without a name, all are made.
"""

from __future__ import annotations

import os
import runpy
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import napari
from PIL import Image
from qtpy.QtWidgets import QApplication, QSplitter

from napari_tokensparse.widgets.segment.estimate import ESTIMATING

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtWidgets import QWidget

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs/images"
TIMEOUT_S = 900
SLICE_MM = 4  # above the origin: through the basal ganglia
VOXEL = (80, 110, 75)  # in a thalamus, on that slice
TRAINED_MIN, SHOWN_FROM_DICE = 12, 0.6


def wait(seconds: float) -> None:
    """Let the window work for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


def wait_until(done: Callable[[], bool]) -> None:
    """Let the window work until something is so.

    Raises
    ------
    TimeoutError
        It has not become so in a quarter of an hour.
    """
    end = time.monotonic() + TIMEOUT_S
    while not done():
        if time.monotonic() > end:
            raise TimeoutError("the window is not done")
        wait(0.2)


def opened() -> napari.Viewer:
    """Open a window of the pictures' size."""
    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    return viewer


def dock(viewer: napari.Viewer, name: str) -> QWidget:
    """Open one of our widgets, as the menu does."""
    return viewer.window.add_plugin_dock_widget("napari-tokensparse", name)[1]


def save(viewer: napari.Viewer, name: str) -> Path:
    """Take the window's picture."""
    path = IMAGES / f"{name}.png"
    viewer.window.screenshot(path, flash=False)
    return path


def segmented() -> tuple[napari.Viewer, QWidget]:
    """Open the sample and click Segment."""
    viewer = opened()
    viewer.open_sample("napari-tokensparse", "mni-brain")
    widget = dock(viewer, "Segment")
    wait(2)
    widget.button.click()
    wait_until(lambda: widget.button.text() == "Segment")
    viewer.dims.set_point(0, SLICE_MM)
    wait(2)
    return viewer, widget


def inspecting() -> tuple[napari.Viewer, QWidget]:
    """Open the sample, click Segment, and open the Token inspector instead of the widget."""
    viewer, widget = segmented()
    viewer.window.remove_dock_widget(widget)
    return viewer, dock(viewer, "Token inspector")


def save_with_two_tabs(viewer: napari.Viewer, widget: QWidget, tab: QWidget, name: str) -> None:
    """Take the window's picture with a tab of the inspector; the one open now goes beside it."""
    wait(2)
    beside = IMAGES / "beside.png"
    widget.grab().save(str(beside))
    widget.tabs.setCurrentWidget(tab)
    wait(1)
    _append(save(viewer, name), beside)


def segment() -> None:
    """Show the Segment widget with labels and an importance map."""
    viewer, widget = segmented()
    wait_until(lambda: widget.estimate.text() not in ("", ESTIMATING))
    save(viewer, "segment")
    viewer.close()


def alongside() -> None:
    """Show image and labels beside image and tokens."""
    viewer, widget = segmented()
    widget.beside.click()
    wait(2)
    save(viewer, "alongside")
    viewer.close()


def inspector() -> None:
    """Show the inspector's token and, beside the window, its stages."""
    viewer, inspected = inspecting()
    for layer in viewer.layers:
        layer.visible = layer.visible and not layer.name.endswith(" labels")
    inspected.tabs.setCurrentWidget(inspected.stages)
    inspected.stages.view.setCurrentText("live and pruned")
    inspected.stages.stage.setValue(2)
    inspected.token.show_voxel(VOXEL)
    save_with_two_tabs(viewer, inspected, inspected.token, "inspector")
    viewer.close()


def curve() -> None:
    """Show the keep-ratio curve and, beside the window, the audit."""
    viewer, inspected = inspecting()
    for pane in (inspected.curve, inspected.audit):
        inspected.tabs.setCurrentWidget(pane)
        pane.run.button.click()
        wait_until(lambda pane=pane: not pane.run.is_busy)
    inspected.audit.components.rowChosen.emit(0)
    save_with_two_tabs(viewer, inspected, inspected.curve, "curve")
    viewer.close()


def train() -> None:
    """Show the Train widget in the middle of a run on generated data."""
    from napari_tokensparse.widgets.train.data_source import FileSource
    from napari_tokensparse.widgets.train.fields import Length

    with tempfile.TemporaryDirectory() as folder:
        os.environ["TOKENSPARSE_MODELS"] = str(Path(folder) / "models")
        tubes = runpy.run_path(str(ROOT / "tests/tubes.py"))
        data = tubes["write_msd"](Path(folder) / "tubes", cases=8, validation=2)
        viewer = opened()
        widget = dock(viewer, "Train")
        widget.settings.source.setValue(FileSource(data / "dataset.json"))
        widget.settings.network_size.setCurrentText("small")
        widget.settings.length.setValue(Length(minutes=TRAINED_MIN))
        wait(1)
        widget.findChild(QSplitter).setSizes([200, 500])
        widget.train.click()
        wait_until(lambda: _mean_dice(widget) >= SHOWN_FROM_DICE or widget.train.isEnabled())
        wait(1)
        save(viewer, "train")
        widget.stop.click()
        wait_until(widget.train.isEnabled)
        viewer.close()


def _mean_dice(widget: QWidget) -> float:
    curves = [curve.getOriginalDataset()[1] for curve in widget.plot.dice_curves.values()]
    return sum(curve[-1] for curve in curves if len(curve)) / max(len(curves), 1)


def _append(picture: Path, beside: Path) -> None:
    """Put a second picture to the right of one, and remove its file."""
    left, right = Image.open(picture).convert("RGB"), Image.open(beside).convert("RGB")
    both = Image.new("RGB", (left.width + right.width, max(left.height, right.height)), "#262930")
    both.paste(left, (0, 0))
    both.paste(right, (left.width, left.height - right.height))
    both.save(picture)
    beside.unlink()


PICTURES = {
    "segment": segment,
    "alongside": alongside,
    "inspector": inspector,
    "curve": curve,
    "train": train,
}


def main() -> None:
    """Make the pictures that are named, or all."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or PICTURES:
        PICTURES[name]()


if __name__ == "__main__":
    main()
