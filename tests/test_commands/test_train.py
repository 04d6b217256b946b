"""The commands ``train`` and ``evaluate``."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from napari_tokensparse.cli import app
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.outputs.writing import write_volume
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.training.events import Finished, StepDone, from_json
from napari_tokensparse.training.runconfig import RunConfig
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import write_nifti

BAD_CONFIGS = {
    "list.yaml": "[1, 2]",
    "torn.yaml": "output: [1",
    "typo.yaml": "output: model\nepoch: 3\n",
}
SHORT = ("--size", "nano", "--set", "steps=4", "--set", "validate_every=2")


@pytest.fixture
def data(write_msd: Callable[..., Path]) -> Path:
    return write_msd("tubes", cases=3, validation=2, shape=(32, 32, 16))


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_a_model_is_trained_and_evaluated(data: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    trained = command("train", "--data", data, "-o", model, *SHORT, "--keep-range", 0.5, 1.0)
    assert trained.exit_code == 0, trained.output
    assert trained.stdout == f"Wrote {model} (steps)\n"
    for said in ("Read 5 cases", "Recipe auto", "step 1: loss", "on held-out cases (tube"):
        assert said in trained.stderr

    scored = command(
        *("evaluate", "--model", model, "--data", data, "-o", tmp_path / "scores", "--json"),
        *("--keep-ratio", "1", "--keep-ratio", "0.5"),
    )
    assert scored.exit_code == 0, scored.output
    rows = json.loads(scored.stdout)["rows"]
    assert len(rows) == 2 * 2 * 3  # held-out cases, keep ratios, classes
    assert {(row["keep_ratio"], row["class"]) for row in rows} == {
        (ratio, name) for ratio in ("1", "0.5") for name in ("tube", "ball", "rod")
    }
    assert all(row["dice"] is None or 0 <= row["dice"] <= 1 for row in rows)
    with (tmp_path / "scores/scores.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 12
    assert json.loads((tmp_path / "scores/scores.json").read_text())["rows"] == rows


def test_a_run_starts_from_a_model_with_names_and_a_background_given(
    data: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert command("train", "--data", data, "-o", first, *SHORT).exit_code == 0
    run = command(
        *("train", "--data", data, "-o", second, "--start-from", first, "--background", 3),
        *("--class", "1=tube", "--class", "2=lump", "--set", "steps=1"),
    )
    assert run.exit_code == 0, run.output
    assert "Begins from first (weights " in run.stderr
    assert "Its head is made anew for lump; without ball, rod," in run.stderr
    config = RunConfig.read(second / "training/run.yaml")
    assert (config.start_from, config.background) == (str(first), 3)
    listed = load_model(second).info.classes
    assert [(c.value, c.name) for c in listed] == [(1, "tube"), (2, "lump")]

    no = ("train", "--data", data, "-o", tmp_path / "no")
    two = command(*no, "--start-from", "brain-structures")
    assert two.exit_code == 1
    assert two.stderr.endswith(
        "start from brain-structures: takes 1 channels (MRI of any contrast) and the data have 2 "
        "(first, second); start from another model\n"
    )
    wrong = command(*no, "--class", "liver")
    assert "--class liver: must be VALUE=NAME, for example 3=liver" in wrong.stderr


def test_the_written_config_alone_repeats_the_run(data: Path, tmp_path: Path) -> None:
    command("train", "--data", data, "-o", tmp_path / "one", *SHORT, "--seed", 5)
    written = tmp_path / "one/training/run.yaml"
    assert RunConfig.read(written).overrides == {"steps": 4, "validate_every": 2}
    again = command("train", "--config", written, "-o", tmp_path / "two")
    assert again.exit_code == 0, again.output
    weights = [(tmp_path / n / "models/model.safetensors").read_bytes() for n in ("one", "two")]
    assert weights[0] == weights[1]


@contextmanager
def pressing_ctrl_c(events: Path, kind: str) -> Iterator[None]:
    """Send this process the signal of Ctrl-C once a file of events holds one of a kind."""

    def press() -> None:
        while not ended.is_set():
            if events.exists() and f'"{kind}"' in events.read_text():
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.01)

    ended = Event()
    thread = Thread(target=press)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_ctrl_c_keeps_a_checkpoint_and_resume_goes_on(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    events = tmp_path / "events.jsonl"
    start = ("train", "-o", tmp_path / "model", "--data", data, "--size", "nano")
    with pressing_ctrl_c(events, "StepDone"):
        run = command(*start, "--events", events)
    assert run.exit_code == 130
    assert "Stopping after this step; once more ends at once" in capfd.readouterr().err
    assert f"Go on: tokensparse train --resume -o {tmp_path / 'model'}" in run.stderr
    last = from_json(events.read_text().splitlines()[-1])
    assert isinstance(last, Finished) and last.reason == "stopped"

    more = ("--resume", "--events", events, "--set", f"steps={last.step + 2}")
    resumed = command("train", "-o", tmp_path / "model", *more)
    assert resumed.exit_code == 0, resumed.output
    steps = [e.step for e in map(from_json, events.read_text().splitlines()) if type(e) is StepDone]
    assert steps == list(range(1, last.step + 3))


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.deep)])
def test_a_terminated_run_of_any_number_of_processes_keeps_a_checkpoint(
    data: Path, tmp_path: Path, processes: int
) -> None:
    line = [sys.executable, "-m", "napari_tokensparse.cli", "train", "--data", str(data)]
    sets = ["--size", "nano", "--device", "cpu", "--processes", str(processes)]
    sets += ["--set", "batch_size=2", "-o", str(tmp_path / "model")]
    with subprocess.Popen(
        [*line, *sets], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        for said in process.stderr:
            if said.startswith("step 1:"):
                break
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait() == 143, rest
    assert "Stopped after step" in rest
    assert (tmp_path / "model/training/state.pt").exists()
    assert (tmp_path / "model/models/model.safetensors").exists()


def test_a_signal_before_the_first_step_ends_the_check_of_the_data(
    write_msd: Callable[..., Path], tmp_path: Path
) -> None:
    many = write_msd("many", cases=100, shape=(24, 24, 12))
    events = tmp_path / "events.jsonl"
    start = ("train", "--data", many, "--size", "nano", "-o", tmp_path / "model")
    with pressing_ctrl_c(events, "CaseRead"):
        run = command(*start, "--events", events)
    assert run.exit_code == 130, run.output
    assert "Stopped before a step was done" in run.stderr
    assert not (tmp_path / "model").exists()


def test_options_go_before_the_config_even_where_they_are_zero(data: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    sets = {"steps": 4, "validate_every": 2}
    RunConfig(
        data=data, output=tmp_path / "one", size="nano", seed=5, workers=1, overrides=sets
    ).write(config)
    run = command(
        *("train", "--config", config, "-o", tmp_path / "two", "--seed", 0, "--workers", 0),
        *("--set", "steps=2"),
    )
    assert run.exit_code == 0, run.output
    written = RunConfig.read(tmp_path / "two/training/run.yaml")
    assert (written.seed, written.workers, written.size) == (0, 0, "nano")
    assert written.overrides == {"steps": 2, "validate_every": 2}


def test_data_given_from_one_folder_are_found_from_another(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    assert command("train", "--data", data.name, "-o", tmp_path / "one", *SHORT).exit_code == 0
    monkeypatch.chdir("/")
    written = tmp_path / "one/training/run.yaml"
    again = command("train", "--config", written, "-o", tmp_path / "two")
    assert again.exit_code == 0, again.output


def test_bad_cases_and_unlabelled_voxels_are_left_out_of_an_evaluation(
    data: Path, write_nano: Callable[..., Path], tmp_path: Path
) -> None:
    scan = sorted((data / "imagesTr").iterdir())[0]
    label = sorted((data / "labelsTr").iterdir())[0]
    model = write_nano(channels=2)
    value = load_model(model).info.classes[0].value  # type: ignore[union-attr]
    labels = segment(scan, load_model(model)).labels
    painted = np.where(labels == value, value, 1).astype(np.uint8)
    painted[:16] = 0
    write_nifti(label, painted, read_volume(scan))
    listed = json.loads((data / "dataset.json").read_text())
    listed["labels"] = {"0": "background", "1": "other", str(value): "seven"}
    (data / "dataset.json").write_text(json.dumps(listed))

    line = ("evaluate", "--model", model, "--data", data, "--split", "all", "--json")
    refused = command(*line)
    assert refused.exit_code == 1
    assert "4 of 5 cases cannot be used" in refused.stderr
    dice = {}
    for options in ((), ("--zero-is-unlabelled",)):
        run = command(*line, "--skip-bad", *options, "--no-hd95")
        assert run.exit_code == 0, run.output
        assert "1 of 1: tubes_000, keep ratio 0.5: mean Dice" in run.stderr
        (row,) = json.loads(run.stdout)["rows"]
        dice[bool(options)] = row["dice"]
        assert row["hd95_mm"] is None
    assert dice[True] == 1.0
    assert dice[False] < 1.0


def test_a_stop_file_stops(data: Path, tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    stopped = command(
        *("train", "--data", data, "-o", tmp_path / "model", *SHORT),
        *("--stop-file", tmp_path / "stop", "--json"),
    )
    assert stopped.exit_code == 0, stopped.output
    assert json.loads(stopped.stdout)["reason"] == "stopped"
    assert json.loads(stopped.stdout)["step"] == 1


@pytest.mark.deep
def test_torchrun_trains_with_the_same_command(data: Path, tmp_path: Path) -> None:
    run = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", "-m", "napari_tokensparse.cli", "train"),
            *("--data", str(data), "-o", str(tmp_path / "model"), *SHORT),
            *("--device", "cpu", "--set", "batch_size=2", "--processes", "2"),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == f"Wrote {tmp_path / 'model'} (steps)\n"
    assert RunConfig.read(tmp_path / "model/training/run.yaml").processes == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "--data", "nowhere", "-o", "model"), "nowhere"),
        (("train", "--data", "DATA"), "-o: give the model folder to write"),
        (("train", "-o", "model"), "data: give a dataset.json"),
        (("train", "--data", "DATA", "-o", "model", "--resume"), "holds no checkpoint to resume"),
        (("train", "--data", "DATA", "-o", "model", "--recipe", "best"), "recipe 'best'"),
        (("train", "--data", "DATA", "-o", "model", "--size", "huge"), "huge"),
        (("train", "--data", "DATA", "-o", "model", "--device", "abacus"), "abacus"),
        (("train", "--data", "DATA", "-o", "model", "--set", "lr"), "must be FIELD=VALUE"),
        (("train", "--data", "DATA", "-o", "model", "--set", "speed=9"), "speed"),
        (("train", "--data", "DATA", "-o", "model", "--keep-range", "0.5", "2"), "keep_range"),
        (
            ("train", "--data", "DATA", "-o", "model", "--set", "lr=[1"),
            "lr=[1: a value is not YAML",
        ),
        (("train", "--data", "DATA", "-o", "model", "--set", "lr=fast"), "lr 'fast': Input should"),
        (("train", "--config", "nowhere.yaml"), "nowhere.yaml: cannot be read"),
        (("train", "--config", "list.yaml"), "list.yaml: cannot be read (must hold the fields"),
        (("train", "--config", "torn.yaml"), "torn.yaml: cannot be read (while parsing"),
        (("train", "--config", "typo.yaml"), "typo.yaml: epoch 3: Extra inputs are not"),
        (("train", "--data", "DATA", "-o", "model", "--events", "no/e.jsonl"), "no/e.jsonl"),
        (("evaluate", "--model", "nowhere", "--data", "DATA"), "nowhere"),
        (("evaluate", "--model", "brain-structures", "--data", "DATA"), "2 channels"),
        (
            ("evaluate", "--model", "brain-structures", "--data", "DATA", "--split", "test"),
            "--split test",
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    arguments: tuple[str, ...],
    said: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in BAD_CONFIGS.items():
        (tmp_path / name).write_text(content)
    result = command(*(str(data) if a == "DATA" else a for a in arguments))
    assert result.exit_code == 1, result.output
    assert said in result.stderr
    lines = result.stderr.splitlines()
    assert lines[-1].startswith("tokensparse: ")
    assert lines[:-1] in ([], ["Read 5 cases"])


def test_nnunets_files_are_trained_on_and_evaluated_and_a_class_not_there_is_told(
    data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "Dataset001_Tubes"
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
        for path in sorted((data / part).iterdir()):
            volume, case = read_volume(path), path.name.removesuffix(".nii.gz")
            for n, channel in enumerate(volume.array):
                marked = f"{case}_{n:04d}" if part == "imagesTr" else case
                write_volume(folder / part / f"{marked}.nrrd", channel, volume, labels=False)
    said = {
        "channel_names": {"0": "first", "1": "second"},
        "labels": {"background": 0, "tube": 1, "ball": 2, "rod": 3, "ring": 4},
        "numTraining": 5,
        "file_ending": ".nrrd",
    }
    (folder / "dataset.json").write_text(json.dumps(said), "utf-8-sig")
    model, sets = tmp_path / "model", ("--set", "steps=1", "--set", "validate_every=1")
    trained = command("train", "--data", folder, "-o", model, "--size", "nano", *sets)
    assert trained.exit_code == 0, trained.output
    assert "Read 5 cases\n" in trained.stderr
    note = "Class 4 (ring) is in no case: it is not learnt."
    assert note in trained.stderr
    assert f"- {note}\n" in (model / "docs/README.md").read_text("utf-8")
    scored = command("evaluate", "--model", model, "--data", folder, "--no-hd95", "--json")
    assert scored.exit_code == 0, scored.output
    rows = json.loads(scored.stdout)["rows"]
    assert len({row["case"] for row in rows}) == 5
    assert all((row["dice"] is None) == (row["class"] == "ring") for row in rows)
