import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from napari_tokensparse.datasets.cases import layers_data_set
from napari_tokensparse.datasets.sampling import CacheBudget, CaseSampler
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.folder import describe_folder
from napari_tokensparse.scoring.metrics import dice_per_class
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.training.events import (
    CaseRead,
    CheckpointSaved,
    Chosen,
    Finished,
    StepDone,
    Validated,
    Validating,
    from_json,
)
from napari_tokensparse.training.launch import launched
from napari_tokensparse.training.run import RunError, running
from napari_tokensparse.training.runconfig import RunConfig
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import Volume

SMALL = {"shape": (32, 32, 16)}
SHORT = {"steps": 4, "checkpoint_every": 2, "validate_every": 2}


@pytest.fixture
def config(write_msd: Callable[..., Path], tmp_path: Path) -> RunConfig:
    data = write_msd("tubes", cases=3, validation=2, **SMALL)
    return RunConfig(data=data, output=tmp_path / "model", size="nano", overrides=SHORT)


def disagree(path: Path) -> None:
    """Give a NIfTI file a qform that says otherwise than its sform."""
    stored = nib.load(path)
    image = nib.Nifti1Image(np.asarray(stored.dataobj).copy(), stored.affine, stored.header)
    image.set_sform(stored.affine, 1)
    image.set_qform(np.diag([1.3, 1.3, 10.0, 1.0]), 1)
    nib.save(image, path)


def test_a_run_goes_from_the_data_to_a_model_that_segments(config: RunConfig) -> None:
    (name, *_) = sorted(path.name for path in (config.data / "labelsTr").iterdir())
    for folder in ("imagesTr", "labelsTr"):
        disagree(config.data / folder / name)
    events = list(running(config))
    (noted,) = [event for event in events if isinstance(event, CaseRead) and event.notes]
    kinds = [type(event) for event in events]
    assert kinds[:6] == [CaseRead] * 5 + [Chosen]
    body = [StepDone, StepDone, Validating, Validated, CheckpointSaved]
    assert kinds[6:] == [*body, *body, Finished]
    assert events[-1] == Finished(4, config.output, events[-1].best_dice, "steps")
    first = next(event for event in events if isinstance(event, Validated))
    assert first.best and first.held_out and first.mean_dice > 0
    assert set(first.dice) <= {"tube", "ball", "rod"}

    described = describe_folder(config.output)
    assert [c.name for c in described.info.classes] == ["tube", "ball", "rod"]
    assert described.info.channels == ("first", "second")
    scan = config.data / "imagesTr"
    result = segment(sorted(scan.iterdir())[0], load_model(config.output), 0.5)
    assert result.labels.shape == (32, 32, 16)
    card = (config.output / "docs/README.md").read_text()
    assert f"**{first.mean_dice:.3f}**" in card or f"{events[-1].best_dice:.3f}" in card
    assert "3 training cases, 2 held out" in card
    (note,) = noted.notes
    assert note.startswith("qform and sform differ by up to ")
    assert card.endswith(f"## Notes on the cases\n\n- {noted.name}: {note}\n")


def test_the_run_is_written_beside_its_model(config: RunConfig) -> None:
    events = list(running(config))
    folder = config.output / "training"
    assert RunConfig.read(folder / "run.yaml") == config
    lines = (folder / "events.jsonl").read_text().splitlines()
    assert [from_json(line) for line in lines] == [e for e in events if not isinstance(e, CaseRead)]
    validated = next(event for event in events if isinstance(event, Validated))
    assert validated.preview == folder / "preview.nii.gz"
    assert read_volume(validated.preview).shape == (32, 32, 16)


def test_a_stop_keeps_a_checkpoint_and_a_resume_ends_like_a_run_without(
    config: RunConfig, tmp_path: Path
) -> None:
    whole = list(running(config))
    other = config.model_copy(update={"output": tmp_path / "other"})
    asked = iter([False, False, True])
    stopped = list(running(other, stop=lambda: next(asked)))
    assert isinstance(stopped[-1], Finished) and stopped[-1].reason == "stopped"
    assert stopped[-1].step == 3
    assert describe_folder(other.output).info.name == "other"
    rest = list(running(other, resume=True))
    losses = [[e.loss for e in run if isinstance(e, StepDone)] for run in (whole, stopped, rest)]
    assert losses[1] + losses[2] == losses[0]
    assert rest[-1].reason == "steps"
    one, two = load_model(config.output).state_dict(), load_model(other.output).state_dict()
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_an_output_in_use_and_a_resume_of_nothing_are_refused(config: RunConfig) -> None:
    with pytest.raises(RunError, match="holds no checkpoint to resume"):
        next(iter(running(config, resume=True)))
    list(running(config))
    with pytest.raises(RunError, match="holds a run already"):
        next(iter(running(config)))


def test_labels_beyond_what_a_model_holds_are_refused_before_the_work(config: RunConfig) -> None:
    (config.data / "dataset.json").unlink()  # the values are then those of the labels
    path = sorted((config.data / "labelsTr").iterdir())[0]
    label = nib.load(path)
    values = np.asarray(label.dataobj).astype(np.int32)
    values[values == 3] = 70_000
    nib.save(nib.Nifti1Image(values, label.affine), path)
    with pytest.raises(RunError, match=r"label 70000: the highest of a model is 65535; give that"):
        next(iter(running(config)))


