from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt

from napari_tokensparse.widgets.layers import RESULT_KEY
from napari_tokensparse.widgets.train.data_source import (
    LAYERS,
    TWO_FOLDERS,
    DataSource,
    FileSource,
    LayerSource,
)

pytestmark = pytest.mark.gui

VOLUME = np.zeros((4, 5, 6), np.uint8)


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def source(viewer, qtbot):
    source = DataSource(viewer)
    qtbot.addWidget(source)
    source.show()
    return source


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (FileSource(), ""),
        (FileSource(Path("/sets/Task09")), "Task09"),
        (FileSource(Path("/sets/Task09/dataset.json"), None, True), "Task09"),
        (FileSource(Path("/sets/mine/scans"), Path("/sets/mine/masks")), "mine"),
    ],
)
def test_files_that_are_set_are_what_one_gets_and_give_the_name(source, value, name):
    source.setValue(value)
    assert source.value() == value
    assert source.value().name == name


def test_only_the_fields_of_the_chosen_kind_show(source, qtbot):
    def shown():
        parts = (source.data, source.images, source.labels, source.pairs)
        return [part.isVisible() for part in parts]

    assert shown() == [True, False, False, False]
    with qtbot.waitSignal(source.valueChanged):
        source.kind.setCurrentText(TWO_FOLDERS)
    assert shown() == [False, True, True, False]
    source.kind.setCurrentText(LAYERS)
    assert shown() == [False, False, False, True]


def test_layers_that_are_open_can_be_chosen_our_results_left_out(source, viewer, qtbot):
    source.kind.setCurrentText(LAYERS)
    assert source.value() == LayerSource()
    with qtbot.waitSignal(source.valueChanged):
        image = viewer.add_image(VOLUME, name="scan")
    viewer.add_image(VOLUME, name="scan importance 1", metadata={RESULT_KEY: "importance 1"})
    assert source.value() == LayerSource()  # not complete
    viewer.add_labels(VOLUME, name="scan preview", metadata={RESULT_KEY: "preview"})
    labels = viewer.add_labels(VOLUME, name="painted")
    with qtbot.waitSignal(source.valueChanged):
        source.zero.click()
    assert source.value() == LayerSource(((image, labels),), zero_is_unlabelled=True)
    assert source.value().name == "scan"
    assert list(source.pairs.rows[0].image.choices) == [image]
    viewer.layers.remove(labels)
    assert source.value() == LayerSource((), zero_is_unlabelled=True)


def test_pairs_are_added_and_removed_by_clicks(source, viewer, qtbot):
    images = [viewer.add_image(VOLUME, name=f"scan {n}") for n in (1, 2)]
    labels = [viewer.add_labels(VOLUME, name=f"labels {n}") for n in (1, 2)]
    source.kind.setCurrentText(LAYERS)
    pairs = source.pairs
    assert not pairs.remove.isEnabled()
    qtbot.mouseClick(pairs.add, Qt.MouseButton.LeftButton)
    pairs.rows[1].image.value = images[1]
    with qtbot.waitSignal(source.valueChanged):
        pairs.rows[1].labels.value = labels[1]
    assert source.value().pairs == ((images[0], labels[0]), (images[1], labels[1]))
    qtbot.mouseClick(pairs.remove, Qt.MouseButton.LeftButton)
    assert source.value().pairs == ((images[0], labels[0]),)
    assert not pairs.remove.isEnabled()
    source.setValue(LayerSource(tuple(zip(images, labels, strict=True))))
    assert len(source.value().pairs) == 2
    source.setValue(LayerSource(((images[1], labels[1]),)))
    assert source.value().pairs == ((images[1], labels[1]),)
