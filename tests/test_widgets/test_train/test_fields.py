from pathlib import Path

import pytest
from qtpy.QtCore import Qt

from napari_tokensparse.widgets.train.fields import Length, LengthEdit, PathEdit

pytestmark = pytest.mark.gui


def answer(monkeypatch, dialog, given):
    monkeypatch.setattr(
        f"napari_tokensparse.widgets.train.fields.QFileDialog.{dialog}", lambda *_: given
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


def test_only_where_a_file_will_do_can_one_be_chosen(qtbot):
    edits = PathEdit("Choose"), PathEdit("Choose", "List (*.json)")
    for edit in edits:
        qtbot.addWidget(edit)
        edit.show()
    assert [edit.file_button.isVisible() for edit in edits] == [False, True]


@pytest.mark.parametrize("length", [Length(), Length(epochs=30), Length(minutes=0.5)])
def test_what_is_set_is_what_one_gets(qtbot, length):
    edit = LengthEdit()
    qtbot.addWidget(edit)
    edit.setValue(length)
    assert edit.value() == length


def test_epochs_are_whole_and_the_number_hides_where_the_recipe_says(qtbot):
    edit = LengthEdit()
    qtbot.addWidget(edit)
    edit.show()
    assert (edit.value(), edit.number.isVisible()) == (Length(), False)
    with qtbot.waitSignal(edit.valueChanged):
        edit.unit.setCurrentText("minutes")
    edit.number.setValue(2.5)
    assert (edit.value(), edit.number.isVisible()) == (Length(minutes=2.5), True)
    edit.unit.setCurrentText("epochs")
    assert edit.value() == Length(epochs=3)
