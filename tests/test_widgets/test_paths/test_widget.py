"""The Folders widget: paths of the Preferences are chosen by clicks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Opened

pytestmark = pytest.mark.gui


def test_folders_are_chosen_by_clicks_and_hold_at_once(
    settings: Any,
    opened: Opened,
    write_nano: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TOKENSPARSE_MODELS", raising=False)
    mine, qtbot = write_nano("mine"), opened.qtbot
    _, widget = opened.viewer.window.add_plugin_dock_widget("napari-tokensparse", "Folders")
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(mine.parent))
    qtbot.mouseClick(widget.folder.folder_button, Qt.MouseButton.LeftButton)
    assert settings.models.folder == str(mine.parent)
    assert opened.widget.model.combo.findData(str(mine)) >= 0
    assert f"Your models lie in {mine.parent}." in widget.message.text()

    for line, typed in ((widget.folder.line, "/not/there"), (widget.index.line, "not.json")):
        before = line.text()
        line.clear()
        qtbot.keyClicks(line, typed)
        qtbot.keyClick(line, Qt.Key.Key_Return)
        assert widget.message.text().endswith("nothing was set.")
        line.setText(before)
    assert (settings.models.folder, settings.models.index) == (str(mine.parent), "")

    index = tmp_path / "index.json"
    index.write_text("{}")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(index), ""))
    qtbot.mouseClick(widget.index.file_button, Qt.MouseButton.LeftButton)
    assert settings.models.index == str(index)
    settings.models.index = "https://example.org/index.json"  # in the Preferences
    assert widget.index.line.text() == "https://example.org/index.json"
    widget.folder.line.clear()
    qtbot.keyClick(widget.folder.line, Qt.Key.Key_Return)
    assert settings.models.folder == ""
