"""What a recipe is, and the parts that all recipes are made of."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from pydantic import BaseModel, ConfigDict

from napari_tokensparse.datasets.plan import SamplingPlan
from napari_tokensparse.model.config import SCDConfig
from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.training.trainconfig import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_tokensparse.datasets.cases import DataSet
    from napari_tokensparse.model.info import Colour

SIZES: dict[str, dict[str, int]] = {
    "nano": {"embed_dim": 24, "num_heads": 4, "feature_size": 2},
    "small": {"embed_dim": 96, "num_heads": 4, "feature_size": 8},
    "base": {"embed_dim": 384, "num_heads": 6, "feature_size": 16},
    "paper": {"embed_dim": 768, "num_heads": 12, "feature_size": 16},
}
"""Widths of the network by the name of its size; the completion is as wide as the encoder."""

GIB = 2**30
_PAIR = ["image", "label"]
# Weights, gradients, both momenta and the average, 4 bytes each.
_PER_PARAMETER = 20
# Bytes kept for the backward pass, counted on a CPU: per voxel and f, per token, block and E.
_PER_VOXEL, _PER_TOKEN = 90, 82
_TEMPORARY = 1.5
_VALIDATIONS = 5  # of a run, at least


class RecipeError(ValueError):
    """A recipe that does not fit the data set or the options; one plain line says why."""


class Recipe(BaseModel):
    """Everything a training run needs beside the cases.

    Attributes
    ----------
    name : str
        ``auto``, ``btcv`` or ``brats``.
    network : SCDConfig
        Sizes and choices of the network.
    info : ModelInfo
        What the trained model will say of itself.
    plan : SamplingPlan
        How windows are made of the cases.
    training : TrainConfig
        How to train.
    reasons : tuple of str
        Why each choice, one sentence each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    network: SCDConfig
    info: ModelInfo
    plan: SamplingPlan
    training: TrainConfig
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class RecipeRequest:
    """What a person asks a recipe for.

    Attributes
    ----------
    size
        One of `SIZES`, or ``auto``.
    device
        Where the run will be.
    memory_bytes
        What a step may use there.
    keep_range
        Keep ratios to train for; None leaves them to the recipe.
    epochs, max_minutes
        When to stop; the recipe's own length if neither is given.
    et_as_authors
        Recipe ``brats``: read label 2 as the enhancing tumour, as the authors' code does.

    Raises
    ------
    RecipeError
        There is no such size.
    """

    size: str = "auto"
    device: str = "cpu"
    memory_bytes: int = 8 * GIB
    keep_range: tuple[float, float] | None = None
    epochs: int | None = None
    max_minutes: float | None = None
    et_as_authors: bool = False

    def __post_init__(self) -> None:
        """Refuse an unknown size before anything is read."""
        if self.size not in ("auto", *SIZES):
            raise RecipeError(f"size {self.size!r}: choose one of auto, {', '.join(SIZES)}")

    @property
    def on_cpu(self) -> bool:
        """Whether the run will be on a CPU."""
        return self.device.startswith("cpu")


def network_of(size: str, data_set: DataSet, **choices: Any) -> SCDConfig:
    """Make the network of a size for a data set of exclusive classes, with other choices set."""
    widths = SIZES[size]
    fields: dict[str, Any] = {
        "in_channels": len(data_set.channels),
        "out_channels": len(data_set.labels) + 1,
        **widths,
        "completion_dim": widths["embed_dim"],
        "completion_heads": widths["num_heads"],
    }
    return SCDConfig(**{**fields, **choices})


def step_bytes(network: SCDConfig, windows: int) -> int:
    """Estimate the memory of a training step that runs so many windows at a time, in float32."""
    with torch.device("meta"):
        parameters = sum(p.numel() for p in SCD(network).parameters())
    voxels = math.prod(network.window) * network.feature_size * _PER_VOXEL
    tokens = math.prod(network.grid) * network.depth * network.embed_dim * _PER_TOKEN
    return int(parameters * _PER_PARAMETER + windows * (voxels + tokens) * _TEMPORARY)


