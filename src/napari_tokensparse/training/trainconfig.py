"""How to train: one frozen, validated config, readable without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from napari_tokensparse.model.ratios import keep_range

KeepRange = Annotated[tuple[float, float], AfterValidator(keep_range)]
"""Lowest and highest keep ratio, ascending within (0, 1]."""

MOST_PROCESSES = 1024


class TrainConfig(BaseModel):
    """How to train; give ``steps``, ``max_minutes`` or both.

    Attributes
    ----------
    steps : int or None
        Optimisation steps of the whole run, those before a resume included.
    max_minutes : float or None
        Minutes of the whole run, validation and those before a resume included. The schedule
        follows whichever of the two ends first; only a run without it repeats bit for bit.
    lr, betas, weight_decay : float
        AdamW's step size after the warm-up, its momenta and its decay (none on biases and 1-D
        parameters).
    layer_decay : float
        Step size of encoder block i of n relative to the head's is this to the power n - i, in
        (0, 1]; 1 is the same step size everywhere.
    warmup_steps : int
        Linear warm-up from 0.
    schedule : str
        After the warm-up: ``cosine`` to 0, or ``constant`` with a linear decay to 0 over the last
        ``cooldown`` of the run.
    cooldown : float
        Share of the run, in [0, 1].
    batch_size : int
        Volumes per step, over all processes.
    micro_batch : int
        Windows that one process runs through the network at a time; gradients accumulate.
    keep_range : tuple of float
        The keep ratio of each step is drawn log-uniformly from this range, within (0, 1].
    sandwich : float
        Share of the steps, in [0, 1], that run their windows at both ends of the range too: three
        passes instead of one.
    distillation : float
        Weight, in [0, 1], of the upper end's own answer beside the labels in the loss of the other
        two passes.
    importance_share : float
        Share of the passes, in [0, 1], whose stages keep what is important enough, the least of it
        drawn anew, in place of a share of the tokens; the upper end of a sandwich is left alone.
    pin_share : float
        Share of the passes, in [0, 1], in which the tokens about some place are pinned to be kept,
        so that what a person pins is understood however little is kept beside it.
    score_weight : float
        Weight of telling the score predictors which patches hold what is to be found; 0 leaves them
        to the gradient through the masks, as in the paper.
    loss : str
        ``dice-ce`` (Dice + cross-entropy, exclusive classes or their shares of each voxel) or
        ``dice`` (sigmoid, regions).
    ema_decay : float
        Decay per step of the averaged weights that validation and the result use; less in the
        first steps, so that a short run does not average its beginning.
    clip_norm : float
        Largest norm of the gradient.
    token_weight : float
        Weight of a linear head that says from each completed token which share of its patch every
        class has; it is thrown away after training. 0 trains without one.
    precision : str
        ``float32``; ``bfloat16`` but for norms, scores and losses; ``auto`` takes the latter on a
        CUDA GPU, and on a CPU where a short measurement says that it is faster.
    seed : int
        Key of every random choice, with the step and the case.
    workers : int
        Processes that prepare windows; 0 prepares them between the steps.
    checkpoint_every, validate_every : int
        Steps between two checkpoints, and between two validations.
    checkpoint_minutes, validate_minutes : float or None
        Minutes after which a checkpoint is written, and after which a validation takes place, in
        any case; validations never take more than a quarter of the time for it.
    patience : int or None
        Validations without a better Dice after which the run stops early; None never does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: PositiveInt | None = None
    max_minutes: PositiveFloat | None = None
    lr: PositiveFloat = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    warmup_steps: NonNegativeInt = 20
    schedule: Literal["cosine", "constant"] = "cosine"
    cooldown: Annotated[float, Field(ge=0, le=1)] = 0.25
    batch_size: PositiveInt = 1
    micro_batch: PositiveInt = 1
    keep_range: KeepRange = (0.05, 1.0)
    sandwich: Annotated[float, Field(ge=0, le=1)] = 0.0
    distillation: Annotated[float, Field(ge=0, le=1)] = 0.5
    importance_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    pin_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    score_weight: Annotated[float, Field(ge=0)] = 0.0
    loss: Literal["dice-ce", "dice"] = "dice-ce"
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    clip_norm: PositiveFloat = 1.0
    token_weight: Annotated[float, Field(ge=0)] = 0.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    seed: NonNegativeInt = 0
    workers: Annotated[int, Field(ge=0, le=MOST_PROCESSES)] = 0
    checkpoint_every: PositiveInt = 50
    validate_every: PositiveInt = 250
    checkpoint_minutes: PositiveFloat | None = None
    validate_minutes: PositiveFloat | None = None
    patience: PositiveInt | None = None

    @model_validator(mode="after")
    def _ends(self) -> TrainConfig:
        if self.steps is None and self.max_minutes is None:
            raise ValueError("steps, max_minutes: give one of them, or the run never ends")
        return self
