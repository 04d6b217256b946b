"""The recipe ``auto``: choices by a fingerprint of the data set, the device and its memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_tokensparse.datasets.plan import SamplingPlan
from napari_tokensparse.model.expected import HOUNSFIELD
from napari_tokensparse.model.info import ModelInfo
from napari_tokensparse.training.recipes.fingerprint import fingerprint, thinnest_mm
from napari_tokensparse.training.recipes.parts import (
    GIB,
    Recipe,
    RecipeRequest,
    exclusive_classes,
    flips,
    intensity_range,
    most_windows,
    network_of,
    orientation,
    random_gain,
    said_of_validation,
    spacing,
    step_bytes,
    validation_pace,
    z_score,
)
from napari_tokensparse.training.trainconfig import TrainConfig
from napari_tokensparse.volumes.windows import window_grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_tokensparse.datasets.cases import DataSet
    from napari_tokensparse.datasets.checks import CaseFacts
    from napari_tokensparse.model.config import SCDConfig
    from napari_tokensparse.training.recipes.fingerprint import Fingerprint, Triple

Shape = tuple[int, int, int]

_PATCH = 8
_STEP, _LEAST = 16, 32  # the decoder halves a token grid of at least 4
_BIGGEST = {"nano": 32, "small": 64, "base": 64, "paper": 64}  # window edge on a CPU
_EDGES = (128, 112, 96, 80, 64, 48, 32)  # tried on a GPU
_MOST_WINDOWS = {True: 150, False: 1500}  # of a volume, on a CPU or not
_ACROSS = 4  # voxels across the thinnest structure
_MANY_CASES = 20  # that are worth the paper's size
_MARGIN = 0.25  # of the range of a structure's intensities, on either side
_NARROWEST_HU = 100.0


@dataclass(frozen=True)
class _Choice:
    """One decision and why."""

    value: Any
    reason: str


@dataclass(frozen=True)
class _Pace:
    """How training differs between a CPU and a GPU."""

    lr_by_width: float
    most_lr: float
    steps: int
    warmup: int
    volumes: int
    crops: int
    ema_decay: float
    overlap: float
    checkpoint_every: int


_CPU = _Pace(0.48, 5e-3, 3000, 20, 1, 1, 0.99, 0.25, 50)
_GPU = _Pace(0.192, 2e-3, 20_000, 200, 2, 2, 0.999, 0.5, 200)


def auto(data_set: DataSet, facts: Sequence[CaseFacts], request: RecipeRequest) -> Recipe:
    """Choose spacing, intensities, window, network and training for a data set."""
    data = fingerprint(data_set, facts)
    pace = _CPU if request.on_cpu else _GPU
    voxel = _spacing(data, data_set, request, pace)
    shape = data.shape(voxel.value)
    network = _network(data_set, shape, voxel.value, request)
    intensity = _intensity(data)
    mirrored = _mirrored(data)
    preprocessing = (orientation(), spacing(voxel.value), intensity.value)
    plan = SamplingPlan(
        window=network.value.window,
        crops=_crops(shape, network.value.window, pace),
        jitter=network.value.patch_size,
        positive_share=2 / 3,
        balanced=True,
        preprocessing=preprocessing,
        augmentation=(*flips(0.5, mirrored.value), *_gains(data)),
        background=_background(data),
        values=(0, *data_set.labels),
        unlabelled=data_set.unlabelled,
    )
    info = ModelInfo(
        name=data_set.name,
        channels=data_set.channels,
        classes=exclusive_classes(data_set.labels),
        preprocessing=preprocessing,
        background=plan.background,
        expects=HOUNSFIELD if data.hounsfield else None,
        overlap=pace.overlap,
    )
    training = _training(network.value, plan, shape, data_set, request, pace)
    choices = (voxel, intensity, network, mirrored, training)
    return Recipe(
        name="auto",
        network=network.value,
        info=info,
        plan=plan,
        training=training.value,
        reasons=tuple(choice.reason for choice in choices),
    )


def _spacing(data: Fingerprint, data_set: DataSet, request: RecipeRequest, pace: _Pace) -> _Choice:
    """Take the typical spacing, coarser only where a volume is too big and structures bear it."""
    said = f"Spacing {_mm(data.spacing)}: typical of the {data.cases} training cases"
    if data.cases == 1:
        said = f"Spacing {_mm(data.spacing)}: that of the training case"
    if data.anisotropic:
        said += "; slices this thick are kept, not cut into thinner ones"
    most = _MOST_WINDOWS[request.on_cpu]
    edge = _BIGGEST.get(request.size, 64) if request.on_cpu else 96
    windows = _windows(data, data.spacing, edge, pace)
    if windows <= most:
        return _Choice(data.spacing, f"{said}.")
    limit, finest = thinnest_mm(data_set) / _ACROSS, min(data.spacing)
    coarse = data.spacing
    while _windows(data, coarse, edge, pace) > most and finest * 1.05 <= limit:
        finest *= 1.05
        coarse = _at_least(data.spacing, finest)
    if coarse == data.spacing:
        why = f"the thinnest structures, {_ACROSS * limit:.1f} mm, bear nothing coarser"
        return _Choice(coarse, f"{said}; {windows} windows per volume are many, but {why}.")
    return _Choice(
        coarse,
        f"Spacing {_mm(coarse)} rather than {_mm(data.spacing)}: a volume is "
        f"{_windows(data, coarse, edge, pace)} windows instead of {windows}, and the thinnest "
        f"structures, {_ACROSS * limit:.1f} mm, keep {_ACROSS} voxels or more.",
    )


def _at_least(spacing: Triple, finest: float) -> Triple:
    h, w, d = (max(s, round(finest, 4)) for s in spacing)
    return h, w, d


def _windows(data: Fingerprint, voxel: Triple, edge: int, pace: _Pace) -> int:
    shape = data.shape(voxel)
    return _count(shape, _window(shape, voxel, edge**3), pace)


def _count(shape: Shape, window: Shape, pace: _Pace) -> int:
    return len(window_grid(shape, window, _PATCH, pace.overlap).starts)


def _window(shape: Shape, voxel: Triple, most: int) -> Shape:
    """Fit a window of at most so many voxels: the volume, shortened where it is longest in mm."""
    sides = [max(_LEAST, -(-n // _STEP) * _STEP) for n in shape]
    while math.prod(sides) > most and max(sides) > _LEAST:
        longest = max(
            (axis for axis in range(3) if sides[axis] > _LEAST),
            key=lambda axis: sides[axis] * voxel[axis],
        )
        sides[longest] -= _STEP
    h, w, d = sides
    return h, w, d


def _network(data_set: DataSet, shape: Shape, voxel: Triple, request: RecipeRequest) -> _Choice:
    """Choose the network's size and its window."""
    size = _size(data_set, request)
    edges = (_BIGGEST[size],) if request.on_cpu else _EDGES
    fitting = (_sized(size, data_set, _window(shape, voxel, edge**3), request) for edge in edges)
    network = next((n for n in fitting if step_bytes(n, 1) <= request.memory_bytes), None)
    if network is None:
        network = _sized(size, data_set, _window(shape, voxel, _LEAST**3), request)
    extent = "x".join(f"{w * v:.0f}" for w, v in zip(network.window, voxel, strict=True))
    asked = "as asked for" if request.size != "auto" else f"chosen for {request.device}"
    return _Choice(
        network,
        f"Size {size} ({asked}), patch {_PATCH}, windows of "
        f"{'x'.join(map(str, network.window))} voxels ({extent} mm) of volumes of "
        f"{'x'.join(map(str, shape))}: a training step needs about "
        f"{step_bytes(network, 1) / GIB:.2g} GiB of the {request.memory_bytes / GIB:.1f} free.",
    )


