"""How fast networks are trained: seconds and memory of an optimisation step on one window."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch.nn.utils import clip_grad_norm_

from napari_tokensparse.benchmarks.inference import most_memory
from napari_tokensparse.benchmarks.macs import gmacs, step_gmacs
from napari_tokensparse.benchmarks.networks import (
    SCD_VARIANT,
    dense_of,
    drawn,
    families,
    has_dense,
)
from napari_tokensparse.benchmarks.report import DENSE, TOTAL, Row
from napari_tokensparse.benchmarks.timing import take_turns
from napari_tokensparse.compute.allocation import kept_memory
from napari_tokensparse.compute.backends.base import PLAIN
from napari_tokensparse.model.presets import preset
from napari_tokensparse.training.losses import make_loss
from napari_tokensparse.training.optim import make_optimizer
from napari_tokensparse.training.trainconfig import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from napari_tokensparse.benchmarks.plan import Plan
    from napari_tokensparse.benchmarks.timing import Round
    from napari_tokensparse.model.config import SCDConfig

TRAINING = "training"
FORWARD, LOSS, BACKWARD, OPTIMISER = "forward", "loss", "backward", "optimiser"
_PARTS = (FORWARD, LOSS, BACKWARD, OPTIMISER)
PRESETS_TO_TRAIN = ("btcv", "btcv-lite", "brain-structures")
_RUN = TrainConfig(steps=1)


class Trainee:
    """A network in training, with a window and its target."""

    def __init__(self, config: SCDConfig) -> None:
        self.model = drawn(config).train()
        self._optimizer = make_optimizer(self.model, _RUN)
        self._loss_of = make_loss("dice-ce")
        self._image = torch.randn(1, config.in_channels, *config.window)
        self._target = torch.randint(config.out_channels, (1, *config.window))

    def step(self, keep_ratio: float) -> dict[str, float]:
        """Take one step as `train` does, and return the seconds of its parts."""
        marks = [time.perf_counter()]
        logits = self.model(self._image, keep_ratio).logits
        marks.append(time.perf_counter())
        loss = self._loss_of(logits, self._target)
        marks.append(time.perf_counter())
        torch.autograd.backward(loss)
        marks.append(time.perf_counter())
        clip_grad_norm_(self.model.parameters(), _RUN.clip_norm)
        self._optimizer.step()
        self._optimizer.zero_grad()
        marks.append(time.perf_counter())
        return dict(zip(_PARTS, (b - a for a, b in pairwise(marks)), strict=True))


@dataclass(frozen=True, eq=False)
class _Case:
    """A network that is trained at one keep ratio."""

    name: str
    variant: str
    trainee: Trainee
    keep_ratio: float

    def step(self) -> dict[str, float]:
        """Take one step; returns the seconds of its parts."""
        return self.trainee.step(self.keep_ratio)

    def peak_mb(self) -> float:
        """Return the memory that a step takes."""
        return most_memory(self.step)

    def rows(self, seconds: Mapping[str, Sequence[float]]) -> Iterator[Row]:
        """Yield the total, then the parts."""
        config, ratio = self.trainee.model.config, self.keep_ratio
        row = Row(TRAINING, TOTAL, self.name, self.variant, PLAIN, ratio)
        whole, forward = step_gmacs(config, ratio), gmacs(config, ratio)[TOTAL]
        counted = {FORWARD: forward, BACKWARD: whole - forward}
        yield replace(row.timed(seconds[TOTAL]), gmacs=whole, peak_mb=self.peak_mb())
        for part in _PARTS:
            yield replace(row, part=part, gmacs=counted.get(part)).timed(seconds[part])


def time_training(plan: Plan) -> Iterator[Round | Row]:
    """Time an optimisation step of each preset, pruned and dense.

    Memory is that of a step beyond weights and optimiser: activations and gradients.

    Yields
    ------
    Round, Row
        A round as it begins; the rows of a family when its rounds are over.
    """
    for family, names in families(plan.presets_of(PRESETS_TO_TRAIN)).items():
        cases = [case for name in names for case in _cases(name, plan)]
        works = {n: case.step for n, case in enumerate(cases)}
        with kept_memory():
            taken = yield from take_turns(f"{TRAINING} {family}", works, plan.rounds, plan.rate)
        for n, case in enumerate(cases):
            yield from case.rows(taken[n])


def _cases(name: str, plan: Plan) -> Iterator[_Case]:
    config = preset(name)
    trainee = Trainee(config)
    for keep_ratio in plan.keep_ratios:
        yield _Case(name, SCD_VARIANT, trainee, keep_ratio)
    if has_dense(name):
        yield _Case(name, DENSE, Trainee(dense_of(config)), 1.0)
