"""Every input of the three widgets says what it is to a screen reader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QPlainTextEdit,
    QProgressBar,
    QScrollBar,
    QTableView,
    QWidget,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.gui

KINDS = (
    *(QAbstractButton, QAbstractSlider, QAbstractSpinBox, QComboBox, QLineEdit),
    *(QPlainTextEdit, QProgressBar, QTableView),
)


def spoken(widget: QWidget) -> dict[QWidget, str]:
    """Return the name of each input; those that Qt makes inside another one are left out."""
    names_of: dict[QWidget, str] = {}
    for child in widget.findChildren(QWidget):
        above, inside = child.parentWidget(), False
        while above is not widget and above is not None and not inside:
            inside, above = isinstance(above, KINDS), above.parentWidget()
        made_by_qt = child.objectName().startswith("qt_") or type(child).__name__ == "QToolButton"
        if isinstance(child, KINDS) and not (inside or made_by_qt or isinstance(child, QScrollBar)):
            names_of[child] = child.accessibleName()
    return names_of


def test_every_input_of_every_widget_has_a_name(make_napari_viewer: Callable[..., Any]) -> None:
    viewer = make_napari_viewer(show=True)
    widgets = {
        name: viewer.window.add_plugin_dock_widget("napari-tokensparse", name)[1]
        for name in ("Segment", "Train", "Batch", "Token inspector")
    }
    names = {title: spoken(widget) for title, widget in widgets.items()}
    assert {title: len(named) > 8 for title, named in names.items()} == dict.fromkeys(names, True)
    for title, named in names.items():
        assert [type(w).__name__ for w, name in named.items() if not name.strip()] == [], title
    segment, train = widgets["Segment"], widgets["Train"]
    assert segment.image.native.accessibleName() == "Image"
    assert segment.model.combo.accessibleName() == "Model"
    assert segment.model.browse.accessibleName() == "Model: Browse"
    assert names["Segment"][segment.live] == "Live preview"
    assert {"Keep ratio"} <= set(names["Segment"].values())
    settings = train.settings
    assert settings.output.line.accessibleName() == "Model folder"
    assert settings.output.folder_button.accessibleName() == "Model folder: Folder"
    assert settings.source.images.line.accessibleName() == "Data: Images"
    settings.source.pairs.add.click()
    assert settings.source.pairs.rows[1].labels.native.accessibleName() == "Labels of pair 2"
    inspector = widgets["Token inspector"]
    assert inspector.stages.view.accessibleName() == "Show"
    assert inspector.curve.against.accessibleName() == "Dice with"
    segment.channels.set_channels(("T1", "FLAIR"))
    combos = [combo.native.accessibleName() for combo in segment.channels.combos]
    assert combos == ["Image: T1", "Image: FLAIR"]
