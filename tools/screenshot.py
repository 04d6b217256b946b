"""Make the pictures of the documentation from a real window: ``docs/images/*.png``.

Needs a display of at least 1280 x 800::

    xvfb-run -a -s "-screen 0 1280x800x24" python tools/screenshot.py
"""

from __future__ import annotations

import time
from pathlib import Path

import napari
from qtpy.QtWidgets import QApplication

IMAGES = Path(__file__).parents[1] / "docs/images"
TIMEOUT_S = 300


def wait(seconds: float) -> None:
    """Let the window work for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


def main() -> None:
    """Open the sample, click Segment, and take the window's picture."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    viewer.open_sample("napari-tokensparse", "mni-brain")
    _, widget = viewer.window.add_plugin_dock_widget("napari-tokensparse", "Segment")
    wait(2)
    widget.button.click()
    end = time.monotonic() + TIMEOUT_S
    while widget.button.text() != "Segment" and time.monotonic() < end:
        wait(0.2)
    viewer.dims.set_point(0, 4)  # mm above the origin: through the basal ganglia
    wait(2)
    viewer.window.screenshot(IMAGES / "segment.png", flash=False)
    viewer.close()


if __name__ == "__main__":
    main()