def _size(data_set: DataSet, request: RecipeRequest) -> str:
    """Name the size: what is asked for, small on a CPU, else by memory and cases."""
    if request.size != "auto":
        return request.size
    if request.on_cpu:
        return "small"
    for size in ("paper", "base"):
        needed = step_bytes(network_of(size, data_set, window=(96, 96, 96)), 2)
        enough = size == "base" or len(data_set.training) >= _MANY_CASES
        if enough and needed <= request.memory_bytes:
            return size
    return "small"


def _sized(size: str, data_set: DataSet, window: Shape, request: RecipeRequest) -> SCDConfig:
    low, high = _keep_range(request)
    keep_ratio = min(max(0.5, low), high)
    return network_of(
        size, data_set, window=window, keep_ratio=(keep_ratio,) * 3, perturbation="none"
    )


def _keep_range(request: RecipeRequest) -> tuple[float, float]:
    return request.keep_range or (0.1, 1.0)


def _crops(shape: Shape, window: Shape, pace: _Pace) -> int:
    """Cut one crop where a window is the whole volume: more would be the same."""
    whole = all(n <= w for n, w in zip(shape, window, strict=True))
    return 1 if whole else pace.crops


def _intensity(data: Fingerprint) -> _Choice:
    """Keep absolute values where they mean something."""
    if data.hounsfield:
        low, high = _hu_range(data)
        return _Choice(
            intensity_range(low, high),
            f"Intensities are Hounsfield units (CT), the same in every scan: {low:g} to {high:g} "
            f"HU, which the structures ({data.low:.0f} to {data.high:.0f} HU) leave room around, "
            "become -1 to 1, the rest is clipped.",
        )
    return _Choice(
        z_score(),
        "Intensities have no fixed scale (not CT): the non-zero voxels of each channel of a scan "
        "are scaled to mean 0 and spread 1, zeros stay zero.",
    )


