"""How fast this machine is: measured once for a network, a device and a number of threads.

What a run does is measured part by part, on the real objects with made-up values, and kept in the
user's cache until something that it depends on changes.
"""

from __future__ import annotations

import hashlib
import math
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, ValidationError

from napari_tokensparse.common.cache import cache_folder
from napari_tokensparse.common.files import written_whole
from napari_tokensparse.compute.allocation import kept_memory
from napari_tokensparse.compute.backends.choice import make_backend
from napari_tokensparse.compute.batching import windows_at_once
from napari_tokensparse.compute.machine import describe_machine
from napari_tokensparse.model.crop import corner_box
from napari_tokensparse.model.ratios import live_counts
from napari_tokensparse.segmenting.estimating.labelrates import labelling, mapping
from napari_tokensparse.segmenting.estimating.timing import Stopwatch, rates_of, two_rates
from napari_tokensparse.segmenting.stitch import Stitcher
from napari_tokensparse.segmenting.tokenmaps import TokenMapBuilder
from napari_tokensparse.segmenting.windowing import windowed
from napari_tokensparse.volumes.volume import Volume, check_finite
from napari_tokensparse.volumes.windows import window_grid

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from napari_tokensparse.compute.backends.base import Backend
    from napari_tokensparse.model.config import SCDConfig
    from napari_tokensparse.model.crop import Grid, TokenBox
    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.model.scd import SCD, SCDOutput
    from napari_tokensparse.segmenting.estimating.timing import Line
    from napari_tokensparse.segmenting.options import Options


T = TypeVar("T")

_FORM = 5  # of what is kept: to be counted up when something else is measured
_KEEP_RATIOS = (1.0, 0.1)
_PART = 0.75  # of each side of a window that is cropped, as a brain's may be
_MANY = 10**6
_PHANTOM = 192**3  # voxels of all channels: as doubles they are too many for the heap, as a scan's
_FINER = (1.5, 3.0)  # than the model's grid: their voxels
_BUSY, _FREE = 1.5, 1.25  # times as slow: what was measured then, on a machine that is so now
_KEPT, _LATEST = 9, 3  # runs, and of those like the next one, of which the middle one counts
_ALIKE = 1.5  # times as busy: machines that are alike
_ODD = 4.0  # times as long or as short as told: the machine slept, or something stood still


class Rates(BaseModel):
    """What parts of a run take, in seconds, if nothing else goes on.

    Attributes
    ----------
    start : float
        What the first windows of a process take more than later ones: memory is fetched from the
        system, and some things are made once.
    network : tuple of float
        One window: what all its tokens cost, what the share of them costs that its blocks see
        (`share_seen`), and what their pairs cost in attention, by the same share squared. The last
        is counted apart for networks that crop their windows: of a share ``s`` of a window the
        first two are ``s`` times as much, the pairs ``s`` squared times.
    stitch : float
        One window, of which all was looked at.
    label : tuple of float
        One voxel of the model's grid, and one of the input's.
    sharpen : tuple of float
        Where labels are sharpened: once, and one voxel of the input at which classes contend; 0 of
        regions that overlap.
    likely : float
        Where probabilities are kept: one voxel of the input, for each of the network's classes and
        each map.
    prepare : tuple of float
        One voxel of a channel of the input, and one of the model's grid.
    busy : float
        How many times as long it took when it was measured, for something else went on then.
    runs : tuple of tuple of float
        The latest runs, the last one at the end: how many times as long as on a free machine work
        took meanwhile, and how many times as long as told by that and these rates the run took.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: NonNegativeFloat
    network: tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat]
    stitch: NonNegativeFloat
    label: tuple[NonNegativeFloat, NonNegativeFloat]
    sharpen: tuple[NonNegativeFloat, NonNegativeFloat]
    likely: NonNegativeFloat
    prepare: tuple[NonNegativeFloat, NonNegativeFloat]
    busy: NonNegativeFloat = 1.0
    runs: tuple[tuple[NonNegativeFloat, NonNegativeFloat], ...] = ()

    def learned(self, slowdown: float) -> float:
        """Return how many times as long as told a run takes, as runs on such a machine have shown.

        What slows a product of matrices slows other work more or less: what was learned on a busy
        machine holds on a busy machine.
        """
        like = [times for met, times in self.runs if 1 / _ALIKE <= met / slowdown <= _ALIKE]
        return median(like[-_LATEST:]) if like else 1.0

    def with_run(self, slowdown: float, times: float) -> Rates:
        """Return them with one more run, by how much work was slowed and how long it took."""
        run = (slowdown, min(_ODD, max(1 / _ODD, times)))
        return self.model_copy(update={"runs": (*self.runs, run)[-_KEPT:]})


def value_of(steps: Generator[None, None, T]) -> T:
    """Take all steps and return what they come to."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            value: T = end.value
            return value


