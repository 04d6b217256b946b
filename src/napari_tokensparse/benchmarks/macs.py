"""What networks cost in multiply-accumulates, counted without a weight."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from napari_tokensparse.benchmarks.networks import (
    KEEP_RATIOS,
    PRESETS,
    SCD_VARIANT,
    dense_of,
    has_dense,
    unetr_of,
)
from napari_tokensparse.benchmarks.parts import SCD_PARTS, UNETR_PARTS
from napari_tokensparse.benchmarks.report import DENSE, TOTAL, Row
from napari_tokensparse.model.crop import corner_box
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from napari_tokensparse.model.config import SCDConfig
    from napari_tokensparse.model.crop import Grid

MACS = "macs"
_OPERATIONS = 2e9  # of a billion multiply-accumulates


def costs(
    presets: Sequence[str] = PRESETS, keep_ratios: Sequence[float] = KEEP_RATIOS
) -> list[Row]:
    """Count every preset at every keep ratio, and the dense baseline of each."""
    rows = []
    for name in presets:
        config = preset(name)
        for keep_ratio in keep_ratios:
            rows += _rows(name, SCD_VARIANT, keep_ratio, gmacs(config, keep_ratio))
        if has_dense(name):
            rows += _rows(name, DENSE, 1.0, gmacs(dense_of(config), 1.0))
    return rows


def gmacs(config: SCDConfig, keep_ratio: float, looked_at: Grid | None = None) -> dict[str, float]:
    """Count the GMACs of one window, in total and per part.

    Counted by torch's flop counter with plain attention, two operations to one
    multiply-accumulate: convolutions and matrix products only.

    Parameters
    ----------
    config
        The network; it is built on the meta device, so no memory is taken.
    keep_ratio
        Per stage, in (0, 1].
    looked_at
        Tokens along each axis of what a network that crops its windows looks at; a full window if
        not given.
    """
    return dict(_counted(config, keep_ratio, looked_at))


# Sweeps and volumes meet the same sizes again and again, and a count takes a third of a second.
@lru_cache(maxsize=1024)
def _counted(config: SCDConfig, keep_ratio: float, looked_at: Grid | None) -> dict[str, float]:
    model, image = _weightless(config)
    with _counting() as counter:
        model(image, keep_ratio, box=corner_box(config, looked_at))
    return _by_part(counter, model, SCD_PARTS)


def volume_gmacs(config: SCDConfig, keep_ratio: float, looked_at: Iterable[Grid]) -> float:
    """Count the GMACs of windows of which so much was looked at; as `gmacs`."""
    sizes = Counter(looked_at)
    return sum(n * gmacs(config, keep_ratio, size)[TOTAL] for size, n in sizes.items())


@lru_cache(maxsize=1024)
def update_gmacs(config: SCDConfig, keep_ratio: float, looked_at: Grid | None = None) -> float:
    """Count the GMACs of a window that are redone for another keep ratio; as `gmacs`."""
    model, image = _weightless(config)
    with torch.no_grad():
        begun = model.begin(image, box=corner_box(config, looked_at))
    with _counting() as counter:
        model.finish(begun, keep_ratio)
    return counter.get_total_flops() / _OPERATIONS


@lru_cache(maxsize=1024)
def step_gmacs(config: SCDConfig, keep_ratio: float) -> float:
    """Count the GMACs of one window forward and backward; as `gmacs`."""
    model, image = _weightless(config)
    model.train()
    with _counting(backward=True) as counter:
        model(image, keep_ratio).logits.sum().backward()
    return counter.get_total_flops() / _OPERATIONS


def unetr_gmacs(config: SCDConfig) -> dict[str, float]:
    """Count the GMACs of one window of MONAI's UNETR of the same sizes; as `gmacs`."""
    with torch.device("meta"):
        model = unetr_of(config).eval()
        image = torch.empty(1, config.in_channels, *config.window)
    with _counting() as counter:
        model(image)
    return _by_part(counter, model, UNETR_PARTS)


def _weightless(config: SCDConfig) -> tuple[SCD, Tensor]:
    with torch.device("meta"):
        return SCD(config).eval(), torch.empty(1, config.in_channels, *config.window)


@contextmanager
def _counting(backward: bool = False) -> Iterator[FlopCounterMode]:
    counter = FlopCounterMode(display=False)
    gradients = nullcontext() if backward else torch.no_grad()
    with gradients, sdpa_kernel(SDPBackend.MATH), counter:
        yield counter


def _by_part(
    counter: FlopCounterMode, model: nn.Module, parts: Mapping[str, str]
) -> dict[str, float]:
    root = re.escape(type(model).__name__)
    by_module = {name: sum(n.values()) for name, n in counter.get_flop_counts().items()}
    by_part = {
        part: sum(n for name, n in by_module.items() if re.fullmatch(rf"{root}\.({where})", name))
        / _OPERATIONS
        for part, where in parts.items()
    }
    return {TOTAL: counter.get_total_flops() / _OPERATIONS, **by_part}


def _rows(name: str, variant: str, keep_ratio: float, by_part: Mapping[str, float]) -> list[Row]:
    return [
        Row(MACS, part, name, variant, keep_ratio=keep_ratio, gmacs=value)
        for part, value in by_part.items()
    ]
