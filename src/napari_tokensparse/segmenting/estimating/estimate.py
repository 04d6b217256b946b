"""Before a run: how long it will take, how much memory, and whether there is as much."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_tokensparse.compute.backends.base import PLAIN
from napari_tokensparse.compute.batching import network_bytes, windows_at_once
from napari_tokensparse.compute.shortage import free_mb
from napari_tokensparse.segmenting.estimating.outline import outline
from napari_tokensparse.segmenting.estimating.rates import (
    calibrating,
    pairs_seen,
    share_seen,
    value_of,
)
from napari_tokensparse.segmenting.estimating.timing import Stopwatch
from napari_tokensparse.segmenting.infer import check_fit
from napari_tokensparse.segmenting.looks import is_head, looks_of
from napari_tokensparse.segmenting.options import options_for
from napari_tokensparse.segmenting.sharpening import NOTED_BYTES
from napari_tokensparse.segmenting.stripping import known_brain, seen_by_stripper, stripper_of
from napari_tokensparse.segmenting.windowing import label_rule
from napari_tokensparse.volumes.preprocess import first_dtype
from napari_tokensparse.volumes.volume import is_lazy

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari_tokensparse.model.config import SCDConfig
    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.segmenting.estimating.outline import Outline
    from napari_tokensparse.segmenting.estimating.rates import Rates
    from napari_tokensparse.segmenting.options import Options
    from napari_tokensparse.volumes.region import Box
    from napari_tokensparse.volumes.volume import Volume

_FLOAT, _DOUBLE = 4, 8  # bytes
_RESAMPLING = 8 * _DOUBLE  # bytes a voxel: where it comes from, as MONAI writes it down
_LABELLING = 4  # bytes a voxel of the input: codes on their way to it
_ONCE = 20_000_000  # bytes: what is made once in a process
_ROWS = 2**20  # voxels of the model's grid that are labelled at once
_CONTESTED = 1.0  # of the voxels that are not background, as the bundled model has it at 1 mm
_SPREAD = 1.3  # times as short or as long as estimated a run may be on a free machine
_LOADED = 2.0  # times as slow: where what else goes on may as well end, or double, meanwhile
_LOOKS = 3  # at how busy the machine is; the middle one counts, for a window may hold one up
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Room:
    """Memory that a run takes at its peak, and that is free.

    Attributes
    ----------
    device
        Whose memory is scarcer: the network's device, or ``cpu``.
    peak_mb
        What the run takes there, in 10⁶ bytes, beside the volume and the loaded model.
    free_mb
        What is free there now.
    """

    device: str
    peak_mb: float
    free_mb: float

    @property
    def is_enough(self) -> bool:
        """Whether the run fits."""
        return self.peak_mb <= self.free_mb

    def lacking(self, name: str) -> str:
        """Say in one line that a volume's run does not fit, and what to do."""
        return (
            f"{name}: this run takes about {self.peak_mb:,.0f} MB of memory on {self.device}, and "
            f"{self.free_mb:,.0f} MB are free: close other programs, or choose a region, another "
            "device or a model of smaller windows"
        )


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes
    ----------
    seconds
        From preprocessing to labels, the model loaded and as much else going on as now.
    windows
        That are run.
    room
        The memory.
    at_most
        Whether it may be less: how many tokens are important enough, or how much of a head is
        brain, is only known afterwards.
    slowdown
        How many times as long as on a free machine that is, for something else goes on.
    """

    seconds: float
    windows: int
    room: Room
    at_most: bool = False
    slowdown: float = 1.0

    @property
    def span(self) -> tuple[float, float]:
        """Seconds from and to: how sharp a network's borders are is only known afterwards.

        The busier the machine, the wider apart: what else goes on may end or begin.
        """
        spread = _SPREAD ** min(self.slowdown, _LOADED)
        return self.seconds / spread, self.seconds * spread

    @property
    def time(self) -> str:
        """Say how long it takes in a few words, the ends rounded outwards."""
        low, high = self.span
        unit, of = ("s", 1) if high < 120 else ("min", 60)
        first, last = max(1, int(low / of)), math.ceil(high / of)
        if self.at_most:
            return f"At most about {last} {unit}"
        return f"About {last} {unit}" if first == last else f"About {first} to {last} {unit}"

    def __str__(self) -> str:
        """Say it in a few words."""
        room = self.room
        return (
            f"{self.time} and {room.peak_mb:,.0f} MB of memory on "
            f"{room.device}, of {room.free_mb:,.0f} free: "
            f"{self.windows} window{'s' * (self.windows != 1)}"
        )


def room(volume: Volume, model: SCD, region: Box | None = None, maps: int = 0) -> Room:
    """Return the memory that a run takes; nothing is measured.

    Parameters
    ----------
    volume, model, region
        As `segment` takes them; the model on its device.
    maps
        How many maps of probabilities are kept.

    Raises
    ------
    SegmentError, VolumeError, PreprocessError
        The model cannot segment the volume; one plain line says why.
    """
    info = check_fit(volume, model)
    return _room(volume, model, info, outline(volume, model.config, info, region), maps)


def estimating(
    volume: Volume,
    model: SCD,
    options: Options,
    watch: Stopwatch | None = None,
) -> Generator[None, None, Estimate]:
    """Return what a run will take; yields now and then while the machine is measured.

    Parameters
    ----------
    volume, model, options
        As `segmenting` takes them; the model on its device.
    watch
        Gives the seconds that are counted; a new one if none is given.
    """
    watch = watch or Stopwatch()
    info = check_fit(volume, model)
    volume = (known_brain(volume, model) if options.strip else None) or volume
    is_unknown_head = options.strip and is_head(looks_of(volume), info)
    if is_unknown_head:
        stripper_of(model)  # one that is not here is named before anything is measured
    box = options.box(volume)
    seen = held = outline(volume, model.config, info, box)
    if is_unknown_head and box is None:
        held = outline(_brain_sized(volume, info), model.config, info)
    yield
    rates = yield from calibrating(model, options.backend, options.precision, watch)
    free = free_seconds(volume, model, options, held, rates)
    if is_unknown_head:
        free += yield from _stripping_seconds(volume, model, rates, watch)
    slowdown = median(watch.slowdown() for _ in range(_LOOKS))
    info = info.model_copy(update={"sharpen": options.sharpen})
    return Estimate(
        free * rates.learned(slowdown) * slowdown,
        held.windows,
        _room(volume, model, info, seen, options.maps),
        at_most=bool(options.importance) or is_unknown_head,
        slowdown=slowdown,
    )


def estimate(
    volume: Volume,
    model: SCD,
    keep_ratio: float | Sequence[float] | None = None,
    *,
    region: Box | None = None,
    backend: str = "auto",
    sharpen: bool | None = None,
) -> Estimate:
    """Return what a run will take; the machine is measured first if need be.

    Parameters
    ----------
    volume, model, keep_ratio, region, backend, sharpen
        As `segment` takes them; the model on its device.

    Raises
    ------
    SegmentError, VolumeError, PreprocessError, ValueError
        The model cannot segment the volume so; one plain line says why.

    Examples
    --------
    >>> estimate(volume, model, 0.5).seconds  # doctest: +SKIP
    """
    options = options_for(model, keep_ratio, region=region, backend=backend, sharpen=sharpen)
    return value_of(estimating(volume, model, options))


def free_seconds(
    volume: Volume, model: SCD, options: Options, seen: Outline, rates: Rates
) -> float:
    """Return what a run takes by what was measured, if nothing else goes on."""
    config = model.config
    at_once = windows_at_once(config, seen.windows, _device(model))
    filled = -seen.windows % at_once  # so many windows are run again to fill the last pass
    shares = (*seen.looked_at, *seen.looked_at[-1:] * filled)
    network = _network_seconds(rates, shares, config, options.most_kept)
    maps = config.out_channels + len(options.probabilities) if options.maps else 0
    likely = rates.likely * maps * seen.covered * seen.inside
    return network + likely + _other_seconds(volume, seen, rates, options.sharpen)


def _brain_sized(volume: Volume, info: ModelInfo) -> Volume:
    """Cut the middle out of a head: the box of a ball as large as a brain may be for a model."""
    assert info.foreground_ml is not None  # else nothing tells a head
    edge_mm = math.cbrt(6 / math.pi * info.foreground_ml[1] * 1000)
    spans = []
    for n, mm in zip(volume.shape, volume.spacing, strict=True):
        count = min(n, math.ceil(edge_mm / mm))
        spans.append(slice((n - count) // 2, (n + count) // 2))
    return replace(volume, array=volume.array[(slice(None), *spans)], header=None, slices=())


def _stripping_seconds(
    volume: Volume, model: SCD, rates: Rates, watch: Stopwatch
) -> Generator[None, None, float]:
    """Return what it takes to strip a head, if nothing else goes on; `rates` are the model's."""
    stripper = stripper_of(model)
    config = stripper.config
    if stripper is not model:
        rates = yield from calibrating(stripper, PLAIN, watch=watch)
    seen = outline(seen_by_stripper(volume, model), config, stripper.info)
    return _network_seconds(rates, seen.looked_at, config, config.keep_ratio)


