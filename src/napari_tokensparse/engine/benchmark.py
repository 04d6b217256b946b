"""What networks cost: multiply-accumulates, counted without a weight; and seconds of previews."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from napari_tokensparse.engine.preview import PreviewSession
    from napari_tokensparse.model.config import SCDConfig

PRESETS = ("btcv", "brats", "small")
KEEP_RATIOS = (0.1, 0.25, 0.5, 0.75, 1.0)
TOTAL = "total"
FULL, UPDATE = "full", "update"
ROUNDS = 7
PARTS = {
    "patch embedding": r"encoder\.patch_embed",
    "blocks": r"encoder\.blocks\.\d+",
    "pruning": r"encoder\.stages\.\d+\.predictor",
    "completion": r"completion",
    "decoder": r"decoder(\.skips\.0)?",
}
"""Parts of a network, and the names of the modules that do them."""


@dataclass(frozen=True)
class Cost:
    """GMACs of one part of a network (or its total) for one window.

    Attributes
    ----------
    preset, variant
        Name of the sizes; ``scd`` or the ``dense`` baseline without completion.
    keep_ratio
        Per stage, in (0, 1].
    part
        ``total`` or one of `PARTS`.
    gmacs
        Billions of multiply-accumulate operations.
    """

    preset: str
    variant: str
    keep_ratio: float
    part: str
    gmacs: float


@dataclass(frozen=True)
class Timing:
    """What one window of a live preview takes.

    Attributes
    ----------
    part
        ``full``, the whole window with its labels; ``update``, when another keep ratio was seen
        before, so that only what depends on it is redone.
    keep_ratio
        Per stage, in (0, 1].
    seconds
        Median.
    gmacs
        Billions of multiply-accumulate operations.
    threads
        That torch computes with.
    """

    part: str
    keep_ratio: float
    seconds: float
    gmacs: float
    threads: int


def costs(presets: tuple[str, ...] = PRESETS) -> list[Cost]:
    """Count every preset at every keep ratio, and the dense baseline of each."""
    rows = []
    for name in presets:
        sparse = preset(name)
        dense = preset(name, prune_after=(), keep_ratio=(), completion="none")
        for keep_ratio in KEEP_RATIOS:
            rows += _rows(name, "scd", keep_ratio, gmacs(sparse, keep_ratio))
        rows += _rows(name, "dense", 1.0, gmacs(dense, 1.0))
    return rows


def gmacs(config: SCDConfig, keep_ratio: float) -> dict[str, float]:
    """Count the GMACs of one window, in total and per part.

    Counted by torch's flop counter with plain attention, two operations to one
    multiply-accumulate: convolutions and matrix products only.

    Parameters
    ----------
    config
        The network; it is built on the meta device, so no memory is taken.
    keep_ratio
        Per stage, in (0, 1].
    """
    model, image = _weightless(config)
    with _counting() as counter:
        model(image, keep_ratio)
    by_module = {name: sum(n.values()) for name, n in counter.get_flop_counts().items()}
    found = {
        part: sum(n for name, n in by_module.items() if re.fullmatch(rf"SCD\.{where}", name)) / 2e9
        for part, where in PARTS.items()
    }
    return {TOTAL: counter.get_total_flops() / 2e9, **found}


def update_gmacs(config: SCDConfig, keep_ratio: float) -> float:
    """Count the GMACs of a window that are redone for another keep ratio; as `gmacs`."""
    model, image = _weightless(config)
    with torch.no_grad():
        begun = model.begin(image)
    with _counting() as counter:
        model.finish(begun, keep_ratio)
    return counter.get_total_flops() / 2e9


def preview_timings(session: PreviewSession, rounds: int = ROUNDS) -> list[Timing]:
    """Time a live preview's window, whole and updated, at every keep ratio.

    The parts and ratios take turns, so that other work on the machine slows all of them alike; a
    first round warms up and does not count.
    """
    seconds: dict[tuple[str, float], list[float]] = {}
    for _ in range(rounds + 1):
        for keep_ratio in KEEP_RATIOS:
            session.restart()
            for part in (FULL, UPDATE):
                taken = session.update(keep_ratio).seconds
                seconds.setdefault((part, keep_ratio), []).append(taken)
    config = session.model.config
    counted = {
        (part, ratio): gmacs(config, ratio)[TOTAL] if part == FULL else update_gmacs(config, ratio)
        for part, ratio in seconds
    }
    return [
        Timing(*key, median(values[1:]), counted[key], torch.get_num_threads())
        for key, values in seconds.items()
    ]


def _weightless(config: SCDConfig) -> tuple[SCD, Tensor]:
    with torch.device("meta"):
        return SCD(config).eval(), torch.empty(1, config.in_channels, *config.window)


@contextmanager
def _counting() -> Iterator[FlopCounterMode]:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        yield counter


def _rows(name: str, variant: str, keep_ratio: float, found: dict[str, float]) -> list[Cost]:
    return [Cost(name, variant, keep_ratio, part, value) for part, value in found.items()]