def test_every_bad_case_is_reported_at_once_and_can_be_left_out(config: RunConfig) -> None:
    labels = sorted((config.data / "labelsTr").iterdir())
    labels[0].write_bytes(labels[0].read_bytes()[:200])
    labels[1].write_bytes(b"no volume")
    with pytest.raises(RunError, match="2 of 5 cases cannot be used") as error:
        list(running(config))
    assert "--skip-bad" in str(error.value)
    assert not (config.output / "configs").exists()
    skipping = config.model_copy(update={"skip_bad": True})
    assert isinstance(list(running(skipping))[-1], Finished)
    assert "1 training cases, 2 held out" in (config.output / "docs/README.md").read_text()


def test_workers_share_the_memory_for_prepared_volumes(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets = []

    def sampler(cases: Any, plan: Any, budget: CacheBudget) -> CaseSampler:
        budgets.append(budget.memory_bytes)
        return CaseSampler(cases, plan, budget)

    monkeypatch.setattr("napari_tokensparse.training.run.CaseSampler", sampler)
    shared = config.model_copy(update={"workers": 2, "cache_gib": 3.0})
    next(event for event in running(shared) if isinstance(event, StepDone))
    assert budgets == [3 * 2**29]


def painted(shape: tuple[int, int, int] = (32, 32, 32)) -> tuple[Volume, Volume]:
    """A bright ball of which three slices are painted: 1 the ball, 2 the rest, 0 not labelled."""
    voxels = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"))
    ball = ((voxels - 15.5) ** 2).sum(axis=0) < 100
    noise = np.random.default_rng(0).normal(size=shape)
    image = Volume((100 + 100 * ball + 10 * noise).astype(np.float32)[None], np.eye(4), "ball")
    labels = np.zeros(shape, np.uint8)
    for number in (9, 16, 22):
        labels[number] = np.where(ball[number], 1, 2)
    return image, Volume(labels[None], np.eye(4), "painted")


def test_layers_are_trained_on_and_what_is_not_painted_is_left_out(tmp_path: Path) -> None:
    image, labels = painted()
    data_set = layers_data_set([(image, labels)], zero_is_background=False)
    config = RunConfig(output=tmp_path / "model", size="nano", overrides={"steps": 60, "lr": 1e-2})
    events = list(running(config, data_set=data_set))
    validated = [event for event in events if isinstance(event, Validated)]
    assert [event.held_out for event in validated] == [False]
    assert validated[0].mean_dice > 0.4  # of the painted voxels alone
    assert set(np.unique(segment(image, config.output).labels)) <= {1, 2}


@pytest.mark.deep
def test_three_painted_slices_are_enough_for_a_ball(tmp_path: Path) -> None:
    image, labels = painted()
    data_set = layers_data_set([(image, labels)], zero_is_background=False)
    config = RunConfig(output=tmp_path / "model", size="small", overrides={"steps": 100})
    list(running(config, data_set=data_set))
    predicted, ball = segment(image, config.output).labels == 1, image.array[0] > 150
    assert dice_per_class(predicted.astype(np.uint8), ball.astype(np.uint8), [1])[0] > 0.7


def test_a_run_in_two_processes_goes_on_with_the_losses_of_one_and_stops(
    config: RunConfig, tmp_path: Path
) -> None:
    sets = {**SHORT, "batch_size": 2, "precision": "float32"}
    begun = config.model_copy(update={"device": "cpu", "overrides": sets})
    list(running(begun))
    more = {"overrides": {**sets, "steps": 5000}}
    shutil.copytree(begun.output, tmp_path / "alone")
    going = running(begun.model_copy(update={**more, "output": tmp_path / "alone"}), resume=True)
    alone = list(islice((e.loss for e in going if isinstance(e, StepDone)), 2))
    going.close()  # type: ignore[attr-defined]
    pair = begun.model_copy(update={**more, "processes": 2})
    seen: list[Any] = []
    for event in launched(pair, resume=True, stop=lambda: len(seen) > 8):
        seen.append(event)
    assert isinstance(seen[-1], Finished), seen[-1]
    assert seen[-1].reason == "stopped"
    steps = [e.step for e in seen if isinstance(e, StepDone)]
    assert steps == list(range(5, seen[-1].step + 1))
    assert 4 < seen[-1].step < 5000
    losses = [e.loss for e in seen if isinstance(e, StepDone)]
    assert losses[:2] == pytest.approx(alone, abs=1e-4)
    assert describe_folder(pair.output).info.name == "model"
    assert RunConfig.read(pair.output / "training/run.yaml") == pair


@pytest.mark.deep
def test_a_run_in_two_processes_tells_the_same(config: RunConfig) -> None:
    pair = config.model_copy(update={"processes": 2, "device": "cpu"})
    events = list(launched(pair))
    assert isinstance(events[-1], Finished), events[-1]
    assert events[-1].reason == "steps"
    assert [e.step for e in events if isinstance(e, StepDone)] == [1, 2, 3, 4]
    assert describe_folder(pair.output).info.name == "model"


@pytest.mark.deep
def test_what_the_processes_refuse_is_said_in_their_line(config: RunConfig) -> None:
    bad = config.model_copy(update={"processes": 2, "size": "huge"})
    with pytest.raises(RunError, match="huge"):
        list(launched(bad))
