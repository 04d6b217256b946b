import pytest
from napari.qt.threading import WorkerBase
from qtpy.QtCore import Qt

from napari_tokensparse.inspecting.tokens import ClassFates, class_fates
from napari_tokensparse.widgets.inspector.class_table import MM3, TOKENS, class_row

pytestmark = pytest.mark.gui


def test_a_row_holds_what_was_kept_and_pruned_in_the_unit_chosen():
    fates = ClassFates(2, "two", tokens=(9, 1, 2, 3), mm3=(90.0, 10.5, 20.5, 30.5))
    assert class_row(fates, TOKENS) == ["two", 3, 1, 2]
    assert class_row(fates, MM3) == ["two", 30.5, 10.5, 20.5]


def test_the_classes_of_the_latest_result_are_shown(inspected):
    classes, qtbot = inspected.widget.stages.classes, inspected.qtbot
    shown = inspected.publish(0.25)  # the first result's classes may still be being counted
    fates = class_fates(shown.segmentation, shown.volume, shown.network.info)
    expected = [class_row(row, TOKENS) for row in fates if sum(row.mm3)]
    qtbot.waitUntil(lambda: classes.table.rows() == expected, timeout=60_000)
    classes.unit.setFocus()
    qtbot.keyClick(classes.unit, Qt.Key.Key_Down)
    assert classes.table.horizontalHeaderItem(0).text() == "Class, in mm³"
    assert classes.table.rows() == [class_row(row, MM3) for row in fates if sum(row.mm3)]
    assert sum(sum(row[1:]) for row in classes.table.rows()) == pytest.approx(32 * 30 * 28 * 2)

    classes.count(shown)
    classes.count(None)  # before the count has come
    WorkerBase.await_workers()
    qtbot.wait(50)
    assert classes.table.rows() == []
