"""A training run from the data set to the model folder: a generator of frozen events."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch

from napari_tokensparse.common.extras import require
from napari_tokensparse.common.notes import gathered
from napari_tokensparse.datasets.cases import read_data_set, split, with_classes
from napari_tokensparse.datasets.checks import checking, class_notes, report, without_bad
from napari_tokensparse.datasets.sampling import CacheBudget, CaseSampler
from napari_tokensparse.model.info import HIGHEST_LABEL
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.scoring.evaluate import CaseScores, score_case
from napari_tokensparse.segmenting.infer import choose_device
from napari_tokensparse.training.events import (
    CaseRead,
    Chosen,
    Event,
    Finished,
    Validated,
    to_json,
)
from napari_tokensparse.training.folder import (
    CACHE_FOLDER,
    EVENTS_FILE,
    FOLDER,
    PREVIEW_FILE,
    RUN_FILE,
    STATE_FILE,
    check_model_folder,
)
from napari_tokensparse.training.modelfolder import ModelWriter, best_validation
from napari_tokensparse.training.recipes.choose import Recipe, make_recipe
from napari_tokensparse.training.starting import Start, load_start
from napari_tokensparse.training.state import counters
from napari_tokensparse.volumes.volume import write_nifti

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from napari_tokensparse.datasets.cases import Case, DataSet
    from napari_tokensparse.datasets.checks import CheckedCase
    from napari_tokensparse.training.runconfig import RunConfig
    from napari_tokensparse.volumes.volume import Volume

RESERVE = 0.5
"""Share of the free memory that a recipe may plan with."""


class RunError(ValueError):
    """A run that cannot start; one plain line, or a report with a line for each bad case."""


def running(
    config: RunConfig,
    *,
    data_set: DataSet | None = None,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Check the data, choose the recipe, train, validate and write the model folder.

    Parameters
    ----------
    config
        What to train on and for how long. It is written to ``training/run.yaml`` of the output.
    data_set
        Cases to train on instead of ``config.data``, for example open layers.
    resume
        Go on from the checkpoint in the output folder.
    stop
        Asked after every step; True ends the run with a checkpoint and the model of now.

    Yields
    ------
    CaseRead, Chosen, StepDone, Validating, Validated, CheckpointSaved, Finished
        In this order. The caller may close the generator between two events: a resume goes on from
        the last checkpoint.

    Raises
    ------
    ExtraError, RunError, OwnershipError, ModelError, DataError, TrainError, ValueError
        The extra ``train`` is not installed, the output is in use or holds something else, there
        is no model to begin from or its channels do not fit, cases are bad, an option does not
        fit, or training failed.
    """
    require("training", "accelerate", "train")
    folder = config.output / FOLDER
    _check_output(config, resume)
    device = choose_device(config.device)
    start = None if config.start_from is None else load_start(config.start_from)
    data_set = with_classes(data_set or _read(config), config.class_names, config.background)
    if start is not None:
        data_set = start.named(data_set)
    cases = yield from _checked(config, data_set)
    with _Journal(folder / EVENTS_FILE) as journal:
        if _is_main():
            config.write(folder / RUN_FILE)
        for event in _trained(config, cases, start, device, stop):
            journal.add(event)
            yield event


def _check_output(config: RunConfig, resume: bool) -> None:
    state = config.output / FOLDER / STATE_FILE
    if resume and not state.exists():
        raise RunError(f"{config.output}: holds no checkpoint to resume; train without resume")
    if not resume and state.exists():
        raise RunError(
            f"{config.output}: holds a run already; resume it, or give another output folder"
        )
    if _is_main():
        check_model_folder(config.output, resume=resume)


def _read(config: RunConfig) -> DataSet:
    if config.data is None:
        raise RunError("data: give a dataset.json or a folder with images and labels")
    data_set = read_data_set(config.data, config.labels, config.fold)
    highest = max(data_set.labels)
    if highest > HIGHEST_LABEL:
        raise RunError(
            f"{data_set.name}: label {highest}: the highest of a model is {HIGHEST_LABEL}; give "
            "that class a smaller number"
        )
    return replace(data_set, unlabelled=0) if config.zero_is_unlabelled else data_set


def _checked(
    config: RunConfig, data_set: DataSet
) -> Generator[Event, None, tuple[DataSet, list[CheckedCase]]]:
    """Check every case, and hold some out where the data set lists none."""
    if config.recipe == "brats":  # fold 0 of the paper's cross-validation
        data_set = split(data_set, folds=5, seed=12345)
    else:
        data_set = split(data_set, share=config.validation_share, seed=config.seed)
    total = len(data_set.training) + len(data_set.validation)
    checked = []
    for done, case in enumerate(checking(data_set), start=1):
        checked.append(case)
        yield CaseRead(done, total, case.case.name, case.problems, case.notes)
    if any(case.problems for case in checked):
        if not config.skip_bad:
            raise RunError(report(checked))
        data_set = without_bad(data_set, checked)
    good = [case for case in checked if not case.problems]
    notes = (*data_set.notes, *class_notes(data_set, good))
    return replace(data_set, notes=notes), good