def _hu_range(data: Fingerprint) -> tuple[float, float]:
    width = max(data.high - data.low, _NARROWEST_HU)
    low, high = data.low - _MARGIN * width, data.high + _MARGIN * width
    return float(math.floor(low)), float(math.ceil(high))


def _background(data: Fingerprint) -> float:
    return -1.0 if data.hounsfield else 0.0


def _gains(data: Fingerprint) -> tuple[dict[str, Any], ...]:
    """Vary intensities a little where scans differ in scale; zeros stay zero."""
    return () if data.hounsfield or data.cases == 1 else (random_gain(0.1, 0.3),)


def _mirrored(data: Fingerprint) -> _Choice:
    """Flip crops along the axes where a mirror image is as good."""
    if data.sided:
        return _Choice(
            (1, 2), "Crops are flipped front-back and top-bottom; class names tell left from right."
        )
    return _Choice((0, 1, 2), "Crops are flipped along every axis; no class names left or right.")


def _training(
    network: SCDConfig,
    plan: SamplingPlan,
    shape: Shape,
    data_set: DataSet,
    request: RecipeRequest,
    pace: _Pace,
) -> _Choice:
    volumes = min(pace.volumes, len(data_set.training))
    per_epoch = math.ceil(len(data_set.training) / volumes)
    steps = None if request.max_minutes else pace.steps
    if request.epochs:
        steps = request.epochs * per_epoch
    every = _validate_every(shape, plan, data_set, pace, volumes)
    training = TrainConfig(
        steps=steps,
        max_minutes=request.max_minutes,
        lr=min(pace.most_lr, round(pace.lr_by_width / network.embed_dim, 6)),
        warmup_steps=pace.warmup if steps is None else min(pace.warmup, -(-steps // 10)),
        batch_size=volumes,
        micro_batch=most_windows(network, volumes * plan.crops, request.memory_bytes),
        keep_range=_keep_range(request),
        ema_decay=pace.ema_decay,
        checkpoint_every=pace.checkpoint_every,
        **validation_pace(every, steps, request.max_minutes),
    )
    return _Choice(training, _said(training, plan, request))


def _validate_every(
    shape: Shape, plan: SamplingPlan, data_set: DataSet, pace: _Pace, volumes: int
) -> int:
    """Choose the steps between validations so that they take about a tenth of the time.

    A window that is segmented takes about half as long as one that is trained on.
    """
    cases = len(data_set.validation) or 1
    segmented = cases * _count(shape, plan.window, pace)
    return max(100, round(10 * 0.5 * segmented / (volumes * plan.crops)))


def _said(training: TrainConfig, plan: SamplingPlan, request: RecipeRequest) -> str:
    until = [
        f"{training.steps} steps" if training.steps else "",
        f"{training.max_minutes:g} minutes" if training.max_minutes else "",
    ]
    length = " or ".join(text for text in until if text)
    default = "" if request.epochs or request.max_minutes else " (give epochs or minutes to change)"
    return (
        f"{length}{default}, {_windows_text(training.batch_size * plan.crops)} a step, step size "
        f"{training.lr:g} falling to 0; two thirds of the windows are centred on a class, each as "
        f"often; {said_of_validation(training)}."
    )


def _mm(spacing: Triple) -> str:
    return f"{'x'.join(f'{s:.3g}' for s in spacing)} mm"


def _windows_text(windows: int) -> str:
    return "1 window" if windows == 1 else f"{windows} windows"
