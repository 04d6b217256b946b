from pathlib import Path

import pytest

from napari_tokensparse.training.runconfig import RunConfig
from napari_tokensparse.training.trainconfig import TrainConfig


def test_a_config_survives_its_file(tmp_path: Path) -> None:
    config = RunConfig(
        data=Path("data"),
        output=Path("out"),
        recipe="brats",
        keep_range=(0.25, 1.0),
        max_minutes=8,
        about={"authors": "A. Author", "data_source": "our scanner"},
        overrides={"lr": 0.01, "betas": [0.9, 0.99]},
    )
    config.write(tmp_path / "new" / "run.yaml")
    assert RunConfig.read(tmp_path / "new" / "run.yaml") == config


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("output: a\nepochs: many", "epochs 'many'"),
        ("output: a\nspeed: 9", "speed 9"),
        ("output: a\nabout: {colour: red}", "about.colour"),
        ("epochs: 3", "output"),
        ("- 1", "must hold the fields of a run"),
        ("output: [", "cannot be read"),
        ("output: a\nkeep_range: [0.5, 2]", "must ascend within"),
        ("!!python/object/apply:os.system ['true']", "cannot be read"),
    ],
)
def test_a_file_that_does_not_fit_is_named_in_one_line(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said) as error:
        RunConfig.read(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.yaml: cannot be read"):
        RunConfig.read(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("max_minutes", 0),
        ("lr", 0.0),
        ("ema_decay", 1.0),
        ("checkpoint_every", 0),
        ("keep_range", (0.0, 1.0)),
        ("keep_range", (0.8, 0.2)),
        ("warmup_steps", -1),
        ("cooldown", 1.5),
        ("layer_decay", 0.0),
        ("batch", 2),
    ],
)
def test_a_training_that_cannot_be_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        TrainConfig(**{"steps": 5, field: value})  # type: ignore[arg-type]


def test_a_training_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="give one of them"):
        TrainConfig()
