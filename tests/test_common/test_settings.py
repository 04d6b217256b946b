"""Settings as napari keeps them, read without napari."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from npe2 import PluginManifest
from typer.testing import CliRunner

import napari_tokensparse
from napari_tokensparse.catalogue.models import index_place
from napari_tokensparse.cli import app
from napari_tokensparse.common import settings
from napari_tokensparse.compute.devices import DeviceError, use_threads
from napari_tokensparse.model.folder import available_models, user_models_folder


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where napari would keep our settings, in a configuration folder of this test."""
    monkeypatch.setenv("NAPARI_CONFIG", str(tmp_path / "settings.yaml"))
    monkeypatch.delenv("TOKENSPARSE_MODELS", raising=False)
    monkeypatch.delenv("TOKENSPARSE_INDEX", raising=False)
    monkeypatch.setattr(settings, "_followed", None)
    return tmp_path / "napari-tokensparse.yaml"


def test_the_manifest_declares_the_same_settings_and_defaults() -> None:
    manifest = PluginManifest.from_file(Path(napari_tokensparse.__file__).with_name("napari.yaml"))
    declared = {
        key: {name: setting.default for name, setting in part.properties.items()}
        for key, part in manifest.contributions.configurations.items()
    }
    assert declared == settings.Settings().model_dump()


def test_without_a_file_the_defaults_hold(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.settings_file() == file
    assert settings.current() == settings.Settings()
    monkeypatch.setenv("NAPARI_CONFIG", "")
    assert settings.settings_file() is None
    assert settings.current() == settings.Settings()


def test_the_file_is_where_napari_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari.utils._base import _DEFAULT_CONFIG_PATH

    monkeypatch.delenv("NAPARI_CONFIG")
    folder = Path(_DEFAULT_CONFIG_PATH).parent
    assert settings.settings_file() == folder / "napari-tokensparse.yaml"


def test_what_is_set_is_a_default_that_variables_and_options_override(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(f"models:\n  folder: {tmp_path / 'mine'}\n  index: lab.json\n")
    assert user_models_folder() == tmp_path / "mine"
    assert index_place() == "lab.json"
    assert index_place("given.json") == "given.json"
    monkeypatch.setenv("TOKENSPARSE_MODELS", str(tmp_path / "other"))
    monkeypatch.setenv("TOKENSPARSE_INDEX", "https://lab.example/index.json")
    assert user_models_folder() == tmp_path / "other"
    assert index_place() == "https://lab.example/index.json"


@pytest.mark.parametrize("content", ["models: [", "computing: {threads: -1}", "models: 3", "\x00"])
def test_a_file_of_something_else_is_named_in_one_line(file: Path, content: str) -> None:
    file.write_text(content)
    with pytest.raises(ValueError, match="not settings of ours") as refused:
        available_models()
    assert str(refused.value).startswith(f"{file}: ")
    assert "\n" not in str(refused.value)


def test_the_command_line_goes_by_the_device_and_an_option_overrides_it(
    file: Path, tmp_path: Path
) -> None:
    file.write_text("computing: {device: 'cuda:99'}\n")
    scan = str(Path(__file__).parents[1] / "data/sample_labels.nii.gz")
    command = ["segment", scan, "-o", str(tmp_path / "out.nii.gz")]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 1
    assert "device 'cuda:99': this machine has" in run.stderr
    run = CliRunner().invoke(app, [*command, "--device", "cuda:7"])
    assert "device 'cuda:7': this machine has" in run.stderr
    run = CliRunner().invoke(app, ["train", "-o", str(tmp_path / "m"), "--data", str(tmp_path)])
    assert run.exit_code == 1
    assert "cuda:99" in run.stderr


def test_threads_are_torchs_own_again_at_0() -> None:
    before = torch.get_num_threads()
    try:
        use_threads(before + 1)
        assert torch.get_num_threads() == before + 1
        use_threads(0)
        assert torch.get_num_threads() == before
    finally:
        torch.set_num_threads(before)
    with pytest.raises(DeviceError, match="threads -1: must be 1 or more"):
        use_threads(-1)