def calibrating(
    model: SCD,
    backend: str = "auto",
    precision: str = "auto",
    watch: Stopwatch | None = None,
) -> Generator[None, None, Rates]:
    """Return the rates of this machine; yields between parts of a measurement, if there is one.

    They are kept for a network's sizes and preprocessing, a device, a backend, a number of threads,
    a processor and the versions of torch and of this package. What was measured on a busy machine
    is measured again when the machine is free.

    Parameters
    ----------
    model, backend, precision
        As `segment` takes them; the model on its device.
    watch
        Gives seconds; a new one if none is given.
    """
    watch = watch or Stopwatch()
    made = make_backend(model, backend, precision)
    kept = _kept(made)
    if kept is not None and (kept.busy < _BUSY or watch.slowdown() > _FREE):
        return kept
    rates = yield from measuring(made, watch)
    _keep(made, rates)
    return rates


def learn(
    model: SCD, options: Options, told: Callable[[Rates], float], took: float, slowdown: float
) -> None:
    """Learn from a run how long the next one of its network takes; nothing before a measurement.

    Parameters
    ----------
    model, options
        What was run, and how.
    told
        Returns what such a run takes by rates, in seconds.
    took
        What it took.
    slowdown
        How many times as long as on a free machine work took meanwhile.
    """
    made = make_backend(model, options.backend, options.precision)
    rates = _kept(made)
    seconds = 0.0 if rates is None else told(rates)
    if rates is not None and seconds > 0:
        _keep(made, rates.with_run(slowdown, took / slowdown / seconds))


def _kept(backend: Backend) -> Rates | None:
    """Return the rates that are kept; None if there are none."""
    try:
        return Rates.model_validate_json(_file(backend).read_bytes())
    except (OSError, ValidationError):
        return None  # it is not there, or no longer what it was


def _keep(backend: Backend, rates: Rates) -> None:
    file = _file(backend)
    with suppress(OSError):  # a cache that cannot be written to is none
        file.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(file) as part:
            part.write_text(rates.model_dump_json(), encoding="utf-8")


def _file(backend: Backend) -> Path:
    return cache_folder("calibration") / f"{_key(backend)}.json"


def measuring(backend: Backend, watch: Stopwatch) -> Generator[None, None, Rates]:
    """Measure the parts of a run, one after the other; yields between them.

    Parameters
    ----------
    backend
        A network that is ready to be run.
    watch
        Gives seconds.
    """
    network = backend.network
    config, info = network.config, network.info
    passes = {ratio: _Pass(backend, ratio) for ratio in _KEEP_RATIOS}
    pruned = passes[min(passes)]
    with kept_memory():
        first = watch.timed(pruned)
        yield
        seconds = {ratio: watch.usual(each) for ratio, each in passes.items()}
        yield
        shares = _network(backend, seconds, pruned.windows, watch)
        yield
        stitch = _stitching(config, info, pruned(), watch)
        label, sharpen = yield from labelling(config, info, watch)
    return Rates(
        start=max(0.0, first - seconds[min(passes)]),
        network=shares,
        stitch=stitch,
        label=label,
        sharpen=sharpen,
        likely=mapping(config, info, watch),
        prepare=_preparing(config, info, watch),
        busy=watch.busy,
    )


def share_seen(config: SCDConfig, keep_ratios: Sequence[float]) -> float:
    """Return the share of tokens that a block of the encoder sees, on average.

    Examples
    --------
    >>> from napari_tokensparse.model.presets import preset
    >>> share_seen(preset("btcv"), (0.5, 0.5, 0.5))  # after blocks 2, 5 and 8 of 12
    0.46875
    """
    return _mean_power(config, keep_ratios, 1)


def pairs_seen(config: SCDConfig, keep_ratios: Sequence[float]) -> float:
    """Return the share of all pairs of tokens that a block of the encoder sees, on average."""
    return _mean_power(config, keep_ratios, 2)


def _mean_power(config: SCDConfig, keep_ratios: Sequence[float], power: int) -> float:
    """Average a power of the share of tokens alive over the encoder's blocks."""
    live = live_counts(math.prod(config.grid), keep_ratios)
    ends = [-1, *config.prune_after, config.depth - 1]
    blocks = [last - before for before, last in pairwise(ends)]
    shares = [(count / live[0]) ** power for count in live]
    return sum(n * share for n, share in zip(blocks, shares, strict=True)) / config.depth