def _network_seconds(
    rates: Rates, looked_at: Sequence[float], config: SCDConfig, keep_ratios: Sequence[float]
) -> float:
    """Return what the windows take of which such shares are looked at."""
    every, seen, pairs = rates.network
    whole = every + seen * share_seen(config, keep_ratios)
    squares = sum(share**2 for share in looked_at)
    return whole * sum(looked_at) + pairs * pairs_seen(config, keep_ratios) * squares


def _other_seconds(volume: Volume, seen: Outline, rates: Rates, sharpened: bool) -> float:
    model_voxels = math.prod(seen.grid.shape)
    contested = _CONTESTED * seen.filled
    once, each = rates.sharpen if sharpened else (0.0, 0.0)
    amounts = (
        (rates.stitch, sum(seen.looked_at)),
        (rates.label[0], model_voxels * seen.inside),
        (rates.label[1], seen.covered * seen.inside),
        (each, contested),
        (rates.prepare[0], volume.array.size),
        (rates.prepare[1], model_voxels * len(volume.array)),
    )
    return rates.start + once + sum(rate * amount for rate, amount in amounts)


def _room(volume: Volume, model: SCD, info: ModelInfo, seen: Outline, maps: int) -> Room:
    """Return the scarcer of the memory of the device and of this machine's own."""
    config, device = model.config, _device(model)
    at_once = windows_at_once(config, seen.windows, device)
    network, mapped = network_bytes(config, at_once), maps * math.prod(volume.shape)

    def held(more: int) -> float:
        return (_host_bytes(volume, config, info, seen, more) + mapped) / 1e6

    if device.type == "cpu":
        return Room("cpu", held(network), free_mb(device))
    logits = _FLOAT * at_once * config.out_channels * math.prod(config.window)
    host = Room("cpu", held(logits), free_mb(_CPU))
    there = Room(str(device), network / 1e6, free_mb(device))
    return max(host, there, key=lambda each: each.peak_mb / max(each.free_mb, 1.0))


