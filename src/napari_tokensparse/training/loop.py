"""Training: one readable loop on Accelerate that yields frozen events and can be resumed.

Every random choice is keyed by (seed, step, case), never by global state: a run that is stopped and
resumed, or shared by several processes, sees the same windows, keep ratios and noise as one that
was not.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch
from accelerate.utils import gather_object
from torch.optim.swa_utils import AveragedModel

from napari_tokensparse.compute.allocation import kept_memory
from napari_tokensparse.compute.shortage import is_shortage
from napari_tokensparse.model.noise import keyed_generator
from napari_tokensparse.training.accelerating import choose_precision, make_accelerator
from napari_tokensparse.training.elastic import keep_ratios_of_step
from napari_tokensparse.training.events import CheckpointSaved, StepDone, Validated, Validating
from napari_tokensparse.training.folder import BEST_FILE, STATE_FILE
from napari_tokensparse.training.gradients import Gradients, add_token_head
from napari_tokensparse.training.loading import loading
from napari_tokensparse.training.optim import learning_rate, make_optimizer, set_learning_rate
from napari_tokensparse.training.state import (
    Counters,
    check_moments,
    counters,
    counters_of,
    read,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.scoring.evaluate import CaseScores
    from napari_tokensparse.training.loading import Sampler, Window
    from napari_tokensparse.training.trainconfig import TrainConfig

MAX_SKIPPED = 10
# A stream of random numbers beside the sampler's, which is keyed by (seed, index) alone.
_KEEP = 1


class TrainError(ValueError):
    """A run that cannot start or go on; one plain line says why."""


class Validator(Protocol):
    """What judges the averaged weights now and then."""

    held_out: bool

    def __len__(self) -> int:
        """Return how many cases there are."""

    def score(self, model: SCD, number: int) -> CaseScores:
        """Segment one case and score it."""

    def preview(self, scores: CaseScores) -> Path | None:
        """Write the labels of the first case and say where."""


@dataclass(frozen=True)
class TrainSetup:
    """What a run needs beside the network and its config.

    Attributes
    ----------
    sampler
        Gives the windows of the volumes.
    folder
        Holds the checkpoint and the best weights; made if missing.
    device
        ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; several processes take theirs by their rank.
    validator
        Judges the averaged weights, or None.
    class_weights
        ``(K,)`` weights of the classes in the cross-entropy, or None.
    stop
        Asked after every step; True ends the run with a checkpoint.
    clock
        What ``max_minutes`` is counted with, in seconds; `time.process_time` makes runs beside
        others comparable.
    """

    sampler: Sampler
    folder: Path
    device: str = "cpu"
    validator: Validator | None = None
    class_weights: Tensor | None = None
    stop: Callable[[], bool] = field(default=lambda: False)
    clock: Callable[[], float] = time.perf_counter


def train(
    model: SCD, config: TrainConfig, setup: TrainSetup
) -> Iterator[StepDone | Validating | Validated | CheckpointSaved]:
    """Train a network, from the checkpoint in the setup's folder if it holds one.

    Parameters
    ----------
    model
        Trained in place.
    config
        Steps, step size, keep ratios, seed.
    setup
        Data, folder, device.

    Yields
    ------
    StepDone, Validating, Validated, CheckpointSaved
        In every process. Stopping between two events loses only the steps since the last
        checkpoint.

    Raises
    ------
    TrainError
        Ten steps in a row were not finite (the last good state is kept), memory ran out, the
        checkpoint belongs to another network, or the volumes of a step cannot be shared evenly by
        the processes.
    """
    setup.folder.mkdir(parents=True, exist_ok=True)
    run = _Run(model, config, setup)
    run.load()
    with kept_memory():
        yield from _events(run, config, setup)


def _events(
    run: _Run, config: TrainConfig, setup: TrainSetup
) -> Iterator[StepDone | Validating | Validated | CheckpointSaved]:
    """Step until the run is over."""
    batches = run.batches()
    while not run.finished():
        began = setup.clock()
        try:
            done = run.step(next(batches), began)
        except (RuntimeError, MemoryError) as error:
            if not is_shortage(error):
                raise
            raise TrainError(
                f"step {run.counters.step}: memory ran out on {setup.device}; give a smaller "
                f"micro_batch than {config.micro_batch}, a smaller network or window"
            ) from error
        yield done
        if run.counters.in_a_row == MAX_SKIPPED:
            yield run.save()
            raise TrainError(
                f"step {run.counters.step}: {MAX_SKIPPED} steps in a row were not finite; the last "
                f"good state is kept in {run.path}; try a smaller lr than {config.lr:g}"
            )
        if setup.validator is not None and run.validation_due():
            yield Validating(run.counters.step, len(setup.validator))
            yield run.validate(setup.validator)
        if run.checkpoint_due():
            yield run.save()


class _Run:
    """Everything that a step changes, and what it needs."""

    def __init__(self, model: SCD, config: TrainConfig, setup: TrainSetup) -> None:
        self._config, self._setup = config, setup
        precision = counters(setup.folder).precision or choose_precision(setup.device, config)
        self._accelerator = accelerator = make_accelerator(setup.device, precision)
        if config.batch_size % accelerator.num_processes:
            raise TrainError(
                f"batch_size {config.batch_size}: {accelerator.num_processes} processes share the "
                "volumes of a step evenly; give a multiple of their number"
            )
        if config.token_weight:
            add_token_head(model)
        self._model = model.to(accelerator.device).train()
        self._ema = AveragedModel(model, multi_avg_fn=partial(_average, config.ema_decay))
        self._wrapped, self._optimizer = accelerator.prepare(model, make_optimizer(model, config))
        self._gradients = Gradients(model, self._wrapped, accelerator, config, setup.class_weights)
        self.counters = Counters(precision=precision)
        self._saved_at = self._validated_at = 0.0  # seconds of the run
        self._validation_seconds = 0.0
        self.path = setup.folder / STATE_FILE

    def batches(self) -> Iterator[list[tuple[int, Sequence[Window]]]]:
        """Yield, per step from the next one, this process's volumes: index and windows of each."""
        config, accelerator = self._config, self._accelerator
        share = config.batch_size // accelerator.num_processes
        first = self.counters.step * config.batch_size
        volumes = loading(
            self._setup.sampler,
            config.seed,
            config.workers,
            first + accelerator.process_index,
            accelerator.num_processes,
        )
        while True:
            yield [next(volumes) for _ in range(share)]

    def step(self, volumes: list[tuple[int, Sequence[Window]]], began: float) -> StepDone:
        """Take a step whose windows were asked for when the clock said ``began``."""
        before = self.counters
        config, step = self._config, before.step
        lr = learning_rate(config, step, self.share())
        set_learning_rate(self._optimizer, lr)
        ratios = keep_ratios_of_step(config, keyed_generator(config.seed, step, _KEEP))
        loss = self._gradients.add(volumes, ratios)
        norm = self._accelerator.clip_grad_norm_(self._wrapped.parameters(), config.clip_norm)
        spent = self._setup.clock() - began
        loss, seconds, stop = self._agree(loss, spent, self._setup.stop())
        finite = math.isfinite(loss) and bool(torch.isfinite(torch.as_tensor(norm)))
        if finite or self._accelerator.scaler is not None:  # the scaler skips by itself and adapts
            self._optimizer.step()
        if finite:
            self._ema.update_parameters(self._model)
        self._optimizer.zero_grad()
        self.counters = replace(
            before,
            step=step + 1,
            seconds=before.seconds + seconds,
            skipped=before.skipped + (not finite),
            in_a_row=0 if finite else before.in_a_row + 1,
            reason="stopped" if stop else "",
        )
        drawn = ratios[len(ratios) // 2]
        return StepDone(step + 1, loss, lr, drawn, seconds, self.counters.skipped, self.share())

    def _agree(self, loss: float, seconds: float, stop: bool) -> tuple[float, float, bool]:
        """Mean loss, the first process's clock, and whether any process was told to stop."""
        processes = self._accelerator.num_processes
        if processes == 1:
            return loss, seconds, stop
        main = self._accelerator.is_main_process
        mine = torch.tensor(
            [loss / processes, seconds * main, float(stop)], device=self._accelerator.device
        )
        summed = self._accelerator.reduce(mine, "sum").tolist()
        return summed[0], summed[1], summed[2] > 0

    def share(self) -> float:
        """Share of the run that is done, in [0, 1]."""
        config, done = self._config, self.counters
        by_steps = done.step / config.steps if config.steps else 0.0
        by_time = done.seconds / (60.0 * config.max_minutes) if config.max_minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    def finished(self) -> bool:
        """Whether the run is over; the counters say why."""
        config, done = self._config, self.counters
        if not done.reason and config.patience and done.since_best >= config.patience:
            done = replace(done, reason="early stopping")
        if not done.reason and self.share() >= 1.0:
            by_steps = config.steps is not None and done.step >= config.steps
            done = replace(done, reason="steps" if by_steps else "minutes")
        self.counters = done
        return bool(done.reason)

    def checkpoint_due(self) -> bool:
        """Whether to save now: at the end, every so many steps, and every so many minutes."""
        every, done = self._config.checkpoint_minutes, self.counters
        late = every is not None and done.seconds - self._saved_at >= 60.0 * every
        return self.finished() or late or done.step % self._config.checkpoint_every == 0

    def validation_due(self) -> bool:
        """Whether to validate now: every so many steps or minutes, at the end, not on a stop."""
        if self.finished() and self.counters.reason != "stopped":
            return True
        every, done = self._config.validate_minutes, self.counters
        since = done.seconds - self._validated_at
        late = every is not None and since >= max(60.0 * every, 3.0 * self._validation_seconds)
        return (late and not done.reason) or done.step % self._config.validate_every == 0

    def validate(self, validator: Validator) -> Validated:
        """Score the averaged weights; processes share the cases."""
        started = self._setup.clock()
        averaged = cast("SCD", self._ema.module).eval()
        accelerator = self._accelerator
        mine = range(accelerator.process_index, len(validator), accelerator.num_processes)
        scores = [(n, validator.score(averaged, n)) for n in mine]
        ordered = [s for _, s in sorted(gather_object(scores), key=lambda pair: pair[0])]
        dice = _mean_of([s.dice for s in ordered])
        mean = float(np.mean(list(dice.values()))) if dice else 0.0
        before = self.counters
        best = before.best_dice is None or mean > before.best_dice
        preview = validator.preview(ordered[0]) if accelerator.is_main_process else None
        if best and accelerator.is_main_process:
            write(self._setup.folder / BEST_FILE, averaged.state_dict())
        _, seconds, _ = self._agree(0.0, self._setup.clock() - started, False)
        self.counters = replace(
            before,
            seconds=before.seconds + seconds,
            best_dice=mean if best else before.best_dice,
            since_best=0 if best else before.since_best + 1,
        )
        self._validated_at, self._validation_seconds = self.counters.seconds, seconds
        return Validated(
            before.step,
            dice,
            _mean_of([s.hd95_mm for s in ordered]),
            mean,
            best,
            validator.held_out,
            ordered[0].case,
            preview,
        )

    def _parts(self) -> dict[str, Any]:
        parts = {"model": self._model, "ema": self._ema, "optimizer": self._optimizer}
        scaler = self._accelerator.scaler
        return parts if scaler is None else {**parts, "scaler": scaler}

    def save(self) -> CheckpointSaved:
        """Write to a temporary name and rename, so that a kill leaves the previous checkpoint."""
        if self._accelerator.is_main_process:
            saved = {name: part.state_dict() for name, part in self._parts().items()}
            write(self.path, {**saved, "counters": asdict(self.counters)})
        self._saved_at = self.counters.seconds
        self._accelerator.wait_for_everyone()
        return CheckpointSaved(self.counters.step, self.path)

    def load(self) -> None:
        """Go on from the checkpoint, if there is one; one that was stopped goes on."""
        if not self.path.exists():
            return
        saved = read(self.path)
        try:
            for name, part in self._parts().items():
                part.load_state_dict(saved[name])
            check_moments(self._optimizer)
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise TrainError(
                f"{self.path}: belongs to another network or run; give another output folder"
            ) from error
        self.counters = replace(
            counters_of(saved, self.path),
            in_a_row=0,
            reason="",
            precision=self.counters.precision,
        )
        self._saved_at = self._validated_at = self.counters.seconds


def _average(
    decay: float, averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int
) -> None:
    """Move averages towards the current weights, faster while few steps are behind them."""
    early = (1 + int(count)) / (10 + int(count))  # or a short run would average its beginning
    for average, now in zip(averaged, current, strict=True):
        average.lerp_(now, 1.0 - min(decay, early))


def _mean_of(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean per class over the cases that hold it."""
    names = dict.fromkeys(name for score in scores for name in score)
    finite = {n: [s[n] for s in scores if math.isfinite(s.get(n, math.nan))] for n in names}
    return {name: float(np.mean(values)) for name, values in finite.items() if values}
