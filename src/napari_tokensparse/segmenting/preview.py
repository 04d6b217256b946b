"""Segment one window of a volume again and again, at other keep ratios, as fast as can be."""

from __future__ import annotations

import math
import time
import weakref
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_tokensparse.compute.allocation import kept_memory
from napari_tokensparse.model.ratios import Importance, Share, rule_of
from napari_tokensparse.segmenting.agreement import agreement
from napari_tokensparse.segmenting.certainty import leave_out_unsure
from napari_tokensparse.segmenting.infer import SegmentError, check_fit
from napari_tokensparse.segmenting.pins import of_window
from napari_tokensparse.segmenting.probabilities import FULL
from napari_tokensparse.segmenting.stripping import brain_of
from napari_tokensparse.segmenting.windowing import decision, label_dtype, windowed
from napari_tokensparse.volumes.region import Box

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike, NDArray
    from torch import Tensor

    from napari_tokensparse.model.encoder import TokenTrace
    from napari_tokensparse.model.ratios import Rule
    from napari_tokensparse.model.scd import SCD, Begun, SCDOutput
    from napari_tokensparse.segmenting.tokenmaps import TokenPlaces
    from napari_tokensparse.volumes.volume import Volume
    from napari_tokensparse.volumes.windows import Shape


@dataclass(frozen=True, eq=False)
class Preview:
    """One window at one choice of keep ratios.

    Attributes
    ----------
    labels
        ``(i, j, k)`` of the box, the model's label values. They are decided on the model's grid,
        and a voxel takes those of the nearest model voxel; a whole run interpolates logits and
        averages windows, so at borders and where windows overlap it may differ.
    box
        The window on the input's grid.
    trace
        Which tokens each stage pruned; None where the window is background alone, which is not run.
    keep_ratios
        Per stage: of the tokens that reached it, the share that it kept.
    seconds
        Time that the update took.
    agreement
        Share of the labelled voxels that have the label of keep ratio 1.0; None where that is not
        known.
    importance
        The least importance of what was kept; None where shares were.
    """

    labels: NDArray[np.unsignedinteger]
    box: Box
    trace: TokenTrace | None
    keep_ratios: tuple[float, ...]
    seconds: float
    agreement: float | None = None
    importance: float | None = None

    @property
    def live(self) -> tuple[int, ...]:
        """Tokens of the window before the first stage and after each; none of background alone."""
        if self.trace is None:
            return ()
        return (*(n.shape[1] for n in self.trace.scores), self.trace.kept.shape[1])


