"""Multiply-accumulates of runs of a sweep."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from napari_tokensparse.model.crop import corner_box
from napari_tokensparse.model.ratios import Share

if TYPE_CHECKING:
    from napari_tokensparse.inspecting.runs import SettingRun
    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.volumes.windows import Shape


class Costs:
    """Counts the multiply-accumulates of runs, as ``tokensparse bench --macs`` does."""

    def __init__(self, model: SCD) -> None:
        self._weightless = deepcopy(model).to("meta")
        self._known: dict[tuple[tuple[float, ...], Shape], float] = {}

    def gmacs(self, run: SettingRun) -> float:
        """Count the billions of multiply-accumulates of all windows of a run.

        By importance windows differ: the mean share of each stage is counted then.
        """
        stats = run.segmentation.stats
        return sum(self._window(stats.kept_shares, size) for size in stats.looked_at)

    def _window(self, keep_ratio: tuple[float, ...], looked_at: Shape) -> float:
        if (keep_ratio, looked_at) not in self._known:
            config, counter = self._weightless.config, FlopCounterMode(display=False)
            image = torch.empty(1, config.in_channels, *config.window, device="meta")
            with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
                self._weightless(image, Share(keep_ratio), box=corner_box(config, looked_at))
            self._known[keep_ratio, looked_at] = counter.get_total_flops() / 2e9
        return self._known[keep_ratio, looked_at]
