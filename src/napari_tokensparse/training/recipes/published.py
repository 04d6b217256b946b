"""The recipes ``btcv`` and ``brats`` as published (IPMI 2023, arXiv 2303.06522, and its code)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_tokensparse.datasets.plan import SamplingPlan
from napari_tokensparse.model.expected import HOUNSFIELD, STRIPPED_MR
from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.training.recipes.parts import (
    GIB,
    Recipe,
    RecipeError,
    RecipeRequest,
    colour,
    crop_foreground,
    exclusive_classes,
    flips,
    intensity_range,
    most_windows,
    network_of,
    orientation,
    quarter_turns,
    random_gain,
    random_offset,
    spacing,
    step_bytes,
    validation_pace,
    z_score,
)
from napari_tokensparse.training.trainconfig import TrainConfig

if TYPE_CHECKING:
    from napari_tokensparse.datasets.cases import DataSet
    from napari_tokensparse.model.config import SCDConfig

_VALIDATIONS = 100


@dataclass(frozen=True)
class _Schedule:
    """Length of a published run."""

    epochs: int
    warmup_epochs: int
    batch_size: int
    loss: str


_BTCV = _Schedule(epochs=5000, warmup_epochs=50, batch_size=2, loss="dice-ce")
_BRATS = _Schedule(epochs=533, warmup_epochs=13, batch_size=1, loss="dice")


def btcv(data_set: DataSet, request: RecipeRequest) -> Recipe:
    """Abdominal organs in CT, exclusive classes."""
    preprocessing = (
        orientation(),
        spacing((1.5, 1.5, 2.0)),
        intensity_range(-958.0, 326.0),
        crop_foreground(),
    )
    keep_ratio = (1 - 0.9,) * 3
    network = network_of(
        _size(request), data_set, window=(96, 96, 96), keep_ratio=keep_ratio, drop_path=0.1
    )
    plan = SamplingPlan(
        window=network.window,
        crops=4,
        image_threshold=0.0,
        preprocessing=preprocessing,
        augmentation=(*_turns(), *_intensities()),
        background=-1.0,
        values=(0, *data_set.labels),
        unlabelled=data_set.unlabelled,
    )
    info = ModelInfo(
        name=data_set.name,
        channels=data_set.channels,
        classes=exclusive_classes(data_set.labels),
        preprocessing=preprocessing,
        background=-1.0,
        expects=HOUNSFIELD,
        overlap=0.5,
        blending="constant",
    )
    training, reasons = _training(_BTCV, network, plan, data_set, request)
    return _recipe("btcv", network, info, plan, training, reasons)


def brats(data_set: DataSet, request: RecipeRequest) -> Recipe:
    """Tumour core, whole tumour and enhancing tumour in four MRI contrasts, overlapping."""
    if data_set.unlabelled is not None:
        raise RecipeError(
            f"recipe 'brats' with label {data_set.unlabelled} as unlabelled: its regions need "
            "every voxel labelled; use recipe auto"
        )
    oedema, rest, enhancing = _tumour_parts(data_set)
    if request.et_as_authors:
        rest, enhancing = enhancing, rest
    regions = ((rest, enhancing), (oedema, rest, enhancing), (enhancing,))
    grid = (orientation(), spacing((1.0, 1.0, 1.0)))
    network = network_of(
        _size(request),
        data_set,
        out_channels=len(regions),
        window=(128, 128, 128),
        keep_ratio=(1 - 0.75,) * 3,
    )
    plan = SamplingPlan(
        window=network.window,
        crops=3,
        image_threshold=0.0,
        preprocessing=grid,
        augmentation=(*_turns(), z_score(), *_intensities()),
        regions=tuple(tuple(sorted(region)) for region in regions),
    )
    info = ModelInfo(
        name=data_set.name,
        channels=data_set.channels,
        classes=tuple(
            LabelClass(value=value, name=name, color=colour(number))
            for number, (value, name) in enumerate(
                ((rest, "tumour core"), (oedema, "whole tumour"), (enhancing, "enhancing tumour"))
            )
        ),
        exclusive=False,
        paint_order=(1, 0, 2),
        regions=plan.regions,
        preprocessing=(*grid, crop_foreground(), z_score()),
        expects=STRIPPED_MR,
        overlap=0.5,
        blending="constant",
    )
    training, reasons = _training(_BRATS, network, plan, data_set, request)
    said = f"Label {enhancing} ({data_set.labels[enhancing]}) is read as the enhancing tumour."
    if request.et_as_authors:
        said = f"{said[:-1]}, as the authors' code does."
    return _recipe("brats", network, info, plan, training, (*reasons, said))


def _recipe(
    name: str,
    network: SCDConfig,
    info: ModelInfo,
    plan: SamplingPlan,
    training: TrainConfig,
    reasons: tuple[str, ...],
) -> Recipe:
    return Recipe(
        name=name, network=network, info=info, plan=plan, training=training, reasons=reasons
    )


def _size(request: RecipeRequest) -> str:
    return "paper" if request.size == "auto" else request.size


def _turns() -> tuple[dict[str, Any], ...]:
    return (*flips(0.2), quarter_turns(0.2))


def _intensities() -> tuple[dict[str, Any], ...]:
    return random_gain(0.1, 0.1), random_offset(0.1, 0.1)


def _training(
    schedule: _Schedule,
    network: SCDConfig,
    plan: SamplingPlan,
    data_set: DataSet,
    request: RecipeRequest,
) -> tuple[TrainConfig, tuple[str, ...]]:
    """Return how to train, and what there is to say about it."""
    per_epoch = math.ceil(len(data_set.training) / schedule.batch_size)
    epochs = request.epochs or schedule.epochs
    warmup = schedule.warmup_epochs * epochs / schedule.epochs
    ratio = network.keep_ratio[0]
    windows = plan.crops * schedule.batch_size
    training = TrainConfig(
        steps=epochs * per_epoch,
        max_minutes=request.max_minutes,
        lr=1.72e-2 * schedule.batch_size / 256,
        layer_decay=0.75,
        warmup_steps=round(warmup * per_epoch),
        batch_size=schedule.batch_size,
        micro_batch=most_windows(network, windows, request.memory_bytes),
        keep_range=request.keep_range or (ratio, ratio),
        ema_decay=0.0,
        clip_norm=math.inf,
        loss=schedule.loss,  # type: ignore[arg-type]  # a literal above
        checkpoint_every=200,
        **validation_pace(
            max(1, epochs // _VALIDATIONS) * per_epoch, epochs * per_epoch, request.max_minutes
        ),
    )
    return training, _reasons(schedule, network, training, request, epochs)


def _reasons(
    schedule: _Schedule,
    network: SCDConfig,
    training: TrainConfig,
    request: RecipeRequest,
    epochs: int,
) -> tuple[str, ...]:
    needed = step_bytes(network, training.micro_batch)
    memory = (
        f"A step with {training.micro_batch} windows at a time needs about "
        f"{needed / GIB:.1f} GiB; there are {request.memory_bytes / GIB:.1f}"
    )
    small = needed > request.memory_bytes
    said = [f"{memory}{': choose a smaller size or another device' * small}."]
    if request.size not in ("auto", "paper"):
        said.append(f"Size {request.size} as asked for; published is paper.")
    if epochs != schedule.epochs:
        said.append(f"{epochs} epochs as asked for; published are {schedule.epochs}.")
    low, high = training.keep_range
    if (low, high) != (network.keep_ratio[0],) * 2:
        said.append(
            f"Keep ratios from {low:g} to {high:g} as asked for; published is "
            f"{network.keep_ratio[0]:.3g} alone."
        )
    return tuple(said)


def _tumour_parts(data_set: DataSet) -> tuple[int, int, int]:
    """Find oedema, non-enhancing and enhancing tumour among the labels by their names."""
    parts: dict[str, int] = {}
    for value, name in data_set.labels.items():
        lowered = name.lower()
        if "edema" in lowered:  # oedema as well
            parts["oedema"] = value
        elif "non" in lowered and "enhanc" in lowered:
            parts["rest"] = value
        elif "enhanc" in lowered:
            parts["enhancing"] = value
    if len(parts) < 3 or len(data_set.labels) != 3:
        raise RecipeError(
            f"recipe 'brats': labels {', '.join(data_set.labels.values())}: must be edema, "
            "non-enhancing tumor and enhancing tumour; use recipe auto for others"
        )
    return parts["oedema"], parts["rest"], parts["enhancing"]
