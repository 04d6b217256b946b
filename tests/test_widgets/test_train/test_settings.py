"""The form of the Train widget: what is set there is the run that is asked for."""

from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_tokensparse.training.recipes import choose
from napari_tokensparse.training.runconfig import RunConfig
from napari_tokensparse.widgets.train.data_source import FileSource, LayerSource
from napari_tokensparse.widgets.train.fields import Length
from napari_tokensparse.widgets.train.settings import (
    KEEP_RANGES,
    RECIPES,
    SIZES,
    TrainSettings,
)

pytestmark = pytest.mark.gui

CONFIG = RunConfig(
    data=Path("/sets/tubes/images"),
    labels=Path("/sets/tubes/labels"),
    output=Path("/models/tubes"),
    recipe="btcv",
    size="nano",
    keep_range=(0.25, 0.75),
    max_minutes=2.5,
    device="cpu",
    processes=2,
    skip_bad=True,
    zero_is_unlabelled=True,
)


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def settings(viewer, qtbot, monkeypatch, tmp_path):
    monkeypatch.setenv("TOKENSPARSE_MODELS", str(tmp_path))
    settings = TrainSettings(viewer)
    qtbot.addWidget(settings)
    return settings


def test_a_run_that_is_set_is_the_run_one_gets(settings):
    settings.setValue(CONFIG)
    assert settings.value() == CONFIG
    assert settings.request().config == CONFIG
    assert settings.request().pairs == ()


def test_untouched_fields_are_the_defaults_of_a_run(settings, tmp_path):
    settings.source.setValue(FileSource(Path("/sets/tubes")))
    assert settings.value() == RunConfig(data=Path("/sets/tubes"), output=tmp_path / "tubes")


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_brings_its_own_keep_ratios_until_a_person_sets_others(settings, recipe):
    settings.source.setValue(FileSource(Path("/sets/tubes")))
    settings.recipe.setCurrentText(recipe)
    assert settings.keep_range.value() == KEEP_RANGES[recipe]
    assert settings.value().keep_range is None
    settings.keep_range.setValue((0.3, 0.9))
    assert settings.value().keep_range == (0.3, 0.9)


def test_the_model_folder_follows_the_data_until_a_person_gives_one(settings, qtbot, tmp_path):
    with qtbot.waitSignal(settings.outputChanged):
        settings.source.data.setValue(Path("/sets/my set (1)"))
    assert settings.output.value() == tmp_path / "my-set-1"
    settings.output.line.clear()
    qtbot.keyClicks(settings.output.line, "/elsewhere")
    settings.source.data.setValue(Path("/sets/other"))
    assert settings.output.value() == Path("/elsewhere")


def test_what_is_missing_is_said_in_one_plain_line(settings, viewer):
    with pytest.raises(ValueError, match=r"^No data: choose a folder"):
        settings.request()
    settings.source.setValue(FileSource(Path("/sets/tubes")))
    settings.output.setValue(None)
    with pytest.raises(ValueError, match=r"^No model folder: choose the data"):
        settings.request()
    settings.setValue(CONFIG)
    settings.source.setValue(LayerSource())
    with pytest.raises(ValueError, match=r"^No layers: choose an image and its labels"):
        settings.request()
    viewer.add_image(np.zeros((4, 5, 6)))
    viewer.add_labels(np.ones((4, 5, 6), np.uint8))
    with pytest.raises(ValueError, match=r"^processes 2: open layers are trained on by 1"):
        settings.request()


def test_layers_are_read_when_the_run_is_asked_for(settings, viewer):
    image = viewer.add_image(np.zeros((4, 5, 6)), name="scan", scale=(3, 2, 1))
    labels = viewer.add_labels(np.ones((4, 5, 6), np.uint8), scale=(3, 2, 1))
    settings.setValue(CONFIG.model_copy(update={"data": None, "labels": None, "processes": 1}))
    settings.source.setValue(LayerSource(((image, labels),), zero_is_unlabelled=True))
    request = settings.request()
    assert (request.config.data, request.config.zero_is_unlabelled) == (None, True)
    (pair,) = request.pairs
    assert pair.image.spacing == (1, 2, 3)


def test_a_resumed_run_is_that_of_the_folder_on_the_device_chosen_now(settings, tmp_path):
    folder = tmp_path / "moved"
    assert not settings.can_resume()
    settings.output.setValue(folder)
    with pytest.raises(ValueError, match=r"run.yaml: cannot be read"):
        settings.resumed()
    CONFIG.write(folder / "training/run.yaml")
    assert not settings.can_resume()
    (folder / "training/state.pt").touch()
    assert settings.can_resume()
    request = settings.resumed()
    now = {"output": folder, "device": "auto", "processes": 1}
    assert request.resume
    assert request.config == CONFIG.model_copy(update=now)


def test_a_resumed_run_goes_on_for_longer_where_a_length_is_given(settings, tmp_path):
    CONFIG.write(tmp_path / "training/run.yaml")
    settings.output.setValue(tmp_path)
    settings.length.setValue(Length(epochs=90))
    config = settings.resumed().config
    assert (config.epochs, config.max_minutes) == (90, None)


def test_names_that_are_written_down_to_spare_the_import_of_torch_are_those_of_training() -> None:
    assert tuple(choose.SIZES) == SIZES[1:]
    assert set(choose.RECIPES) == set(RECIPES)
