"""Names of inputs for screen readers, from the labels and texts that are seen beside them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QBoxLayout,
    QComboBox,
    QFormLayout,
    QLabel,
    QLayout,
    QLineEdit,
    QPlainTextEdit,
    QProgressBar,
    QScrollBar,
    QTabBar,
    QTabWidget,
    QWidget,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_INPUTS = (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QPlainTextEdit,
    QProgressBar,
)
# Parts that Qt makes inside an input of its own, and bars that only scroll.
_MADE_BY_QT = (QAbstractItemView, QAbstractSpinBox, QComboBox, QPlainTextEdit, QTabBar)


_LINE = 16  # pixels: inputs whose middles are nearer than that stand in one line


def inputs(widget: QWidget) -> list[QWidget]:
    """List what a person can work with in a widget: buttons, combos, sliders, fields, tables."""
    return [
        child
        for child in widget.findChildren(QWidget)
        if isinstance(child, _INPUTS)
        and not isinstance(child, QScrollBar)
        and not any(isinstance(above, _MADE_BY_QT) for above in _above(child, widget))
    ]


def name_inputs(widget: QWidget) -> None:
    """Give every input of a finished widget that has no accessible name yet one.

    It is the text that a person sees: the label of the row it stands in, and its own; where there
    is neither, the title of its tab, or how its tool tip begins.
    """
    for child in inputs(widget):
        if not child.accessibleName():
            child.setAccessibleName(_name(child, widget))


def order_tabs(widget: QWidget) -> None:
    """Let Tab go through what is seen of a widget's inputs as a person reads: down, and right.

    It leaves tables and texts too: within a table the arrow keys move.
    """

    def place(child: QWidget) -> tuple[int, int]:
        at = child.mapTo(widget, child.rect().center())
        return at.y() // _LINE, at.x()

    inside = (x for x in inputs(widget) if x.window() is widget.window())  # no list that pops up
    reached = [x for x in inside if x.focusPolicy() & Qt.FocusPolicy.TabFocus]
    ordered = sorted((x for x in reached if x.isVisible()), key=place)
    for first, second in pairwise(ordered):
        QWidget.setTabOrder(first, second)
    for each in ordered:
        if isinstance(each, QAbstractItemView):
            each.setTabKeyNavigation(False)
        elif isinstance(each, QPlainTextEdit):
            each.setTabChangesFocus(True)


def _name(child: QWidget, top: QWidget) -> str:
    own = child.text() if isinstance(child, QAbstractButton) else ""
    chain = [child, *_above(child, top)]
    labels = [label for one in chain if (label := _label(one))]
    parts = [*reversed(labels), *([own] if own else [])]
    if parts:
        return ": ".join(dict.fromkeys(text.replace("&", "").strip("…: ") for text in parts))
    tips = [one.toolTip() for one in chain if one.toolTip()]
    titles = [title for one in chain if (title := _tab_title(one))]
    return next(iter([*(tip.splitlines()[0].partition(",")[0] for tip in tips), *titles]), "")


def _label(field: QWidget) -> str:
    """Return the label of the form's row, or that before it in a row of widgets."""
    parent = field.parentWidget()
    for layout in () if parent is None else _layouts(parent):
        if isinstance(layout, QFormLayout):
            label: QWidget | None = layout.labelForField(field)
        elif isinstance(layout, QBoxLayout) and layout.indexOf(field) > 0:
            before = layout.itemAt(layout.indexOf(field) - 1)
            label = None if before is None else before.widget()
        else:
            continue
        if isinstance(label, QLabel) and not label.wordWrap() and label.text():
            return label.text()
    return ""


def _layouts(widget: QWidget) -> Iterator[QLayout]:
    layout = widget.layout()
    if layout is not None:
        yield layout
        yield from layout.findChildren(QLayout)


def _tab_title(page: QWidget) -> str:
    """Return the title of the tab that is this widget."""
    stack = page.parentWidget()
    tabs = None if stack is None else stack.parentWidget()
    return tabs.tabText(tabs.indexOf(page)) if isinstance(tabs, QTabWidget) else ""


def _above(child: QWidget, top: QWidget) -> Iterator[QWidget]:
    above = child.parentWidget()
    while above is not None and above is not top:
        yield above
        above = above.parentWidget()
