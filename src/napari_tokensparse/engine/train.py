"""Training: one readable loop that yields frozen events and can be resumed.

Every random choice is keyed by (seed, step): a run that is stopped and resumed sees the same
samples, the same keep ratios and the same noise as one that was not.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import torch
from monai.losses.dice import DiceCELoss
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
)
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from napari_tokensparse.data.deformation import keyed_generator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

    from napari_tokensparse.model.scd import SCD

STATE_FILE = "training.pt"
# The gradients of the score predictors come through a softmax over all live tokens and are of
# order 1e-12: with Adam's usual 1e-8 the predictors would not move.
_ADAM_EPS = 1e-16


class TrainConfig(BaseModel):
    """How to train.

    Attributes
    ----------
    steps : int
        Steps of the whole run, those before a resume included.
    lr, weight_decay : float
        AdamW's step size after the warm-up, and its decay (none on biases and 1-D parameters).
    warmup_steps, cooldown_steps : int
        Linear warm-up from 0, and linear decay to 0 over the last steps; constant between.
    keep_range : tuple of float
        The keep ratio of each step is drawn log-uniformly from this range, within (0, 1].
    ema_decay : float
        Decay per step of the averaged weights that validation and the result use.
    clip_norm : float
        Largest norm of the gradient.
    seed : int
        Key of every random choice, with the step.
    checkpoint_every : int
        Steps between two checkpoints.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: PositiveInt
    lr: PositiveFloat = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    warmup_steps: NonNegativeInt = 50
    cooldown_steps: NonNegativeInt = 0
    keep_range: tuple[float, float] = (0.05, 1.0)
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    clip_norm: PositiveFloat = 1.0
    seed: int = 0
    checkpoint_every: PositiveInt = 50

    @field_validator("keep_range")
    @classmethod
    def _within(cls, keep_range: tuple[float, float]) -> tuple[float, float]:
        low, high = keep_range
        if not 0.0 < low <= high <= 1.0:
            raise ValueError(f"keep_range {keep_range}: must ascend within (0, 1]")
        return keep_range


@dataclass(frozen=True)
class StepDone:
    """One optimisation step: its number from 1, loss, keep ratio and seconds."""

    step: int
    loss: float
    keep_ratio: float
    seconds: float


@dataclass(frozen=True)
class CheckpointSaved:
    """The state after ``step`` steps is on disk at ``path``."""

    step: int
    path: Path


class Sampler(Protocol):
    """Where training pairs come from."""

    def sample(self, seed: int, step: int) -> tuple[Tensor, Tensor]:
        """Return image ``(C, h, w, d)`` and class indices ``(h, w, d)``, the same for a key."""


@dataclass(frozen=True)
class _State:
    """Everything that a step changes."""

    model: SCD
    ema: AveragedModel
    optimizer: torch.optim.Optimizer

    def parts(self) -> dict[str, Any]:
        return {"model": self.model, "ema": self.ema, "optimizer": self.optimizer}


def train(
    model: SCD, sampler: Sampler, class_weights: Tensor, config: TrainConfig, folder: Path
) -> Iterator[StepDone | CheckpointSaved]:
    """Train a network, from the checkpoint in ``folder`` if it holds one.

    Parameters
    ----------
    model
        Trained in place.
    sampler
        Gives one training pair per step.
    class_weights
        ``(K,)`` weights of the classes in the cross-entropy.
    config
        Steps, step size, keep ratios, seed.
    folder
        Holds the checkpoint; made if missing.

    Yields
    ------
    StepDone, CheckpointSaved
        After every step and every checkpoint. Stopping between two events loses only the steps
        since the last checkpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / STATE_FILE
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True, weight=class_weights)
    state = _new_state(model, config)
    first = _load(state, path) if path.exists() else 0
    model.train()
    for step in range(first, config.steps):
        started = time.perf_counter()
        _set_lr(state.optimizer, config, step)
        loss, keep_ratio = _step(state, sampler, loss_of, config, step)
        yield StepDone(step + 1, loss, keep_ratio, time.perf_counter() - started)
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            _save(state, step + 1, path)
            yield CheckpointSaved(step + 1, path)


def averaged_weights(folder: Path) -> tuple[dict[str, Tensor], int]:
    """Averaged weights of the checkpoint in ``folder``, and the number of steps behind them."""
    saved = torch.load(folder / STATE_FILE, weights_only=True)
    prefix = "module."
    weights = {k.removeprefix(prefix): v for k, v in saved["ema"].items() if k.startswith(prefix)}
    return weights, saved["step"]


def keep_ratio_of(config: TrainConfig, generator: torch.Generator) -> float:
    """Draw a keep ratio log-uniformly from the config's range."""
    low, high = (math.log(r) for r in config.keep_range)
    return math.exp(low + (high - low) * torch.rand((), generator=generator).item())


def learning_rate(config: TrainConfig, step: int) -> float:
    """Step size at a 0-based step: warm-up, constant, cool-down."""
    warm = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    cool = min(1.0, (config.steps - step) / max(config.cooldown_steps, 1))
    return config.lr * warm * cool


def _new_state(model: SCD, config: TrainConfig) -> _State:
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed},
        {"params": plain, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        groups,
        lr=config.lr,
        betas=(0.9, 0.95),
        eps=_ADAM_EPS,
        weight_decay=config.weight_decay,
    )
    average = get_ema_multi_avg_fn(config.ema_decay)  # type: ignore[no-untyped-call]
    ema = AveragedModel(model, multi_avg_fn=average)
    return _State(model, ema, optimizer)


def _step(
    state: _State, sampler: Sampler, loss_of: DiceCELoss, config: TrainConfig, step: int
) -> tuple[float, float]:
    generator = keyed_generator(config.seed, step)
    keep_ratio = keep_ratio_of(config, generator)
    image, target = sampler.sample(config.seed, step)
    logits = state.model(image[None], keep_ratio, generator).logits
    loss = loss_of(logits, target[None, None])
    state.optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(state.model.parameters(), config.clip_norm)
    state.optimizer.step()
    state.ema.update_parameters(state.model)
    return loss.item(), keep_ratio


def _set_lr(optimizer: torch.optim.Optimizer, config: TrainConfig, step: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, step)


def _save(state: _State, step: int, path: Path) -> None:
    """Write to a temporary name and rename, so that a kill leaves the previous checkpoint."""
    saved = {name: part.state_dict() for name, part in state.parts().items()}
    temporary = path.with_suffix(".tmp")
    torch.save({**saved, "step": step}, temporary)
    temporary.replace(path)


def _load(state: _State, path: Path) -> int:
    saved = torch.load(path, weights_only=True)
    for name, part in state.parts().items():
        part.load_state_dict(saved[name])
    step: int = saved["step"]
    return step
