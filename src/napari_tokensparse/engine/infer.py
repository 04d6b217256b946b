"""Segment a volume: a generator of frozen events, window by window."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_tokensparse.data.deformation import keyed_generator
from napari_tokensparse.data.region import windows_over
from napari_tokensparse.data.volume import Volume, check_finite, read_volume
from napari_tokensparse.engine.stitch import InputGrid, Stitcher
from napari_tokensparse.engine.tokenmaps import TokenMapBuilder, TokenMaps
from napari_tokensparse.engine.windowing import decision, label_dtype, windowed
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.controls import SCORERS, Scorer, control_scores
from napari_tokensparse.model.ratios import keep_ratios, live_counts
from napari_tokensparse.model.scd import SCD, SCDOutput

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_tokensparse.data.region import Box
    from napari_tokensparse.data.windows import Shape
    from napari_tokensparse.model.info import ModelInfo


class SegmentError(ValueError):
    """A volume that a model cannot segment; one plain line says why."""


@dataclass(frozen=True)
class Controls:
    """What a learned pruning is compared with, on the same weights.

    Attributes
    ----------
    scorer
        What tokens are pruned by: ``learned``, the model's own scores; ``random``, ``intensity``
        or ``foreground``.
    ablate_encoder
        Whether the encoder's blocks are left out: do the tokens matter at all?
    seed
        Key of the random scores, with the window's number.

    Raises
    ------
    SegmentError
        There is no such scorer.
    """

    scorer: Scorer = "learned"
    ablate_encoder: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse an unknown scorer before any window is run."""
        if self.scorer not in SCORERS:
            raise SegmentError(f"scorer {self.scorer!r}: choose one of {', '.join(SCORERS)}")


@dataclass(frozen=True)
class Stats:
    """Figures of one run.

    Attributes
    ----------
    windows, skipped
        Windows run, and windows of pure background that were not; of a region, those over it.
    keep_ratios
        Per stage.
    tokens_per_stage
        Tokens of one window alive at the start and after each stage.
    tokens
        Tokens of the volume: processed, pruned at each stage, kept.
    seconds
        Per part: ``preprocess``, ``network``, ``stitch`` and ``total``.
    """

    windows: int
    skipped: int
    keep_ratios: tuple[float, ...]
    tokens_per_stage: tuple[int, ...]
    tokens: dict[str, int]
    seconds: dict[str, float]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Result of segmenting one volume.

    Attributes
    ----------
    labels
        ``(i, j, k)`` unsigned, on the input's own grid; the model's label values, 0 background.
    tokens
        Importance per stage and pruned-at.
    stats
        Windows, tokens, seconds.
    regions
        ``(K, i, j, k)`` mask of every region where they may overlap, in the order of the model's
        classes; None where classes exclude one another.
    region
        The box that was segmented, or None for the whole volume. Outside it labels are 0 and tokens
        not processed.
    """

    labels: NDArray[np.unsignedinteger]
    tokens: TokenMaps
    stats: Stats
    regions: NDArray[np.bool_] | None = None
    region: Box | None = None


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` windows are segmented; ``seconds_left`` is an estimate or None."""

    done: int
    total: int
    seconds_left: float | None


def segment(
    source: str | os.PathLike[str] | Volume,
    model: SCD | str | os.PathLike[str] = "brain-structures",
    keep_ratio: float | Sequence[float] | None = None,
    *,
    device: str | torch.device | None = None,
    overlap: float | None = None,
    controls: Controls | None = None,
    region: Box | None = None,
) -> Segmentation:
    """Segment a volume.

    Parameters
    ----------
    source
        A NIfTI file, or a `Volume`.
    model
        A loaded model, or what `load_model` takes.
    keep_ratio
        Share of live tokens that each pruning stage keeps, in (0, 1]: one number or one per
        stage; the model's default if not given.
    device
        Where to run: the model's own device if not given.
    overlap
        Share of a window that the next one covers, in [0, 1); the model's if not given.
    controls
        Prune by something else than the model's scores, or leave its blocks out.
    region
        Run only the windows that reach into this box of the input's voxels; labels and tokens
        there are those of a run of the whole volume.

    Raises
    ------
    VolumeError, ModelError, SegmentError, ValueError
        In one plain line: the file, the model, the volume or an option cannot be used.

    Examples
    --------
    >>> result = segment("scan.nii.gz", keep_ratio=0.5)  # doctest: +SKIP
    >>> result.labels.shape, result.stats.tokens["kept"]  # doctest: +SKIP
    """
    volume = source if isinstance(source, Volume) else read_volume(source)
    network = model if isinstance(model, SCD) else load_model(model)
    for event in segmenting(
        volume,
        network,
        keep_ratio,
        device=device,
        overlap=overlap,
        controls=controls,
        region=region,
    ):
        if isinstance(event, Segmentation):
            return event
    raise AssertionError("the run ended without a result")