class PreviewSession:
    """A volume, a model and the window that is looked at.

    The volume is preprocessed once, and what of a forward pass does not depend on the keep ratio is
    run once for each window.

    Parameters
    ----------
    volume
        The input.
    model
        On the device to run on.
    voxel
        Where to look, on the input's grid; its middle if not given.

    Raises
    ------
    VolumeError, SegmentError, PreprocessError
        The model cannot segment the volume; one plain line says why.

    Examples
    --------
    >>> session = PreviewSession(volume, model, voxel=(90, 110, 80))  # doctest: +SKIP
    >>> session.update(0.25).labels  # doctest: +SKIP
    """

    def __init__(self, volume: Volume, model: SCD, voxel: Sequence[float] | None = None) -> None:
        info = check_fit(volume, model)
        self.volume, self.model = volume, model
        seen = brain_of(volume, model) if info.strip else volume
        self._windowed = windowed(seen, model.config, info, info.overlap)
        self._decide, self._dtype = decision(info), label_dtype(info)
        self._begun: Begun | None = None
        self._reference: NDArray[np.unsignedinteger] | None = None
        memory = ExitStack()  # for as long as the session lives
        memory.enter_context(kept_memory())
        weakref.finalize(self, memory.close)
        self.start = self.window_at([n / 2 for n in volume.shape] if voxel is None else voxel)

    def window_at(self, voxel: Sequence[float]) -> Shape:
        """Return the start of the window whose centre is nearest, as in a run of the volume."""
        grid = self._windowed.grid
        start = [0, 0, 0]
        for axis, at in zip(self._windowed.axes, voxel, strict=True):
            starts = np.asarray(grid.axis_starts[axis.axis])
            centres = starts + (grid.window[axis.axis] - 1) / 2
            start[axis.axis] = int(
                starts[np.abs(centres - (axis.slope * at + axis.start)).argmin()]
            )
        return start[0], start[1], start[2]

    def move_to(self, voxel: Sequence[float]) -> None:
        """Look at the window nearest a voxel of the input's grid."""
        start = self.window_at(voxel)
        if start != self.start:
            self.start, self._begun, self._reference = start, None, None

    @property
    def looked_at(self) -> Shape:
        """Tokens along each axis of what the network looks at of the window."""
        box = None if self._begun is None else self._begun.box
        return self.model.config.grid if box is None else box.size

    @property
    def is_foreground(self) -> bool:
        """Whether the window holds anything but background, which is not run."""
        return self._windowed.is_foreground(self.start)

    @property
    def tokens(self) -> int:
        """How many tokens the network looks at of the window."""
        if self.is_foreground:
            self._begin()
        return math.prod(self.looked_at)

    def reference(self) -> NDArray[np.unsignedinteger]:
        """Return the labels of the window without pruning; updates are compared with it then."""
        if self._reference is None:
            self._reference = self.update(1.0).labels
        return self._reference

    def restart(self) -> None:
        """Forget what is begun, so that the next update runs the whole window."""
        self._begun = None

    def update(
        self,
        keep_ratio: float | Sequence[float] | Rule | None = None,
        pins: NDArray[np.int8] | None = None,
    ) -> Preview:
        """Segment the window.

        Parameters
        ----------
        keep_ratio
            One number or one per stage, in (0, 1], or another rule; the model's default if not
            given.
        pins
            ``(gh, gw, gd)`` of the volume's tokens (`TokenPlaces`): 1 keeps, -1 drops, 0 neither.

        Raises
        ------
        ValueError
            A keep ratio is out of range, or there are not as many as stages.
        """
        began, config = time.perf_counter(), self.model.config
        rule = rule_of(config.keep_ratio if keep_ratio is None else keep_ratio, config.stages)
        ratios = rule.ratios if isinstance(rule, Share) else (1.0,) * config.stages
        least = self.model.info.least_confidence
        labels, trace = torch.zeros(config.window, dtype=torch.int32), None
        sure = torch.full(config.window, FULL, dtype=torch.uint8)
        if self.is_foreground:
            out = self.run(rule, pins)
            ratios = rule.ratios if isinstance(rule, Share) else _shares(out.trace)
            inside = slice(None) if out.box is None else out.box.voxels
            logits = out.inside[0].cpu()
            labels[inside], trace = self._decide(logits), out.trace
            if least:
                sure[inside] = logits.softmax(dim=0).amax(dim=0).mul(FULL).round().byte()
        shown, box = self._on_input_grid(labels, self._dtype)
        if least:
            leave_out_unsure(shown, self._on_input_grid(sure, np.uint8)[0], least)
        seconds, same = time.perf_counter() - began, self._reference
        agrees = None if same is None else agreement(shown, same)
        importance = rule.least if isinstance(rule, Importance) else None
        return Preview(shown, box, trace, ratios, seconds, agrees, importance)

    @property
    def places(self) -> TokenPlaces:
        """Where the volume's voxels lie on its token grid."""
        return self._windowed.places(self.volume.shape)

    def run(
        self, rule: tuple[float, ...] | Rule, pins: NDArray[np.int8] | None = None
    ) -> SCDOutput:
        """Finish the forward pass of the window: logits and ids are those of a whole run.

        Where that runs several small windows at once, the last digits may differ.
        """
        with torch.inference_mode():
            device = next(self.model.parameters()).device
            fixed = of_window(pins, self._windowed.grid, self.start, device)
            return self.model.finish(self._begin(), rule, fixed)

    def _begin(self) -> Begun:
        """Run what does not depend on keep ratios, once for each window."""
        with torch.inference_mode():
            if self._begun is None:
                window = self._windowed.grid.cut(self._windowed.image, self.start)[None]
                device = next(self.model.parameters()).device
                self._begun = self.model.begin(window.to(device))
            return self._begun

    def _on_input_grid(
        self, values: Tensor, dtype: DTypeLike
    ) -> tuple[NDArray[np.unsignedinteger], Box]:
        """Give each voxel of the input that the window covers what its nearest model voxel has."""
        axes = self._windowed.axes
        i, j, k = (self._covered(axis) for axis in range(3))
        shown = values.numpy().astype(dtype)
        for where, (_, nearest) in zip(axes, (i, j, k), strict=True):
            shown = shown.take(nearest, axis=where.axis)
        box = Box((i[0].start, j[0].start, k[0].start), (i[0].stop, j[0].stop, k[0].stop))
        return shown.transpose([where.axis for where in axes]), box

    def _covered(self, axis: int) -> tuple[slice, NDArray[np.int64]]:
        """Return which voxels of an input axis the window covers, and the model voxel of each."""
        where, grid = self._windowed.axes[axis], self._windowed.grid
        start, (first, end) = self.start[where.axis], grid.extents[where.axis]
        stop = min(end, start + grid.window[where.axis])
        nearest = np.floor(where.coordinates(self.volume.shape[axis]) + 0.5).astype(np.int64)
        inside = np.flatnonzero((nearest >= max(first, start)) & (nearest < stop))
        if not len(inside):
            raise SegmentError(f"{self.volume.name}: no voxel lies in this window; look elsewhere")
        return slice(int(inside[0]), int(inside[-1]) + 1), nearest[inside] - start


def _shares(trace: TokenTrace) -> tuple[float, ...]:
    """Return which share of the tokens that reached it each stage kept."""
    live = [*(scores.shape[1] for scores in trace.scores), trace.kept.shape[1]]
    return tuple(after / max(before, 1) for before, after in pairwise(live))
