"""Segment a volume: a generator of frozen events, window by window."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch

from napari_tokensparse.compute.allocation import kept_memory
from napari_tokensparse.compute.backends.choice import (
    check_backend,
    check_precision,
    make_backend,
)
from napari_tokensparse.compute.backends.compiled import COMPILE
from napari_tokensparse.compute.devices import available_devices, choose_device
from napari_tokensparse.compute.shortage import shortage_of
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.controls import SCORERS
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.segmenting.options import options_for
from napari_tokensparse.segmenting.result import (
    Progress,
    Segmentation,
    SegmentError,
    Stats,
)
from napari_tokensparse.segmenting.run import WindowRun
from napari_tokensparse.segmenting.stripping import stripped_note, stripping
from napari_tokensparse.volumes.channels import read_channels, read_scan
from napari_tokensparse.volumes.definitions import working_spacing
from napari_tokensparse.volumes.volume import Volume, VolumeError, check_finite

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from napari_tokensparse.compute.backends.base import Backend
    from napari_tokensparse.model.controls import Scorer
    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.segmenting.options import Options
    from napari_tokensparse.volumes.region import Box

    Source: TypeAlias = str | os.PathLike[str] | Volume

__all__ = [
    "Progress",
    "SegmentError",
    "Segmentation",
    "Stats",
    "available_devices",
    "check_fit",
    "check_options",
    "check_scorer",
    "choose_device",
    "read_input",
    "segment",
    "segment_with",
    "segmenting",
]


def segment(
    source: Source | Mapping[str, Source],
    model: SCD | str | os.PathLike[str] = "brain-structures",
    keep_ratio: float | Sequence[float] | None = None,
    *,
    device: str | torch.device | None = None,
    overlap: float | None = None,
    scorer: Scorer = "learned",
    ablate: Literal["encoder"] | None = None,
    seed: int = 0,
    region: Box | None = None,
    backend: str = "auto",
    precision: str = "auto",
    sharpen: bool | None = None,
    strip: bool | None = None,
    least_confidence: float | None = None,
    confidence: bool = False,
    probabilities: Sequence[str] = (),
    importance: float | None = None,
    pin: str | None = None,
    drop: str | None = None,
) -> Segmentation:
    """Segment a volume.

    Parameters
    ----------
    source
        What `read_volume` takes, or a `Volume`; or one of these with one channel for each name of
        the model's channels (`read_channels`).
    model
        A loaded model, or what `load_model` takes.
    keep_ratio
        Share of live tokens that each pruning stage keeps, in (0, 1]: one number or one per
        stage; the model's default if not given.
    device
        Where to run: the model's own device if not given.
    overlap
        Share of a window that the next one covers, in [0, 1); the model's if not given.
    scorer, ablate, seed
        To compare with, on the same weights: prune by something else than the model's scores, or
        leave the encoder's blocks out; the seed is that of random scores (`Options`).
    region
        Run only the windows that reach into this box of the input's voxels; labels and tokens
        there are those of a run of the whole volume.
    backend, precision
        How the network is run: ``auto`` or another that `make_backend` takes; ``float32`` or
        ``bfloat16`` as the precision binds ``auto`` to it.
    sharpen
        Whether labels are sharpened by the scan's own voxels – of a region, by its own, so that
        borders may differ there; as the model says if not given.
    strip
        Whether a whole head is stripped of its skull first; as the model says if not given.
    least_confidence
        In [0, 1): how probable a connected piece of a class must be at its surest voxel to count;
        as the model says if not given, 0 counts every piece. Of a region its own voxels alone say.
    confidence, probabilities
        Whether the winner's probability is kept for every voxel, and the names of classes whose
        probability is; ``["all"]`` for all of them.
    importance
        In place of the keep ratio: the least importance, in [0, 1], of what a stage keeps.
    pin, drop
        Numbers of the volume's tokens that are never pruned, and of those that are pruned at the
        first stage (`pins_under` finds those under a mask).

    Raises
    ------
    VolumeError, ModelError, SegmentError, ValueError
        In one plain line: the file, the model, the volume or an option cannot be used.

    Examples
    --------
    >>> result = segment("scan.nii.gz", keep_ratio=0.5)  # doctest: +SKIP
    >>> result.labels.shape, result.stats.tokens["kept"]  # doctest: +SKIP
    """
    network = model if isinstance(model, SCD) else load_model(model)
    asked: dict[str, Any] = {"scorer": scorer, "ablate": ablate, "seed": seed, "overlap": overlap}
    asked |= {"region": region, "backend": backend, "precision": precision, "sharpen": sharpen}
    asked |= {"strip": strip, "pin": pin, "drop": drop, "device": device and str(device)}
    asked["least_confidence"] = least_confidence
    asked |= {"importance": importance, "confidence": confidence, "probabilities": probabilities}
    options = options_for(network, keep_ratio, **asked)
    return segment_with(read_input(source, network.info), network, options)


def read_input(
    source: Source | Mapping[str, Source],
    info: ModelInfo,
    *,
    frame: int | None = None,
    series: str | None = None,
) -> Volume:
    """Read what is to be segmented.

    Parameters
    ----------
    source
        As for `segment`; a mapping may also hold one scan of all channels, by the name "".
    info
        Of the model.
    frame, series
        As for `read_volume`.

    Raises
    ------
    VolumeError
        In one plain line: a file cannot be read, or channels are missing or unknown.
    """
    if isinstance(source, Mapping):
        if "" not in source:
            return read_channels(source, info.channels)
        source = source[""]
    if isinstance(source, Volume):
        return source
    spacing = working_spacing(info.preprocessing)
    volume = read_scan(source, info.channels, frame=frame, series=series, spacing=spacing)
    if frame is None and len(info.channels) == 1 < len(volume.array):
        raise VolumeError(
            f"{volume.name}: has {len(volume.array)} channels, or frames; model {info.name} takes "
            f"1: {info.channels[0]}; choose one with --frame N (frame=N in Python)"
        )
    return volume


def segment_with(volume: Volume, model: SCD, options: Options) -> Segmentation:
    """Segment a volume as options say; errors are those of `segment`."""
    for event in segmenting(volume, model, options):
        if isinstance(event, Segmentation):
            return event
    raise AssertionError("the run ended without a result")


def segmenting(volume: Volume, model: SCD, options: Options) -> Iterator[Progress | Segmentation]:
    """Segment a volume step by step.

    Parameters
    ----------
    volume
        The input.
    model
        A loaded model.
    options
        What is asked for (`options_for`).

    Yields
    ------
    Progress
        Before the first window and after each one. The caller may stop here.
    Segmentation
        Once, at the end.
    """
    started = time.perf_counter()
    check_options(options)
    check_fit(volume, model)
    placed = model if options.device is None else model.to(choose_device(options.device))
    seen = (yield from stripping(volume, placed)) if options.strip else volume
    stripped = time.perf_counter()
    run = _begun(seen, make_backend(placed, options.backend, options.precision), options)
    run.seconds["preprocess"] = time.perf_counter() - stripped
    if options.strip and (said := stripped_note(volume, seen, placed.info)):
        run.seconds["strip"] = stripped - started
        run.notes.append(said)
    # One window takes no memory a second time, and fresh pages are the faster ones.
    with kept_memory() if run.count > 1 else nullcontext():
        for done, _ in enumerate(run.windows()):
            yield run.progress(done)
    yield run.result(time.perf_counter() - started)


def check_options(options: Options) -> None:
    """Check what can be checked before a volume is read.

    Raises
    ------
    SegmentError, BackendError, DeviceError
        In one line: there is no such scorer, backend, precision or device, or windows cannot
        overlap so.
    """
    check_precision(options.precision, check_backend(options.backend))
    if options.device is not None:
        choose_device(options.device)
    check_scorer(options.scorer)
    if options.windows_differ and options.backend == COMPILE:
        raise SegmentError(f"backend {COMPILE!r}: is made for fixed numbers of tokens; use another")
    if options.overlap is not None and not 0.0 <= options.overlap < 1.0:
        raise SegmentError(f"overlap {options.overlap:g}: must be in [0, 1)")


def check_scorer(scorer: str) -> None:
    """Check that tokens can be pruned by this.

    Raises
    ------
    SegmentError
        There is no such scorer.
    """
    if scorer not in SCORERS:
        raise SegmentError(f"scorer {scorer!r}: choose one of {', '.join(SCORERS)}")


def _begun(volume: Volume, backend: Backend, options: Options) -> WindowRun:
    """Prepare a run, or say how much memory that would have needed."""
    runs: list[WindowRun] = []
    lacking = shortage_of(
        lambda: runs.append(WindowRun(volume, backend, options)), torch.device("cpu")
    )
    if lacking is None:
        return runs[0]
    size = " x ".join(map(str, volume.shape))
    raise SegmentError(
        f"{volume.name}: {size} voxels do not fit into memory ({lacking}); close other programs, "
        "or crop the scan"
    )


def check_fit(volume: Volume, model: SCD) -> ModelInfo:
    """Check that a model can segment a volume, and return what the model says of itself.

    Raises
    ------
    SegmentError, VolumeError, ModelError
        The model is in training mode or knows no preprocessing, the channels differ, or voxels
        are not finite.
    """
    info = model.info
    if model.training:
        raise SegmentError("the network is in training mode: call its eval() first")
    channels, needed = len(volume.array), model.config.in_channels
    if channels != needed:
        raise SegmentError(
            f"{volume.name}: has {channels} channel{'s' * (channels != 1)}; model {info.name} "
            f"takes {needed}: {', '.join(info.channels)}"
        )
    check_finite(volume.array, volume.name)
    return info
