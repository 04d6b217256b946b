"""How fast labels and probabilities are made of logits on this machine."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import one_hot

from napari_tokensparse.segmenting.contests import Contests
from napari_tokensparse.segmenting.estimating.timing import two_rates, usual
from napari_tokensparse.segmenting.inputgrid import InputGrid
from napari_tokensparse.segmenting.probabilities import ProbabilityGrid
from napari_tokensparse.segmenting.sharpening import sharpen
from napari_tokensparse.segmenting.stitch import Rows
from napari_tokensparse.segmenting.windowing import label_rule
from napari_tokensparse.volumes.preprocess import AxisMap
from napari_tokensparse.volumes.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import Tensor

    from napari_tokensparse.model.config import SCDConfig
    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.segmenting.estimating.timing import Clock, Line

_BLOCK = 16  # voxels: edge of a structure
_INSIDE = 1 / 8  # of a window holds structures
_SURE = 10.0  # nats between its class and the others: those contend at its border alone
_UNSURE = 2.0  # nats to the next class, where two contend everywhere


def labelling(
    config: SCDConfig, info: ModelInfo, clock: Clock
) -> Generator[None, None, tuple[Line, float, Line]]:
    """Time the labels of a window on its own grid, and on one of half the voxel size.

    Returned are the rates ``label``, ``unsure`` and ``sharpen``. Where two classes contend
    everywhere, all of it is interpolated, noted and sharpened.
    """
    generator = np.random.default_rng(0)
    sure, unsure = _blocks(config, 2 * _SURE), _blocks(config, _UNSURE)
    points: list[Line] = []
    plain, soft, sharpened = [], [], []
    noted = [0, 0]
    for number, finer in enumerate((1, 2)):
        size = (config.in_channels, *(finer * n for n in config.window[::-1]))
        grey = generator.integers(1, 200, size, np.int16).transpose(0, 3, 2, 1)
        job = partial(_label, info=info, finer=finer, volume=Volume(grey, np.eye(4), "phantom"))
        plain.append(usual(partial(job, sure), clock))
        soft.append(usual(partial(job, unsure), clock))
        yield
        if info.exclusive:
            noted[number] = job(unsure, sharpened=True)
            sharpened.append(usual(partial(job, unsure, sharpened=True), clock))
            yield
        voxels = math.prod(config.window)
        points.append((voxels, voxels * finer**3))
    more = max(0.0, soft[1] - plain[1]) / (math.prod(config.window) * 2**3 * _INSIDE)
    if not info.exclusive:
        return two_rates(points, plain), more, (0.0, 0.0)
    extra = [max(0.0, all_of_it - part) for all_of_it, part in zip(sharpened, soft, strict=True)]
    amounts = [(1.0, float(max(1, count))) for count in noted]
    return two_rates(points, plain), more, two_rates(amounts, extra)


def mapping(config: SCDConfig, info: ModelInfo, clock: Clock) -> float:
    """Time the winner's probability of a window, on a grid of half the voxel size."""
    rows, finer = _blocks(config, _UNSURE), 2
    h, w, d = (finer * n for n in config.window)
    first, second, third = (AxisMap(axis, 1 / finer, 0.0) for axis in range(3))
    axes, extents = (first, second, third), [(0, n) for n in config.window]

    def fill() -> None:
        kept = ProbabilityGrid((h, w, d), axes, extents, exclusive=info.exclusive, confidence=True)
        kept.add(rows)

    return usual(fill, clock) / (h * w * d * config.out_channels)


def _label(rows: Rows, info: ModelInfo, finer: int, volume: Volume, sharpened: bool = False) -> int:
    """Label a volume whose voxels are so much smaller than the model's; count contested ones."""
    first, second, third = (AxisMap(axis, 1 / finer, 0.0) for axis in range(3))
    extents = [(0, n) for n in rows.weights.shape]
    contests = Contests(rows.sums.shape[-1]) if sharpened else None
    axes, rule = (first, second, third), label_rule(info)
    grid = InputGrid(volume.shape, axes, extents, rule, contests=contests)
    grid.add(rows)
    if contests is None:
        return 0
    sharpen(grid.labels, contests, volume, info.label_values)
    return len(contests)


def _blocks(config: SCDConfig, ahead: float) -> Rows:
    """Make logits of structures amid background: cubes, each of another class.

    Each lies so many nats ahead of the next class, and further ahead of all others.
    """
    generator = torch.Generator().manual_seed(0)
    few = [-(-n // _BLOCK) for n in config.window]
    classes: Tensor = torch.randint(config.out_channels, few, generator=generator)
    for axis, n in enumerate(config.window):
        classes = classes.repeat_interleave(_BLOCK, dim=axis).narrow(axis, 0, n)
    inside = torch.zeros_like(classes, dtype=torch.bool)
    inside[tuple(slice(n // 4, n - n // 4) for n in config.window)] = True
    best = one_hot(classes * inside, config.out_channels).float()
    second = best.roll(1, dims=-1) * inside[..., None]
    sums = _SURE * (best - 0.5) + max(0.0, _SURE - ahead) * second
    return Rows(sums, torch.ones(config.window))
