"""A field for a path: typed, or chosen in a dialog."""

from pathlib import Path

import pytest
from qtpy.QtCore import Qt

from napari_tokensparse.widgets.paths.edit import PathEdit

pytestmark = pytest.mark.gui


def answer(monkeypatch, dialog, given):
    monkeypatch.setattr(
        f"napari_tokensparse.widgets.paths.edit.QFileDialog.{dialog}", lambda *_: given
    )


def test_a_path_is_typed_set_or_cleared(qtbot):
    edit = PathEdit("Choose")
    qtbot.addWidget(edit)
    assert edit.value() is None
    with qtbot.waitSignals([edit.valueChanged, edit.edited]):
        qtbot.keyClicks(edit.line, "~/scans")
    assert edit.value() == Path.home() / "scans"
    with qtbot.assertNotEmitted(edit.edited), qtbot.waitSignal(edit.valueChanged):
        edit.setValue(Path("/data"))
    assert edit.value() == Path("/data")
    edit.setValue(None)
    assert edit.value() is None


def test_a_path_is_chosen_in_a_dialog(qtbot, monkeypatch):
    edit = PathEdit("Choose", "List (*.json)")
    qtbot.addWidget(edit)
    answer(monkeypatch, "getExistingDirectory", "/data")
    with qtbot.waitSignals([edit.valueChanged, edit.edited]):
        qtbot.mouseClick(edit.folder_button, Qt.MouseButton.LeftButton)
    assert edit.value() == Path("/data")
    answer(monkeypatch, "getOpenFileName", ("/data/dataset.json", ""))
    qtbot.mouseClick(edit.file_button, Qt.MouseButton.LeftButton)
    assert edit.value() == Path("/data/dataset.json")
    answer(monkeypatch, "getOpenFileName", ("", ""))  # cancelled
    with qtbot.assertNotEmitted(edit.edited):
        qtbot.mouseClick(edit.file_button, Qt.MouseButton.LeftButton)
    assert edit.value() == Path("/data/dataset.json")


def test_only_what_will_do_can_be_chosen(qtbot):
    lists = "List (*.json)"
    edits = PathEdit("Choose"), PathEdit("Choose", lists), PathEdit("Choose", lists, folders=False)
    for edit in edits:
        qtbot.addWidget(edit)
        edit.show()
    assert [edit.file_button.isVisible() for edit in edits] == [False, True, True]
    assert [edit.folder_button.isVisible() for edit in edits] == [True, True, False]