def _trained(
    config: RunConfig,
    cases: tuple[DataSet, list[CheckedCase]],
    start: Start | None,
    device: str,
    stop: Callable[[], bool],
) -> Iterator[Event]:
    data_set, checked = cases
    recipe = _recipe(config, data_set, checked, start, device)
    steps_per_epoch = -(-len(data_set.training) // recipe.training.batch_size)
    yield Chosen(recipe.name, recipe.reasons, steps_per_epoch)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = SCD(recipe.network, recipe.info)
    if start is not None:
        start.fill(model)
    folder = config.output / FOLDER
    validator = CaseValidator(data_set, folder / PREVIEW_FILE)
    budget = CacheBudget(_cache_bytes(config, recipe.training.workers), folder / CACHE_FOLDER)
    sampler = CaseSampler(data_set.training, recipe.plan, budget)
    from napari_tokensparse.training.loop import TrainSetup, train  # it imports accelerate

    setup = TrainSetup(sampler, folder, device, validator, stop=stop)
    notes = tuple(gathered((case.case.name, case.notes) for case in checked))
    writer = ModelWriter(config, recipe, data_set, notes, start)
    best = best_validation(config.output) if (folder / STATE_FILE).exists() else None
    for event in train(model, recipe.training, setup):
        if isinstance(event, Validated) and event.best:
            best = event
            if _is_main():
                writer.write(best)
        yield event
    done = counters(folder)
    if _is_main():
        writer.write(best, done.reason)
    yield Finished(done.step, config.output, done.best_dice, done.reason)


def _recipe(
    config: RunConfig,
    data_set: DataSet,
    checked: Sequence[CheckedCase],
    start: Start | None,
    device: str,
) -> Recipe:
    memory = int(RESERVE * _free_memory(device))
    made = make_recipe(
        config.recipe,
        data_set,
        [case.facts for case in checked if case.facts is not None and not case.held_out],
        size=config.size,
        device=device,
        memory_bytes=memory,
        keep_range=config.keep_range,
        epochs=config.epochs,
        max_minutes=config.max_minutes,
        et_as_authors=config.et_as_authors,
    )
    if start is not None:
        made = start.adapted(made, memory, bool(config.epochs or config.max_minutes))
    changes = {
        "seed": config.seed,
        "workers": config.workers,
        "batch_size": _shared(made.training.batch_size),
        **config.overrides,
    }
    training = type(made.training)(**{**made.training.model_dump(), **changes})
    info = made.info.model_copy(update={"name": Path(os.path.abspath(config.output)).name})
    reasons = (*data_set.notes, *made.reasons)
    return made.model_copy(update={"training": training, "info": info, "reasons": reasons})


def _cache_bytes(config: RunConfig, workers: int) -> int:
    """Memory for the prepared volumes of one process: workers and training processes share it."""
    sharing = max(workers, 1) * int(os.environ.get("WORLD_SIZE", "1"))
    return int(config.cache_gib * 2**30) // sharing


def _shared(volumes: int) -> int:
    """Volumes of a step, rounded up so that the processes share them evenly."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    return -(-volumes // processes) * processes


def _free_memory(device: str) -> int:
    """Bytes free on a device: of the GPU, or of this machine."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


class CaseValidator:
    """Scores a network on the held-out cases, or on the training cases where there are none.

    Parameters
    ----------
    data_set
        Its cases.
    preview_file
        Where the labels of the first case go.
    """

    def __init__(self, data_set: DataSet, preview_file: Path) -> None:
        self.held_out = bool(data_set.validation)
        self._cases: tuple[Case, ...] = data_set.validation or data_set.training[:1]
        self._unlabelled = data_set.unlabelled
        self._preview_file = preview_file

    def __len__(self) -> int:
        return len(self._cases)

    def score(self, model: SCD, number: int) -> CaseScores:
        """Segment one case at the model's default keep ratio and score it."""
        return score_case(self._cases[number], model, unlabelled=self._unlabelled)

    def preview(self, scores: CaseScores) -> Path | None:
        """Write the labels of the first case on its own grid."""
        image: Volume = self._cases[0].read_image()
        return write_nifti(self._preview_file, scores.labels, image)


def _is_main() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


class _Journal:
    """Every event of a run as a line of JSON, appended; only the first process writes."""

    def __init__(self, path: Path) -> None:
        self._path, self._stack = path, ExitStack()

    def __enter__(self) -> _Journal:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        where = self._path if _is_main() else Path(os.devnull)
        self._file = self._stack.enter_context(where.open("a", encoding="utf-8", buffering=1))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, event: Event) -> None:
        """Append an event."""
        self._file.write(f"{to_json(event)}\n")
