"""What lets a widget fit a small screen: it scrolls, shares its place, and nothing in it jumps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer
from qtpy.QtGui import QFontMetrics
from qtpy.QtWidgets import (
    QApplication,
    QDockWidget,
    QDoubleSpinBox,
    QFrame,
    QLabel,
    QMainWindow,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_tokensparse.widgets.accessible import order_tabs

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtGui import QResizeEvent

OURS: Final = "(napari-tokensparse)"
"""How napari names the docks of this plugin, after the widget's own name."""


class ScrollArea(QScrollArea):
    """Scrolls a widget up and down where it does not fit; it is as wide as there is room.

    Parameters
    ----------
    widget
        What is scrolled.
    """

    def __init__(self, widget: QWidget) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # its content is reached by Tab, not it
        self._ordering = QTimer(self)  # once for all that changes together
        self._ordering.setSingleShot(True)
        self._ordering.setInterval(0)
        self._ordering.timeout.connect(lambda: order_tabs(widget))
        self.setWidget(widget)
        widget.installEventFilter(self)

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Leave the content the height that its wrapped lines need; Qt asks for one line each."""
        super().resizeEvent(event)
        self._hold()

    def focusNextPrevChild(self, forward: bool) -> bool:
        """Show what Tab goes to; but a button that is switched off by its click moves nothing."""
        bar, left = self.verticalScrollBar(), QApplication.focusWidget()
        assert bar is not None
        before = bar.value()
        moved = super().focusNextPrevChild(forward)
        if left is not None and not left.isEnabled():
            bar.setValue(before)
        return moved

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Look again when a line of the content comes or goes."""
        if event is not None and event.type() == QEvent.Type.LayoutRequest:
            self._hold()
            self._ordering.start()
        return super().eventFilter(watched, event)

    def _hold(self) -> None:
        content, view = self.widget(), self.viewport()
        layout = None if content is None else content.layout()
        if content is not None and view is not None and layout is not None:
            width = max(view.width(), layout.minimumSize().width())
            wrapped = layout.minimumHeightForWidth(width) if layout.hasHeightForWidth() else 0
            content.setMinimumHeight(max(wrapped, layout.minimumSize().height()))

    def sizeHint(self) -> QSize:
        """Ask for the room that the content wants; Qt itself asks for little."""
        content = self.widget()
        bar = self.verticalScrollBar()
        assert content is not None and bar is not None
        return content.sizeHint() + QSize(bar.sizeHint().width() + 2 * self.frameWidth(), 0)

    def minimumSizeHint(self) -> QSize:
        """Ask for the content's width, up to a third of a small screen, and for a few lines."""
        content, bar = self.widget(), self.verticalScrollBar()
        assert content is not None and bar is not None
        frame = 2 * self.frameWidth() + _STYLED  # napari's style sheet draws one
        width = content.minimumSizeHint().width() + bar.sizeHint().width() + frame
        return QSize(min(width, _WIDEST), 4 * self.fontMetrics().lineSpacing())


_SPIN_BUTTONS = 64  # pixels: both buttons of a spin box, and the room around its number
_STYLED = 2  # pixels that a style sheet takes beside the frame, at the most
_WIDEST = 480  # pixels: content that needs more scrolls sideways too


def scrolled(outer: QWidget, *, below: QWidget | None = None) -> QWidget:
    """Give a widget a content that scrolls; put layout and children into what is returned.

    Parameters
    ----------
    outer
        The widget, which has no layout yet.
    below
        What stays in sight below the content.
    """
    content = QWidget()
    layout = QVBoxLayout(outer)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(ScrollArea(content), stretch=1)
    if below is not None:
        layout.addWidget(below)
    return content


class StatusLine(QLabel):
    """Lines of a status: as high as so many lines from the first, so that nothing below jumps.

    It grows for what does not fit, and stays so high; the tool tip has all of it.

    Parameters
    ----------
    lines
        How many.
    parent
        Qt parent.
    """

    def __init__(self, lines: int = 2, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._lines = lines
        self.setWordWrap(True)
        self.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        policy = QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self._hold()

    def setText(self, text: str | None) -> None:
        """Show another text; the tool tip has it whole."""
        super().setText(text)
        self.setToolTip(text or "")
        self._hold()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Wrap anew."""
        super().resizeEvent(event)
        self._hold()

    def _hold(self) -> None:
        least = self._lines * self.fontMetrics().lineSpacing() + 2 * self.margin()
        needed = self.heightForWidth(self.width()) if self.text() else 0
        height = max(least, needed)
        if height != self.minimumHeight():
            self.setMinimumHeight(height)


class ElidedLabel(QLabel):
    """One line of text, cut with an ellipsis where it does not fit; the tool tip has all of it.

    Parameters
    ----------
    parent
        Qt parent.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._whole = ""
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def setText(self, text: str | None) -> None:
        """Show another text."""
        self._whole = text or ""
        self.setToolTip(self._whole)
        self._elide()

    def whole(self) -> str:
        """Return the text uncut."""
        return self._whole

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Cut anew."""
        super().resizeEvent(event)
        self._elide()

    def _elide(self) -> None:
        cut = QFontMetrics(self.font()).elidedText(
            self._whole, Qt.TextElideMode.ElideRight, self.width()
        )
        super().setText(cut)


def show_whole(spin: QDoubleSpinBox) -> None:
    """Give a spin box room for its largest number; napari's style draws wide buttons over it."""
    texts = (spin.textFromValue(value) for value in (spin.minimum(), spin.maximum()))
    widest = max(spin.fontMetrics().horizontalAdvance(text + spin.suffix()) for text in texts)
    spin.setMinimumWidth(widest + _SPIN_BUTTONS)


def dock_as_tab(widget: QWidget) -> None:
    """Let a widget of ours share its place with others of ours, once napari has docked it."""
    widget.installEventFilter(_WhenShown(widget))


def soon(owner: QObject, call: Callable[[], object]) -> None:
    """Call something when the window next has time, unless its owner is gone by then."""
    timer = QTimer(owner)
    timer.setSingleShot(True)
    timer.timeout.connect(call)
    timer.timeout.connect(timer.deleteLater)
    timer.start(0)


class _WhenShown(QObject):
    """Calls `share_tabs` after its parent was first shown."""

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Wait for the first time; napari still moves the dock while it is being shown."""
        if event is not None and event.type() == QEvent.Type.Show and isinstance(watched, QWidget):
            watched.removeEventFilter(self)
            soon(watched, lambda: share_tabs(watched))
        return False


def share_tabs(widget: QWidget) -> None:
    """Put the dock of one of our widgets as a tab beside those of ours in the same area."""
    dock = dock_of(widget)
    main = None if dock is None else dock.parentWidget()
    if dock is None or not isinstance(main, QMainWindow) or dock.isFloating():
        return
    area = main.dockWidgetArea(dock)
    ours = (
        other
        for other in main.findChildren(QDockWidget)
        if other is not dock and other.windowTitle().endswith(OURS)
    )
    for other in ours:
        apart = dock not in main.tabifiedDockWidgets(other)
        if apart and not other.isFloating() and main.dockWidgetArea(other) == area:
            main.tabifyDockWidget(other, dock)
            dock.raise_()
            return


def dock_of(widget: QWidget) -> QDockWidget | None:
    """Return the dock that a widget lies in, if any."""
    above: QWidget | None = widget
    while above is not None and not isinstance(above, QDockWidget):
        above = above.parentWidget()
    return above
