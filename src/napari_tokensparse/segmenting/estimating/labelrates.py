"""How fast labels and probabilities are made of logits on this machine."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import one_hot

from napari_tokensparse.segmenting.estimating.timing import two_rates
from napari_tokensparse.segmenting.inputgrid import InputGrid
from napari_tokensparse.segmenting.probabilities import ProbabilityGrid
from napari_tokensparse.segmenting.sharpening import Contests, sharpen
from napari_tokensparse.segmenting.stitch import Rows
from napari_tokensparse.segmenting.windowing import label_rule
from napari_tokensparse.volumes.preprocess import AxisMap
from napari_tokensparse.volumes.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from torch import Tensor

    from napari_tokensparse.model.config import SCDConfig
    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.segmenting.estimating.timing import Line, Stopwatch

_BLOCK = 16  # voxels: edge of a structure
_SURE = 10.0  # nats between its class and the others: those contend at its border alone
_BEHIND = (2.0, 3.0, 4.0)  # nats to the next classes, where several contend everywhere


def labelling(
    config: SCDConfig, info: ModelInfo, watch: Stopwatch
) -> Generator[None, None, tuple[Line, Line]]:
    """Time the labels of a window on its own grid, and on one of half the voxel size.

    Returned are the rates ``label`` and ``sharpen``. The latter is what it takes more where several
    classes contend everywhere: all of it is interpolated, noted and sharpened.
    """
    generator = np.random.default_rng(0)
    sure, unsure = _blocks(config), _blocks(config, _BEHIND)
    points: list[Line] = []
    amounts: list[Line] = []
    plain, extra = [], []
    for finer in (1, 2):
        size = (config.in_channels, *(finer * n for n in config.window[::-1]))
        grey = generator.integers(1, 200, size, np.int16).transpose(0, 3, 2, 1)
        job = partial(_label, info=info, finer=finer, volume=Volume(grey, np.eye(4), "phantom"))
        voxels = math.prod(config.window)
        points.append((voxels, voxels * finer**3))
        plain.append(watch.usual(partial(job, sure)))
        yield
        if info.exclusive:
            amounts.append((1.0, float(max(1, job(unsure, sharpened=True)))))
            sharpened = watch.usual(partial(job, unsure, sharpened=True))
            extra.append(max(0.0, sharpened - plain[-1]))
            yield
    return two_rates(points, plain), two_rates(amounts, extra) if extra else (0.0, 0.0)


def mapping(config: SCDConfig, info: ModelInfo, watch: Stopwatch) -> float:
    """Time the winner's probability of a window, on a grid of half the voxel size."""
    rows, finer = _blocks(config, _BEHIND), 2
    h, w, d = (finer * n for n in config.window)
    first, second, third = (AxisMap(axis, 1 / finer, 0.0) for axis in range(3))
    axes, extents = (first, second, third), [(0, n) for n in config.window]

    def fill() -> None:
        kept = ProbabilityGrid((h, w, d), axes, extents, exclusive=info.exclusive, confidence=True)
        kept.add(rows)

    return watch.usual(fill) / (h * w * d * config.out_channels)


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


def _blocks(config: SCDConfig, behind: Sequence[float] = ()) -> Rows:
    """Make logits of structures amid background: cubes, each of another class.

    The next classes lie so many nats behind in the structures, and all others further.
    """
    generator = torch.Generator().manual_seed(0)
    few = [-(-n // _BLOCK) for n in config.window]
    classes: Tensor = torch.randint(config.out_channels, few, generator=generator)
    for axis, n in enumerate(config.window):
        classes = classes.repeat_interleave(_BLOCK, dim=axis).narrow(axis, 0, n)
    inside = torch.zeros_like(classes, dtype=torch.bool)
    inside[tuple(slice(n // 4, n - n // 4) for n in config.window)] = True
    best = one_hot(classes * inside, config.out_channels).float()
    sums = _SURE * (best - 0.5)
    for number, nats in enumerate(behind[: config.out_channels - 1], start=1):
        sums += (_SURE - nats) * best.roll(number, dims=-1) * inside[..., None]
    return Rows(sums, torch.ones(config.window))
