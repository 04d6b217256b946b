"""A real viewer with the Segment widget in it, driven as a person would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from napari.qt.threading import WorkerBase
from qtpy.QtCore import Qt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


@pytest.fixture(scope="session", autouse=True)
def no_thread_outlives_the_tests() -> Iterator[None]:
    """Wait for what looks for devices, as napari does before it quits."""
    yield
    WorkerBase.await_workers()


@pytest.fixture
def opened(make_napari_viewer: Callable[..., Any], qtbot: QtBot) -> Opened:
    """Open a viewer with the Segment widget, as the menu does."""
    viewer = make_napari_viewer(show=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-tokensparse", "Segment")
    return Opened(viewer, widget, qtbot)
