"""One volume on its way through a network, window by window."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_tokensparse.data.deformation import keyed_generator
from napari_tokensparse.data.region import windows_over
from napari_tokensparse.engine.inputgrid import InputGrid
from napari_tokensparse.engine.segmentation import Controls, Progress, Segmentation, Stats
from napari_tokensparse.engine.stitch import Stitcher
from napari_tokensparse.engine.tokenmaps import TokenMapBuilder
from napari_tokensparse.engine.windowing import label_rule, windowed
from napari_tokensparse.model.controls import control_scores
from napari_tokensparse.model.ratios import live_counts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from napari_tokensparse.data.region import Box
    from napari_tokensparse.data.volume import Volume
    from napari_tokensparse.data.windows import Shape
    from napari_tokensparse.engine.backends.base import Backend
    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.model.scd import SCDOutput


@dataclass(frozen=True)
class RunOptions:
    """Keep ratio per stage, overlap of windows, controls, the part of the volume."""

    ratios: tuple[float, ...]
    overlap: float
    controls: Controls
    region: Box | None


class WindowRun:
    """One volume on its way through a model."""

    def __init__(
        self,
        volume: Volume,
        backend: Backend,
        info: ModelInfo,
        options: RunOptions,
    ) -> None:
        self._volume, self._backend, self._info, self._options = volume, backend, info, options
        self._model = backend.network
        config = self._model.config
        self._windowed = windowed(volume, config, info, options.overlap)
        self._grid, self._axes = self._windowed.grid, self._windowed.axes
        self._starts, self._skipped = self._chosen_windows()
        self._stitcher = Stitcher(self._grid, config.out_channels, info.blending)
        self._tokens = TokenMapBuilder(self._grid, config.stages)
        self._out = InputGrid(
            volume.shape,
            self._axes,
            self._grid.extents,
            label_rule(info),
            options.region,
        )
        self.seconds = {"preprocess": 0.0, "network": 0.0, "stitch": 0.0}

    def windows(self) -> Iterator[None]:
        """Run all windows: yields once before the first and after each."""
        yield
        for number, start in self._starts:
            self._release(start[0])
            self._window(number, start)
            yield
        self._release(self._grid.padded[0])

    def progress(self, done: int) -> Progress:
        """Say how far the run is."""
        total = len(self._starts)
        spent = self.seconds["network"] + self.seconds["stitch"]
        return Progress(done, total, spent / done * (total - done) if done else None)

    def result(self, total_seconds: float) -> Segmentation:
        """Gather the result of a finished run."""
        tokens = self._tokens.finish(self._volume.shape, self._axes)
        region = self._options.region
        if region is not None:
            tokens = tokens.within(region)
        stats = Stats(
            windows=len(self._starts),
            skipped=self._skipped,
            keep_ratios=self._options.ratios,
            tokens_per_stage=live_counts(
                int(np.prod(self._model.config.grid)), self._options.ratios
            ),
            tokens=tokens.counts(),
            seconds={**self.seconds, "total": total_seconds},
            backend=self._backend.name,
            notes=self._backend.notes,
        )
        return Segmentation(self._out.labels, tokens, stats, self._out.regions, region)

    def _chosen_windows(self) -> tuple[list[tuple[int, Shape]], int]:
        """Return the windows to run, numbered as in a run of all, and how many are background."""
        region, every = self._options.region, self._grid.starts
        run = [start for start in every if self._windowed.is_foreground(start)]
        if region is None:
            return list(enumerate(run)), len(every) - len(run)
        reach = windows_over(region, self._axes, self._grid, run)
        chosen = [pair for pair, reaches in zip(enumerate(run), reach, strict=True) if reaches]
        return chosen, sum(windows_over(region, self._axes, self._grid, every)) - len(chosen)

    def _window(self, number: int, start: Shape) -> None:
        began = time.perf_counter()
        device = next(self._model.parameters()).device
        window = self._grid.cut(self._windowed.image, start)[None].to(device)
        with torch.inference_mode():
            out = self._forward(window, number)
            logits = out.logits[0].cpu()
        computed = time.perf_counter()
        self._stitcher.add(start, logits)
        self._tokens.add(start, out.trace)
        self.seconds["network"] += computed - began
        self.seconds["stitch"] += time.perf_counter() - computed

    def _forward(self, window: Tensor, number: int) -> SCDOutput:
        controls, config = self._options.controls, self._model.config
        scores = control_scores(
            controls.scorer,
            window,
            config.patch_size,
            self._info.background,
            keyed_generator(controls.seed, number),
        )
        return self._backend(
            window,
            self._options.ratios,
            token_scores=scores,
            skip_blocks=controls.ablate_encoder,
        )

    def _release(self, until: int) -> None:
        began = time.perf_counter()
        for rows in self._stitcher.release(until):
            self._out.add(rows)
        self.seconds["stitch"] += time.perf_counter() - began
