"""Everything fits a screen of 1280 x 800, and nothing in it jumps."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QDockWidget,
    QDoubleSpinBox,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QTableWidget,
    QVBoxLayout,
    QWidget,
)

from napari_tokensparse.widgets.accessible import inputs
from napari_tokensparse.widgets.controls import ModelCombo
from napari_tokensparse.widgets.fitting import ElidedLabel, ScrollArea, StatusLine, scrolled
from napari_tokensparse.widgets.segment.geometry import GeometryFields

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytestqt.qtbot import QtBot

pytestmark = pytest.mark.gui

NAMES = ("Segment", "Train", "Batch", "Token inspector", "Class list", "Folders")
SCREEN = (1280, 800)


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any], qtbot: QtBot) -> Any:
    """Open all widgets, as the menu does, in a window of a small screen with a volume in it."""
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(*SCREEN)
    viewer.add_image(np.random.default_rng(0).random((30, 20, 10)), name="scan")
    for name in NAMES:
        viewer.window.add_plugin_dock_widget("napari-tokensparse", name)
        qtbot.wait(20)  # it is docked only then
    return viewer


def docks(window: Any) -> dict[str, QDockWidget]:
    """Return the docks of our widgets."""
    cut_off = {
        dock.windowTitle().partition(" (")[0]: dock for dock in window.findChildren(QDockWidget)
    }
    return {name: cut_off[name] for name in NAMES}


def test_all_widgets_fit_the_screen_as_tabs_and_the_slice_slider_is_seen(
    viewer: Any, qtbot: QtBot
) -> None:
    window = viewer.window._qt_window
    least = window.minimumSizeHint()
    assert least.width() <= SCREEN[0] and least.height() <= SCREEN[1]
    first, *others = docks(window).values()
    assert set(window.tabifiedDockWidgets(first)) == set(others)
    widgets = window.findChildren(QWidget)
    slider = next(x for x in widgets if type(x).__name__ == "QtDimSliderWidget" and x.isVisible())
    for dock in docks(window).values():
        dock.raise_()
        qtbot.wait(20)
        assert (window.width(), window.height()) == SCREEN
        assert slider.isVisible() and slider.height() > 10
        bottom = slider.mapTo(window, slider.rect().bottomRight())
        assert bottom.y() < SCREEN[1] and bottom.x() < SCREEN[0]


def test_every_input_has_a_name_and_tab_goes_through_them_from_top_to_bottom(
    viewer: Any, qtbot: QtBot
) -> None:
    for name, dock in docks(viewer.window._qt_window).items():
        dock.raise_()
        qtbot.wait(20)
        fields = [field for field in inputs(dock.widget()) if field.isVisible()]
        assert fields and all(field.accessibleName() for field in fields), name
        reached = [x for x in _focus_chain(dock) if x in fields]
        tops = [field.mapTo(dock, field.rect().center()).y() for field in reached]
        jumps = [(a, b) for a, b in pairwise(tops) if b < a - 40]
        assert jumps == [], name


def _focus_chain(dock: QDockWidget) -> list[QWidget]:
    """Return what Tab reaches in a dock, in that order."""
    chain, at = [], dock.nextInFocusChain()
    while at is not dock:
        if dock.isAncestorOf(at) and at.focusPolicy() & Qt.FocusPolicy.TabFocus:
            chain.append(at)
        at = at.nextInFocusChain()
    return chain


@pytest.fixture
def parts(qtbot: QtBot) -> QWidget:
    """Return a widget with a line of a status, and a button below it."""
    top = QWidget()
    layout, status = QVBoxLayout(top), StatusLine()
    layout.addWidget(status)
    layout.addWidget(QPushButton("below"))
    layout.addStretch()
    qtbot.addWidget(top)
    top.resize(300, 300)
    with qtbot.waitExposed(top, timeout=60_000):
        top.show()
    return top


def test_a_status_that_comes_and_goes_moves_nothing(parts: QWidget, qtbot: QtBot) -> None:
    line, button = parts.findChild(StatusLine), parts.findChild(QPushButton)
    before = button.y()
    for text in ("Done in 3 s: 364 of 2912 tokens reached the end (1 window).", "", "Cancelled."):
        line.setText(text)
        qtbot.wait(20)
        assert button.y() == before
        assert line.toolTip() == text
    line.setText("word " * 60)
    qtbot.waitUntil(lambda: button.y() > before, timeout=60_000)  # what does not fit is not cut
    assert line.height() >= line.heightForWidth(line.width())


def test_one_line_is_cut_with_an_ellipsis_and_whole_in_its_tool_tip(qtbot: QtBot) -> None:
    label = ElidedLabel()
    qtbot.addWidget(label)
    label.resize(100, 20)
    with qtbot.waitExposed(label, timeout=60_000):
        label.show()
    label.setText("Left-Cerebellum-White-Matter and more")
    assert label.text().endswith("…") and len(label.text()) < 25
    assert label.whole() == label.toolTip() == "Left-Cerebellum-White-Matter and more"
    label.resize(600, 20)
    qtbot.waitUntil(lambda: label.width() == 600, timeout=60_000)
    assert label.text() == label.whole()


def test_wrapped_lines_keep_their_height_in_a_scroll_area(qtbot: QtBot) -> None:
    outer = QWidget()
    content = scrolled(outer, below=QLabel("below"))
    layout, label = QVBoxLayout(content), QLabel("word " * 80)
    label.setWordWrap(True)
    layout.addWidget(label)
    layout.addWidget(QPushButton("after"))
    qtbot.addWidget(outer)
    outer.resize(200, 120)
    with qtbot.waitExposed(outer, timeout=60_000):
        outer.show()
    area = outer.findChild(ScrollArea)
    qtbot.waitUntil(lambda: area.verticalScrollBar().maximum() > 0, timeout=60_000)
    assert label.height() >= label.heightForWidth(label.width())
    assert outer.minimumSizeHint().height() < 150


def test_a_button_that_its_click_switches_off_scrolls_nothing_and_tab_does(qtbot: QtBot) -> None:
    outer = QWidget()
    layout = QVBoxLayout(scrolled(outer))
    button, between, below = QPushButton("List"), QLabel(), QPushButton("below")
    between.setFixedHeight(600)
    for widget in (button, between, below):
        layout.addWidget(widget)
    qtbot.addWidget(outer)
    outer.resize(200, 150)
    with qtbot.waitActive(outer):
        outer.show()
        outer.activateWindow()
    bar = outer.findChild(ScrollArea).verticalScrollBar()
    button.clicked.connect(lambda: button.setEnabled(False))
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    qtbot.wait(20)
    assert not button.isEnabled() and below.hasFocus() and bar.value() == 0
    button.setEnabled(True)
    button.setFocus()
    qtbot.keyClick(button, Qt.Key.Key_Tab)
    assert below.hasFocus() and bar.value() > 0


def test_a_layer_that_says_nothing_of_its_axes_leaves_segment_whole(
    viewer: Any, qtbot: QtBot
) -> None:
    dock = docks(viewer.window._qt_window)["Segment"]
    dock.raise_()
    area = dock.findChildren(ScrollArea)[0]
    qtbot.waitUntil(dock.findChildren(GeometryFields)[0].isVisible, timeout=60_000)
    qtbot.waitUntil(lambda: area.horizontalScrollBar().maximum() == 0, timeout=60_000)


@pytest.mark.parametrize("name", ["Segment", "Train", "Batch"])
def test_a_model_of_a_long_name_makes_no_widget_wider(
    viewer: Any, qtbot: QtBot, tmp_path: Path, name: str
) -> None:
    dock = docks(viewer.window._qt_window)[name]
    dock.raise_()
    qtbot.wait(20)
    combo = dock.findChildren(ModelCombo)[0]
    before = combo.minimumSizeHint().width()
    combo.add(tmp_path / "long", "a model whose name is longer than a dock is wide (unfinished)")
    assert combo.minimumSizeHint().width() == before < 400


def test_tab_leaves_a_table_and_the_arrows_move_in_it(qtbot: QtBot) -> None:
    outer = QWidget()
    layout = QVBoxLayout(scrolled(outer))
    table, text, below = QTableWidget(3, 2), QPlainTextEdit(), QPushButton("below")
    for widget in (table, text, below):
        layout.addWidget(widget)
    qtbot.addWidget(outer)
    with qtbot.waitActive(outer):
        outer.show()
        outer.activateWindow()
    qtbot.wait(20)
    table.setFocus()
    for reached in (text, below):
        qtbot.keyClick(outer.focusWidget(), Qt.Key.Key_Tab)
        assert reached.hasFocus()
    table.setFocus()
    table.setCurrentCell(0, 0)
    qtbot.keyClick(table, Qt.Key.Key_Down)
    assert table.currentRow() == 1


def test_content_that_scrolls_down_in_the_narrowest_dock_is_not_scrolled_sideways(
    make_napari_viewer: Callable[..., Any], qtbot: QtBot
) -> None:
    outer, content = QWidget(), QLabel()
    QVBoxLayout(scrolled(outer)).addWidget(content)
    content.setMinimumSize(417, 2000)
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(*SCREEN)
    dock = viewer.window.add_dock_widget(outer)
    viewer.window._qt_window.resizeDocks([dock], [1], Qt.Orientation.Horizontal)
    area = outer.findChild(ScrollArea)
    qtbot.waitUntil(area.verticalScrollBar().isVisible, timeout=60_000)
    qtbot.wait(50)
    assert area.width() < 460 and area.horizontalScrollBar().maximum() == 0


def test_the_inspector_is_not_scrolled_sideways(viewer: Any, qtbot: QtBot) -> None:
    dock = docks(viewer.window._qt_window)["Token inspector"]
    dock.raise_()
    area = dock.findChildren(ScrollArea)[0]
    qtbot.waitUntil(lambda: area.horizontalScrollBar().maximum() == 0, timeout=60_000)


def test_a_spin_box_has_room_for_its_number_between_its_buttons(viewer: Any, qtbot: QtBot) -> None:
    window = viewer.window._qt_window
    for name in ("Segment", "Token inspector"):
        docks(window)[name].raise_()
        qtbot.wait(20)
        for spin in docks(window)[name].findChildren(QDoubleSpinBox):
            if spin.isVisible():
                room = spin.width() - spin.fontMetrics().horizontalAdvance(spin.text())
                assert room >= 60, spin.accessibleName()