def most_windows(network: SCDConfig, windows: int, memory_bytes: int) -> int:
    """How many of a step's windows fit into memory at a time, at least 1."""
    fitting = (n for n in range(windows, 1, -1) if step_bytes(network, n) <= memory_bytes)
    return next(fitting, 1)


class ValidationPace(TypedDict):
    """Fields of `TrainConfig` that say when a run validates."""

    validate_every: int
    validate_minutes: float | None


def validation_pace(every: int, steps: int | None, max_minutes: float | None) -> ValidationPace:
    """Return when a run validates: every so many steps, but five times or more in a short one."""
    often = every if steps is None else min(every, -(-steps // _VALIDATIONS))
    minutes = None if max_minutes is None else max_minutes / _VALIDATIONS
    return {"validate_every": often, "validate_minutes": minutes}


def said_of_validation(training: TrainConfig) -> str:
    """Say when a run validates, as the end of a sentence."""
    minutes = training.validate_minutes
    late = "" if minutes is None else f" or {minutes:.2g} minutes"
    return f"validation every {training.validate_every} steps{late}"


def exclusive_classes(labels: Mapping[int, str]) -> tuple[LabelClass, ...]:
    """Make the classes of a data set, with a colour each."""
    return tuple(
        LabelClass(value=value, name=name, color=colour(number))
        for number, (value, name) in enumerate(labels.items())
    )


def colour(number: int) -> Colour:
    """Return a colour for the class of this number, far from those before it."""
    hue = number * (math.sqrt(5) - 1) / 2 % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.65, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def orientation() -> dict[str, Any]:
    """Turn a volume so that its axes run to the right, front and top."""
    return {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"}


def spacing(millimetres: tuple[float, float, float]) -> dict[str, Any]:
    """Resample a volume to this voxel size."""
    pixdim = list(millimetres)
    return {"_target_": "Spacingd", "keys": "image", "pixdim": pixdim, "mode": "bilinear"}


def intensity_range(low: float, high: float) -> dict[str, Any]:
    """Clip intensities and scale them to -1 to 1."""
    scaled = {"a_min": low, "a_max": high, "b_min": -1.0, "b_max": 1.0, "clip": True}
    return {"_target_": "ScaleIntensityRanged", "keys": "image", **scaled}


def z_score() -> dict[str, Any]:
    """Scale the non-zero voxels of each channel to mean 0 and spread 1; zeros stay."""
    how = {"nonzero": True, "channel_wise": True}
    return {"_target_": "NormalizeIntensityd", "keys": "image", **how}


def crop_foreground() -> dict[str, Any]:
    """Cut off what lies around the voxels above 0."""
    how = {"source_key": "image", "allow_smaller": True}
    return {"_target_": "CropForegroundd", "keys": "image", **how}


def flips(probability: float, axes: tuple[int, ...] = (0, 1, 2)) -> tuple[dict[str, Any], ...]:
    """Flip a crop along each axis with this probability."""
    return tuple(
        {"_target_": "RandFlipd", "keys": _PAIR, "prob": probability, "spatial_axis": axis}
        for axis in axes
    )


def quarter_turns(probability: float) -> dict[str, Any]:
    """Turn a crop by one to three right angles about its last axis."""
    return {"_target_": "RandRotate90d", "keys": _PAIR, "prob": probability, "max_k": 3}


def random_gain(share: float, probability: float) -> dict[str, Any]:
    """Multiply a crop by up to this share more or less."""
    return {
        "_target_": "RandScaleIntensityd",
        "keys": "image",
        "factors": share,
        "prob": probability,
    }


def random_offset(most: float, probability: float) -> dict[str, Any]:
    """Add up to this much to a crop, or take it away."""
    return {
        "_target_": "RandShiftIntensityd",
        "keys": "image",
        "offsets": most,
        "prob": probability,
    }
