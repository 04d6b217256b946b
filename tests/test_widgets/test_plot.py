import math

import pytest
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QImage, QTextDocument
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_tokensparse.training.events import StepDone, Validated
from napari_tokensparse.widgets.plot import LogAxis, log_ticks, png_button, save_png
from napari_tokensparse.widgets.train.plot import TrainingPlot
from napari_tokensparse.widgets.train.runlog import Curves

pytestmark = pytest.mark.gui


def curves(steps, dice):
    drawn = Curves()
    for n in range(1, steps + 1):
        drawn.add(StepDone(n, 1.0 / n, 1e-3 * n, 0.5, 1.0, 0, 0.0))
    for n in range(len(next(iter(dice.values())))):
        at = {name: values[n] for name, values in dice.items() if not math.isnan(values[n])}
        drawn.add(Validated(n + 1, at, {}, 0.5, False, True, "case", None))
    return drawn


@pytest.fixture
def plot(qtbot):
    plot = TrainingPlot()
    qtbot.addWidget(plot)
    with qtbot.waitExposed(plot, timeout=60_000):
        plot.show()
    return plot


def points(curve):
    x, y = curve.getOriginalDataset()
    return list(zip(x.tolist(), y.tolist(), strict=True))


def shown_text(label):
    document = QTextDocument()
    document.setHtml(label.text())
    return document.toPlainText().replace("\N{NO-BREAK SPACE}", " ")


def test_loss_lr_and_each_class_are_drawn_against_the_step(plot, qtbot):
    plot.show_curves(curves(3, {"tube": [0.5, 0.75], "ball": [math.nan, 0.25]}))
    assert points(plot.loss_curve) == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert points(plot.lr_curve) == [(1, 1e-3), (2, 2e-3), (3, 3e-3)]
    assert points(plot.dice_curves["tube"]) == [(1, 0.5), (2, 0.75)]
    assert points(plot.dice_curves["ball"]) == [(2, 0.25)]
    assert shown_text(plot.legend) == "● tube 0.75   ● ball 0.25"
    for other in (plot.dice, plot.lr):
        qtbot.waitUntil(  # a paint
            lambda o=other: o.viewRange()[0] == pytest.approx(plot.loss.viewRange()[0], rel=0.01),
            timeout=60_000,
        )


def test_the_curves_of_another_run_replace_the_ones_before(plot):
    plot.show_curves(curves(3, {"tube": [0.5], "ball": [0.5]}))
    plot.show_curves(curves(1, {"rod & <more>": [0.25]}))
    assert points(plot.loss_curve) == [(1, 1.0)]
    assert list(plot.dice_curves) == ["rod & <more>"]
    assert shown_text(plot.legend) == "● rod & <more> 0.25"


def test_text_takes_the_colour_of_the_theme(plot):
    plot.set_foreground("#123456")
    assert plot.loss.getAxis("left").textPen().color().name() == "#123456"
    assert plot.lr.getAxis("bottom").textPen().color().name() == "#123456"


@pytest.mark.parametrize(("text", "background"), [("#f0f0f0", "#262930"), ("#202020", "#ffffff")])
def test_a_plot_is_saved_on_white_or_as_it_is_shown(plot, tmp_path, text, background):
    plot.resize(400, 300)
    plot.set_foreground(text)
    save_png(plot.graphics, tmp_path / "shown.png", on_white=False)
    shown = QImage(str(tmp_path / "shown.png"))
    assert shown.width() == 3 * plot.graphics.width() > 1000
    assert shown.pixelColor(0, 0) == QColor(background)
    save_png(plot.graphics, tmp_path / "page.png", legend="<font color='#ff0000'>■</font> kept")
    page = QImage(str(tmp_path / "page.png"))
    assert page.pixelColor(0, 0) == QColor("#ffffff")
    assert page.height() > shown.height()  # the legend stands below
    strip = page.copy(0, shown.height(), 300, page.height() - shown.height())
    pixels = {strip.pixelColor(x, y).name() for x in range(strip.width()) for y in range(30)}
    assert {"#ff0000", "#ffffff"} <= pixels
    assert plot.loss.getAxis("left").textPen().color().name() == text  # the window is as it was


def test_labels_of_logarithmic_ticks_leave_room_for_each_other(qtbot):
    for low, high in ((-2.3, -0.4), (-9.0, 0.1), (-1.2, -1.1), (-40.0, 0.0)):
        for most in (2, 4, 8):
            ticks = log_ticks(low, high, most)
            assert len(ticks) <= most
            assert all(low <= tick <= high for tick in ticks)
    axis = LogAxis("bottom")
    axis.setLogMode(True)
    ((_, ticks),) = axis.tickValues(-3.0, 0.0, 300)
    assert ticks == [-3.0, -2.0, -1.0, 0.0]
    assert axis.tickStrings(ticks, 1, 1) == ["0.001", "0.01", "0.1", "1"]


def test_a_click_saves_the_plot_where_it_is_told_to(plot, qtbot, tmp_path, monkeypatch):
    button = png_button(plot.graphics, "a run")
    qtbot.addWidget(button)
    assert not button.isEnabled()  # until something is drawn
    button.setEnabled(True)
    target, said = [tmp_path / "run.png"], []
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(target[0]), ""))
    monkeypatch.setattr(QMessageBox, "warning", lambda *words: said.append(words[-1]))
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    assert target[0].is_file()
    assert said == []
    target[0] = tmp_path / "at 0.25"  # a name without a format
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    assert (tmp_path / "at 0.25.png").is_file() and said == []
    target[0] = tmp_path / "no folder/run.png"
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    assert said == [f"{target[0]}: cannot be written"]