def _host_bytes(
    volume: Volume, config: SCDConfig, info: ModelInfo, seen: Outline, network: int
) -> int:
    """Return the peak of this machine's memory: before the first window, or from then on."""
    kept = _kept_bytes(volume, config, info, seen)
    model_voxels = math.prod(seen.grid.shape)
    at_once = min(1.0, _ROWS / model_voxels)  # of all rows
    return _ONCE + max(
        _preparing_bytes(volume, info, seen),
        kept + max(network, int(at_once * _LABELLING * seen.voxels)),
    )


def _preparing_bytes(volume: Volume, info: ModelInfo, seen: Outline) -> int:
    """Return what is needed until the volume lies on the model's grid."""
    channels, model_voxels = len(volume.array), math.prod(seen.grid.shape)
    placed = 0 if is_lazy(volume.array) else np.dtype(first_dtype(info.preprocessing)).itemsize
    made = _FLOAT * channels * (seen.grid.padded != seen.grid.shape)
    if any(each["_target_"] == "Spacingd" for each in info.preprocessing):
        made = _RESAMPLING + _DOUBLE * channels
    return placed * volume.array.size + made * model_voxels


def _kept_bytes(volume: Volume, config: SCDConfig, info: ModelInfo, seen: Outline) -> int:
    """Return what is held from the first window to the last: image, sums, labels."""
    grid, rule = seen.grid, label_rule(info)
    image = _FLOAT * len(volume.array) * math.prod(grid.padded)
    labels = (rule.dtype.itemsize + rule.regions) * math.prod(volume.shape)
    labels += NOTED_BYTES * seen.voxels if info.sharpen else 0
    if len(grid.starts) == 1:
        return image + labels
    row, window = math.prod(grid.padded[1:]), math.prod(config.window)
    sums = _FLOAT * (config.out_channels + 1) * (config.window[0] * row + window)
    return image + labels + sums


def _device(model: SCD) -> torch.device:
    return next(model.parameters()).device
