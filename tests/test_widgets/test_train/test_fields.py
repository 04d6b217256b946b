import pytest

from napari_tokensparse.widgets.train.fields import Length, LengthEdit

pytestmark = pytest.mark.gui


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
