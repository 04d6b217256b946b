"""The plot of a training run, as it is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from qtpy.QtCore import QPoint

from napari_tokensparse.widgets.train.plot import TrainingPlot
from napari_tokensparse.widgets.train.runlog import Curves

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

pytestmark = pytest.mark.gui


def test_the_names_of_many_classes_lie_below_the_plot_and_are_scrolled(qtbot: QtBot) -> None:
    plot = TrainingPlot()
    qtbot.addWidget(plot)
    plot.resize(420, 360)
    with qtbot.waitExposed(plot):
        plot.show()
    assert not plot.save_plot.isEnabled()  # nothing is drawn yet
    dice = {f"structure number {n}": [0.5, 0.9] for n in range(30)}
    plot.show_curves(Curves([1, 2], [1.0, 0.5], [1e-3, 1e-4], [1, 2], dice))
    bar = plot.entries.verticalScrollBar()
    qtbot.waitUntil(lambda: bar.maximum() > 0, timeout=5_000)
    bottom = plot.graphics.mapTo(plot, QPoint(0, plot.graphics.height())).y()
    assert plot.entries.mapTo(plot, QPoint(0, 0)).y() >= bottom
    assert plot.graphics.height() >= 240
    assert plot.save_plot.isEnabled() and "structure&nbsp;number&nbsp;29" in plot.legend.text()
