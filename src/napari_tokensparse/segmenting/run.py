"""One volume on its way through a network, window by window."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

import torch

from napari_tokensparse.compute.batching import windows_at_once
from napari_tokensparse.compute.shortage import shortage_of
from napari_tokensparse.model.controls import control_scores
from napari_tokensparse.model.crop import content_box
from napari_tokensparse.model.noise import keyed_generator
from napari_tokensparse.model.ratios import live_counts
from napari_tokensparse.segmenting.certainty import leave_out_unsure
from napari_tokensparse.segmenting.inputgrid import InputGrid
from napari_tokensparse.segmenting.pins import of_window, pins_of
from napari_tokensparse.segmenting.probabilities import ProbabilityGrid
from napari_tokensparse.segmenting.result import (
    Progress,
    Segmentation,
    SegmentError,
    Stats,
)
from napari_tokensparse.segmenting.sharpening import Contests, sharpen
from napari_tokensparse.segmenting.stitch import Stitcher, frame_of
from napari_tokensparse.segmenting.tokenmaps import TokenMapBuilder
from napari_tokensparse.segmenting.windowing import label_rule, windowed
from napari_tokensparse.volumes.background import with_zero_background
from napari_tokensparse.volumes.region import windows_over

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from napari_tokensparse.compute.backends.base import Backend
    from napari_tokensparse.model.controls import Scorer
    from napari_tokensparse.model.crop import TokenBox
    from napari_tokensparse.model.scd import SCDOutput
    from napari_tokensparse.segmenting.options import Options
    from napari_tokensparse.segmenting.stitch import Frame, Rows
    from napari_tokensparse.volumes.preprocess import AxisMap
    from napari_tokensparse.volumes.volume import Volume
    from napari_tokensparse.volumes.windows import Shape


class WindowRun:
    """One volume on its way through a model, as the options say."""

    def __init__(self, volume: Volume, backend: Backend, options: Options) -> None:
        self._volume, self._backend, self._options = volume, backend, options
        self._model, self._region = backend.network, options.box(volume)
        self._info = info = self._model.info
        self._device = next(self._model.parameters()).device
        config = self._model.config
        self._windowed = windowed(volume, config, info, self._overlap())
        self._grid, self._axes = self._windowed.grid, self._windowed.axes
        self._starts, self._skipped, self._at_once = self._chosen_windows()
        self._boxes = {start: self._box(start) for _, start in self._starts}
        self._pins = pins_of(options, self._grid.tokens)
        self._live: dict[Shape, tuple[int, ...]] = {}
        frame = self._frame()
        self._stitcher = Stitcher(self._grid, config.out_channels, info.blending, frame)
        self._tokens = TokenMapBuilder(self._grid, config.stages)
        self._contests = Contests(config.out_channels) if options.sharpen else None
        axes, extents = self._windowed.within(frame)
        rule = label_rule(info)
        self._out = InputGrid(volume.shape, axes, extents, rule, self._region, self._contests)
        self._likely = self._probabilities(axes, extents)
        self._rows_at_once = config.window[0]
        self._computed = 0
        self.notes = list(self._windowed.notes)
        self._sharpened, self._left_out = False, 0
        self.seconds = {"preprocess": 0.0, "network": 0.0, "stitch": 0.0}

    @property
    def count(self) -> int:
        """How many windows are run."""
        return len(self._starts)

    def windows(self) -> Iterator[None]:
        """Run all windows: yields once before the first and after each."""
        yield
        while self._computed < len(self._starts):
            windows = self._starts[self._computed :][: self._at_once]
            out = self._network_or_less(windows)
            if out is None:
                continue
            self._computed += len(windows)
            for row, (_, start) in enumerate(windows):
                self._stitch(start, out, row)
                yield
        self._release(self._grid.padded[0])
        if self._contests is not None:
            self._sharpen(self._contests)
        self._leave_out_unsure()

    def progress(self, done: int) -> Progress:
        """Say how far the run is."""
        total = len(self._starts)
        spent = self.seconds["network"] + self.seconds["stitch"]
        left = spent / self._computed * (total - done) if self._computed else None
        return Progress(done, total, left)

    def result(self, total_seconds: float) -> Segmentation:
        """Gather the result of a finished run."""
        tokens = self._tokens.finish(self._windowed.places(self._volume.shape))
        tokens = replace(tokens, pins=self._pins)
        if self._region is not None:
            tokens = tokens.within(self._region)
        config, options = self._model.config, self._options
        ratios = options.keep_ratio
        boxes = [self._boxes[start] for _, start in self._starts]
        looked_at = tuple(config.grid if box is None else box.size for box in boxes)
        stats = Stats(
            windows=len(self._starts),
            skipped=self._skipped,
            keep_ratios=ratios,
            importance=self._options.importance,
            tokens_per_stage=max(
                self._live.values(), default=live_counts(math.prod(config.grid), ratios)
            ),
            tokens=tokens.counts(),
            seconds={**self.seconds, "total": total_seconds},
            backend=self._backend.name,
            notes=(*self._backend.notes, *self._backend.late_notes, *self.notes),
            sharpened=self._sharpened,
            left_out=self._left_out,
            looked_at=looked_at,
        )
        likely = self._likely
        return Segmentation(
            self._out.labels,
            tokens,
            stats,
            self._out.regions,
            self._region,
            likely.confidence if likely is not None and options.confidence else None,
            {} if likely is None else dict(zip(options.probabilities, likely.classes, strict=True)),
        )

    def _probabilities(
        self, axes: tuple[AxisMap, AxisMap, AxisMap], extents: Sequence[tuple[int, int]]
    ) -> ProbabilityGrid | None:
        """Make what gathers the probabilities that are asked for; None if none is."""
        options, info = self._options, self._info
        if not options.maps:
            return None
        return ProbabilityGrid(
            self._volume.shape,
            axes,
            extents,
            exclusive=info.exclusive,
            channels=info.channels_of(options.probabilities),
            confidence=options.asks_confidence,
            box=self._region,
        )

    def _overlap(self) -> float:
        asked = self._options.overlap
        return self._info.overlap if asked is None else asked

    def _chosen_windows(self) -> tuple[list[tuple[int, Shape]], int, int]:
        """Choose the windows to run, numbered as in a run of all.

        Returned with how many others are background, and how many are run at once: as many as in a
        run of all, for the last digits of logits depend on it.
        """
        region, every = self._region, self._grid.starts
        run = [start for start in every if self._windowed.is_foreground(start)]
        at_once = 1
        if not self._options.windows_differ:
            at_once = windows_at_once(self._model.config, len(run), self._device)
        if region is None:
            return list(enumerate(run)), len(every) - len(run), at_once
        reach = windows_over(region, self._axes, self._grid, run)
        chosen = [pair for pair, reaches in zip(enumerate(run), reach, strict=True) if reaches]
        skipped = sum(windows_over(region, self._axes, self._grid, every)) - len(chosen)
        return chosen, skipped, at_once

    def _box(self, start: Shape) -> TokenBox | None:
        """Return what the network looks at of a window, or None for all of it."""
        return content_box(self._grid.cut(self._windowed.image, start)[None], self._model.config)

    def _frame(self) -> Frame | None:
        """Return what is stitched and labelled; None for all of the volume."""
        if self._model.config.crop_value is None:
            return None
        return frame_of(self._grid, self._boxes.items(), self._model.around)

    def _network_or_less(self, windows: Sequence[tuple[int, Shape]]) -> SCDOutput | None:
        """Run windows; None if memory ran out and another try, with less, may do.

        Raises
        ------
        SegmentError
            Memory ran out, and there is nothing more to save.
        """
        out: list[SCDOutput] = []
        lacking = shortage_of(lambda: out.append(self._network(windows)), self._device)
        if lacking is None:
            return out[0]
        if self._at_once > 1:
            self._at_once = -(-self._at_once // 2)
            self.notes.append(f"memory ran out: {self._at_once} windows at once from there on")
        elif self._device.type == "cpu" and self._moved_to_disk():
            self.notes.append("memory ran out: windows were stitched on disk from there on")
        else:
            raise SegmentError(
                f"{self._volume.name}: memory ran out on {self._device} at window "
                f"{self._computed + 1} of {len(self._starts)} ({lacking}); close other programs, "
                "or take a model of smaller windows, or another device"
            )
        return None

    def _moved_to_disk(self) -> bool:
        try:
            return self._stitcher.move_to_disk()
        except OSError:  # full too
            return False

    def _network(self, windows: Sequence[tuple[int, Shape]]) -> SCDOutput:
        """Run windows at once; where there are too few, the last is run again to fill up."""
        began = time.perf_counter()
        filled = [*windows, *[windows[-1]] * (self._at_once - len(windows))]
        cut = [self._grid.cut(self._windowed.image, start) for _, start in filled]
        with torch.inference_mode():
            out = self._forward(torch.stack(cut).to(self._device), filled)
            out = replace(out, inside=out.inside.cpu())
        self.seconds["network"] += time.perf_counter() - began
        return out

    def _forward(self, windows: Tensor, chosen: Sequence[tuple[int, Shape]]) -> SCDOutput:
        return self._backend(
            windows,
            self._options.rule,
            token_scores=self._control_scores(windows, [number for number, _ in chosen]),
            skip_blocks=self._options.ablate == "encoder",
            box=self._boxes[chosen[0][1]],  # where there is one, windows go one at a time
            # So they do where tokens are pinned.
            pins=of_window(self._pins, self._grid, chosen[0][1], self._device),
        )

    def _control_scores(self, windows: Tensor, numbers: Sequence[int]) -> Tensor | None:
        options = self._options
        if options.scorer == "learned":
            return None
        scores = [
            control_scores(
                cast("Scorer", options.scorer),  # it was checked
                window[None],
                self._model.config.patch_size,
                self._info.background,
                keyed_generator(options.seed, number),
            )
            for number, window in zip(numbers, windows, strict=True)
        ]
        return torch.cat([each for each in scores if each is not None])

    def _stitch(self, start: Shape, out: SCDOutput, row: int) -> None:
        self._release(start[0])
        began = time.perf_counter()
        self._live[start] = tuple(s.shape[1] for s in (*out.trace.scores, out.trace.kept))
        self._stitcher.add(start, out.inside[row], out.box)
        self._tokens.add(start, out.trace, row)
        self.seconds["stitch"] += time.perf_counter() - began

    def _release(self, until: int) -> None:
        began = time.perf_counter()
        for rows in self._stitcher.release(until):
            self._label(rows)
        self.seconds["stitch"] += time.perf_counter() - began

    def _sharpen(self, contests: Contests) -> None:
        """Sharpen the labels; where memory runs out, they stay as they are from there on."""
        began = time.perf_counter()
        values, definitions = self._info.label_values, self._info.preprocessing

        def sharpened() -> None:
            seen, _ = with_zero_background(self._volume, definitions)  # as the network saw it
            sharpen(self._out.labels, contests, seen, values)

        lacking = shortage_of(sharpened, torch.device("cpu"))
        if lacking is not None:
            self.notes.append("memory ran out: not all borders were sharpened")
        self._sharpened = lacking is None
        self.seconds["sharpen"] = time.perf_counter() - began

    def _leave_out_unsure(self) -> None:
        """Leave out pieces that are nowhere as sure as asked."""
        least, likely = self._options.least_confidence, self._likely
        if not least:
            return
        began = time.perf_counter()
        if likely is None or likely.confidence is None:
            self.notes.append("memory ran out: unsure pieces were not left out")
            return
        self._left_out = n = leave_out_unsure(self._out.labels, likely.confidence, least)
        if n:
            pieces = "piece was" if n == 1 else "pieces were"
            self.notes.append(f"{n} {pieces} left out, nowhere as probable as {least:g}")
        self.seconds["stitch"] += time.perf_counter() - began

    def _keep_probabilities(self, rows: Rows) -> None:
        """Keep those of finished rows; where memory runs out there are none."""
        likely = self._likely
        if likely is None:
            return
        lacking = shortage_of(partial(likely.add, rows), torch.device("cpu"))
        if lacking is not None:
            self._likely = None
            self.notes.append("memory ran out: there are no probabilities")

    def _label(self, rows: Rows) -> None:
        """Label finished rows; from when memory runs out, fewer at once."""
        at = 0
        while at < len(rows):
            some = rows.part(at, at + self._rows_at_once)
            lacking = shortage_of(partial(self._out.add, some), torch.device("cpu"))
            if lacking is None:
                at += len(some)
                self._keep_probabilities(some)
            elif len(some) > 1:
                self._rows_at_once = len(some) // 2
            else:
                raise SegmentError(
                    f"{self._volume.name}: memory ran out where labels are made ({lacking}); "
                    "close other programs"
                )
