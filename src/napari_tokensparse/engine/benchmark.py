"""What networks cost, in multiply-accumulate operations, without allocating a weight."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD

if TYPE_CHECKING:
    from napari_tokensparse.model.config import SCDConfig

PRESETS = ("btcv", "brats", "small")
KEEP_RATIOS = (0.1, 0.25, 0.5, 0.75, 1.0)
TOTAL = "total"
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
    with torch.device("meta"):
        model = SCD(config).eval()
        image = torch.empty(1, config.in_channels, *config.window)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model(image, keep_ratio)
    by_module = {name: sum(n.values()) for name, n in counter.get_flop_counts().items()}
    found = {
        part: sum(n for name, n in by_module.items() if re.fullmatch(rf"SCD\.{where}", name)) / 2e9
        for part, where in PARTS.items()
    }
    return {TOTAL: counter.get_total_flops() / 2e9, **found}


def _rows(name: str, variant: str, keep_ratio: float, found: dict[str, float]) -> list[Cost]:
    return [Cost(name, variant, keep_ratio, part, value) for part, value in found.items()]