def segmenting(
    volume: Volume,
    model: SCD,
    keep_ratio: float | Sequence[float] | None = None,
    *,
    device: str | torch.device | None = None,
    overlap: float | None = None,
    controls: Controls | None = None,
    region: Box | None = None,
) -> Iterator[Progress | Segmentation]:
    """Segment a volume step by step; the parameters are those of `segment`.

    Yields
    ------
    Progress
        Before the first window and after each one. The caller may stop here.
    Segmentation
        Once, at the end.
    """
    started = time.perf_counter()
    info = check_fit(volume, model)
    ratios = keep_ratios(
        model.config.keep_ratio if keep_ratio is None else keep_ratio, model.config.stages
    )
    share = _checked_overlap(info.overlap if overlap is None else overlap)
    if region is not None:
        region.check(volume.shape, volume.name)
    placed = model if device is None else model.to(choose_device(str(device)))
    run = _Run(volume, placed, info, _Options(ratios, share, controls or Controls(), region))
    run.seconds["preprocess"] = time.perf_counter() - started
    for done, _ in enumerate(run.windows()):
        yield run.progress(done)
    yield run.result(time.perf_counter() - started)


def check_fit(volume: Volume, model: SCD) -> ModelInfo:
    """Check that a model can segment a volume, and return what the model says of itself.

    Raises
    ------
    SegmentError, VolumeError
        The model is in training mode or knows no preprocessing, the channels differ, or voxels
        are not finite.
    """
    if model.info is None:
        raise SegmentError(
            "this network has no ModelInfo, so its preprocessing is unknown: use load_model"
        )
    if model.training:
        raise SegmentError("the network is in training mode: call its eval() first")
    found, needed = len(volume.array), model.config.in_channels
    if found != needed:
        raise SegmentError(
            f"{volume.name}: has {found} channel{'s' * (found != 1)}; model {model.info.name} "
            f"takes {needed}: {', '.join(model.info.channels)}"
        )
    check_finite(volume.array, volume.name)
    return model.info


def choose_device(name: str = "auto") -> str:
    """Turn ``auto`` into the fastest device there is, and check any other name.

    Raises
    ------
    SegmentError
        There is no such device here; the line lists those there are.
    """
    devices = available_devices()
    if name == "auto":
        return devices[0]
    if name not in devices and f"{name}:0" not in devices:
        raise SegmentError(f"device {name!r}: this machine has {', '.join(devices)}")
    return name


def available_devices() -> list[str]:
    """Devices of this machine, the fastest first."""
    cuda = [f"cuda:{n}" for n in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return [*cuda, *mps, "cpu"]


@dataclass(frozen=True)
class _Options:
    """Keep ratio per stage, overlap of windows, controls, the part of the volume."""

    ratios: tuple[float, ...]
    overlap: float
    controls: Controls
    region: Box | None


class _Run:
    """One volume on its way through a model."""

    def __init__(
        self,
        volume: Volume,
        model: SCD,
        info: ModelInfo,
        options: _Options,
    ) -> None:
        self._volume, self._model, self._info, self._options = volume, model, info, options
        config = model.config
        self._windowed = windowed(volume, config, info, options.overlap)
        self._grid, self._axes = self._windowed.grid, self._windowed.axes
        self._starts, self._skipped = self._chosen_windows()
        self._stitcher = Stitcher(self._grid, config.out_channels, info.blending)
        self._tokens = TokenMapBuilder(self._grid, config.stages)
        self._out = InputGrid(
            volume.shape,
            self._axes,
            self._grid.extents,
            decision(info),
            label_dtype(info),
            0 if info.exclusive else config.out_channels,
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
        out: SCDOutput = self._model(
            window,
            self._options.ratios,
            token_scores=scores,
            skip_blocks=controls.ablate_encoder,
        )
        return out

    def _release(self, until: int) -> None:
        began = time.perf_counter()
        for rows in self._stitcher.release(until):
            self._out.add(rows)
        self.seconds["stitch"] += time.perf_counter() - began


def _checked_overlap(overlap: float) -> float:
    if not 0.0 <= overlap < 1.0:
        raise SegmentError(f"overlap {overlap:g}: must be in [0, 1)")
    return overlap