def _network(
    backend: Backend, whole: dict[float, float], windows: int, watch: Stopwatch
) -> tuple[float, float, float]:
    """Split the seconds of passes into the parts of `Rates`.

    Parameters
    ----------
    backend
        What was timed.
    whole
        Seconds of a pass of full windows, by keep ratio.
    windows
        In a pass.
    watch
        Gives seconds.
    """
    config = backend.network.config
    timed = [(1.0, ratio, seconds / windows) for ratio, seconds in whole.items()]
    if config.crop_value is not None:
        some = corner_box(config, _part_of(config.grid))
        share = math.prod(some.size) / math.prod(config.grid)
        timed += [(share, r, watch.usual(_Pass(backend, r, some))) for r in whole]
    kinds = 2 if config.crop_value is None else 3
    amounts = [_amounts(config, share, ratio)[:kinds] for share, ratio, _ in timed]
    every, seen, *pairs = rates_of(amounts, [seconds for _, _, seconds in timed])
    return every, seen, sum(pairs)


def _amounts(config: SCDConfig, share: float, keep_ratio: float) -> tuple[float, ...]:
    """Return what there is to do of a share of a window, as `Rates` counts it."""
    ratios = (keep_ratio,) * config.stages
    return share, share * share_seen(config, ratios), share**2 * pairs_seen(config, ratios)


def _part_of(grid: Grid) -> Grid:
    h, w, d = (max(1, round(_PART * n)) for n in grid)
    return h, w, d


def _key(backend: Backend) -> str:
    model = backend.network
    said = {
        **describe_machine(),
        "form": _FORM,
        "backend": backend.name,
        "device": _device_name(model),
        "network": model.config.model_dump(),
        "preprocessing": model.info.preprocessing,
        "exclusive": model.info.exclusive,
    }
    said.pop("memory_gb")
    return hashlib.sha256(repr(sorted(said.items())).encode()).hexdigest()


def _device_name(model: SCD) -> str:
    device = next(model.parameters()).device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


class _Pass:
    """A pass of noise through a network, as a run of many windows makes it.

    Parameters
    ----------
    backend
        Runs the network.
    keep_ratio
        Of every stage.
    box
        What of a window is looked at: all of it, if not given.
    """

    def __init__(self, backend: Backend, keep_ratio: float, box: TokenBox | None = None) -> None:
        config = backend.network.config
        self._backend, self._keep_ratio, self._box = backend, keep_ratio, box
        self._device = next(backend.network.parameters()).device
        self.windows = windows_at_once(config, _MANY, self._device)
        generator = torch.Generator().manual_seed(0)
        size = (self.windows, config.in_channels, *config.window)
        self._noise = torch.randn(size, generator=generator)

    def __call__(self) -> SCDOutput:
        """Run it; the logits come back from a GPU, which waits for it."""
        out = self._backend(self._noise.to(self._device), self._keep_ratio, box=self._box)
        return replace(out, inside=out.inside.cpu())


def _stitching(config: SCDConfig, info: ModelInfo, out: SCDOutput, watch: Stopwatch) -> float:
    """Time what is done with a window's logits and tokens."""
    larger = [3 * n // 2 for n in config.window]
    grid = window_grid(larger, config.window, config.patch_size, 0.5)
    stitcher = Stitcher(grid, config.out_channels, info.blending)
    tokens, logits = TokenMapBuilder(grid, config.stages), out.inside[0]

    def add() -> None:
        stitcher.add(grid.starts[-1], logits)
        tokens.add(grid.starts[-1], out.trace)

    return watch.usual(add)


def _preparing(config: SCDConfig, info: ModelInfo, watch: Stopwatch) -> Line:
    """Time what is done before the first window, of two volumes with other voxel sizes."""
    points, seconds = [], []
    for finer in _FINER:
        volume = _phantom(config, info, finer)
        seconds.append(watch.usual(partial(_prepare, volume, config, info)))
        points.append((volume.array.size, _prepare(volume, config, info)))
    return two_rates(points, seconds)


def _prepare(volume: Volume, config: SCDConfig, info: ModelInfo) -> int:
    """Do what comes before the first window; return how many values the model will see."""
    check_finite(volume.array, volume.name)
    prepared = windowed(volume, config, info, info.overlap)
    assert prepared.foreground.ndim == 3  # it is made when it is asked for
    return len(volume.array) * math.prod(prepared.grid.shape)


def _phantom(config: SCDConfig, info: ModelInfo, finer: float) -> Volume:
    """Make a volume whose voxels are so much smaller than the model's, and lie as in a file."""
    sides = np.ones(3)
    for definition in info.preprocessing:
        if definition["_target_"] == "Spacingd":
            given = np.atleast_1d(definition["pixdim"])
            sides[: len(given)] = given
    affine = np.diag([*(sides / finer), 1.0])
    edge = round(math.cbrt(_PHANTOM / config.in_channels))
    shape = (config.in_channels, edge, edge, edge)
    grey = np.random.default_rng(0).integers(1, 200, shape, np.int16)
    return Volume(grey.transpose(0, 3, 2, 1), affine, "phantom")
