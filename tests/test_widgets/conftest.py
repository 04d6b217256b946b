"""A real viewer with the Segment widget in it, driven as a person would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtCore import Qt

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari
    from pytestqt.qtbot import QtBot

    from napari_tokensparse.widgets import SegmentWidget


@dataclass(frozen=True)
class Opened:
    """A window that shows the Segment widget."""

    viewer: napari.Viewer
    widget: SegmentWidget
    qtbot: QtBot

    def click(self) -> None:
        """Click on Segment or Cancel."""
        self.qtbot.mouseClick(self.widget.button, Qt.MouseButton.LeftButton)

    def finish(self) -> None:
        """Wait until the run has ended."""
        button = self.widget.button
        self.qtbot.waitUntil(lambda: button.text() == "Segment", timeout=120_000)

    def segment(self) -> None:
        """Click and wait."""
        self.click()
        self.finish()


@pytest.fixture
def opened(make_napari_viewer: Callable[..., Any], qtbot: QtBot) -> Opened:
    """Open a viewer with the Segment widget, as the menu does."""
    viewer = make_napari_viewer(show=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-tokensparse", "Segment")
    return Opened(viewer, widget, qtbot)
