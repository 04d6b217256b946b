import math

import numpy as np
import pytest

from napari_tokensparse.inspecting.tokens import StageHistogram
from napari_tokensparse.widgets.inspector.cut import legend
from napari_tokensparse.widgets.inspector.histogram import ImportanceHistogram

pytestmark = pytest.mark.gui


def histogram(edges):
    return StageHistogram(np.array(edges), np.array([0, 3]), np.array([2, 1]), 0.4, 0.5, 0.45)


def test_windows_with_cuts_of_their_own_are_told_apart():
    assert "cut at 0.45" in legend(histogram([0, 0.5, 1]), 1, windows=1)
    several = legend(histogram([0, 0.5, 1]), 2, windows=4)
    assert "kept 3" in several
    assert "pruned 3" in several
    assert "each of 4 windows has its own cut: lowest kept 0.4, highest pruned 0.5" in several


@pytest.mark.parametrize(
    ("edges", "log", "drawn"),
    [([0.0, 0.5, 1.0], False, [0.0, 0.5, 1.0]), ([1e-6, 1e-3, 1.0], True, [-6, -3, 0])],
)
def test_kept_tokens_stand_on_pruned_ones_on_either_scale(qtbot, edges, log, drawn):
    plot = ImportanceHistogram()
    qtbot.addWidget(plot)
    plot.show_histogram(histogram(edges), 1, log=log)
    assert plot.pruned.opts["x0"] == pytest.approx(drawn[:-1])
    assert plot.kept.opts["x1"] == pytest.approx(drawn[1:])
    assert plot.kept.opts["y0"].tolist() == plot.pruned.opts["height"].tolist() == [2, 1]
    assert plot.kept.opts["height"].tolist() == [0, 3]
    assert plot.cut() == pytest.approx(0.45)
    assert plot.line.value() == pytest.approx(math.log10(0.45) if log else 0.45)
    plot.set_cut(5.0)
    assert plot.cut() == pytest.approx(1.0)  # the end of what is drawn
