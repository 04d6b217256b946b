"""Widgets end with their docks: by clicks on the crosses in a real viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import QObject, Qt
from qtpy.QtWidgets import QAbstractButton

from napari_tokensparse.widgets.closing import _groups
from napari_tokensparse.widgets.history.history import history_of
from napari_tokensparse.widgets.results import results_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import napari
    from pytestqt.qtbot import QtBot

    from conftest import Opened

pytestmark = pytest.mark.gui

NAMES = ("Segment", "Token inspector", "Class list", "Batch", "Train", "Folders")


def callers(viewer: napari.Viewer) -> list[Any]:
    """Return the objects that napari calls when something happens in a viewer."""
    emitters = [each for group in _groups(viewer) for each in group.emitters.values()]
    bound = [c[0]() for each in emitters for c in each.callbacks if isinstance(c, tuple)]
    return [one for one in bound if type(one).__module__.startswith("napari_tokensparse")]


def close(dock: Any, qtbot: QtBot) -> None:
    """Click on the cross of a dock."""
    buttons = dock.titleBarWidget().findChildren(QAbstractButton)
    (cross,) = (one for one in buttons if one.objectName() == "QTitleBarCloseButton")
    qtbot.mouseClick(cross, Qt.MouseButton.LeftButton)


def test_a_widget_whose_dock_is_closed_is_gone_and_follows_nothing(
    make_napari_viewer: Callable[..., Any], qtbot: QtBot
) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.add_image(np.ones((8, 8, 8)), name="scan")
    for name in NAMES:
        dock, widget = viewer.window.add_plugin_dock_widget("napari-tokensparse", name)
        parts = [widget, *widget.findChildren(QObject)]
        followed = [one for one in callers(viewer) if one in parts]
        assert followed or name in ("Batch", "Folders")  # which follow no layer
        with qtbot.waitSignal(widget.destroyed, timeout=10_000):
            close(dock, qtbot)
        ids = set(map(id, parts))
        assert not [one for one in callers(viewer) if id(one) in ids]
    assert list(viewer.mouse_move_callbacks) == []
    viewer.theme = "light"
    viewer.dims.set_point(0, 3)
    viewer.layers.remove("scan")  # none of them answers, nor fails


def test_a_run_that_goes_on_is_shown_though_the_dock_is_closed(nano: Path, opened: Opened) -> None:
    grey = np.random.default_rng(0).integers(1, 200, (40, 36, 20)).astype(np.uint8)
    viewer, widget = opened.viewer, opened.widget
    viewer.add_image(grey, name="scan")
    widget.model.setValue(nano)
    opened.click()
    with opened.qtbot.waitSignal(widget.destroyed, timeout=60_000):
        viewer.window.remove_dock_widget(widget)  # as a click on its cross
    assert "scan labels" in viewer.layers
    assert results_of(viewer).latest is not None and len(history_of(viewer).runs) == 1
