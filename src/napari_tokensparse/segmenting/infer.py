"""Segment a volume: a generator of frozen events, window by window."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, TypeAlias

import torch

from napari_tokensparse.compute.allocation import kept_memory
from napari_tokensparse.compute.backends.choice import check_backend, make_backend
from napari_tokensparse.compute.devices import available_devices, choose_device
from napari_tokensparse.compute.shortage import tried
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.ratios import keep_ratios
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.segmenting.result import (
    Controls,
    Progress,
    Segmentation,
    SegmentError,
    Stats,
)
from napari_tokensparse.segmenting.run import RunOptions, WindowRun
from napari_tokensparse.volumes.channels import read_channels, read_scan
from napari_tokensparse.volumes.volume import Volume, check_finite

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from napari_tokensparse.compute.backends.base import Backend
    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.volumes.region import Box

    Source: TypeAlias = str | os.PathLike[str] | Volume

__all__ = [
    "Controls",
    "Progress",
    "SegmentError",
    "Segmentation",
    "Stats",
    "available_devices",
    "check_fit",
    "choose_device",
    "segment",
    "segmenting",
]


def segment(
    source: Source | Mapping[str, Source],
    model: SCD | str | os.PathLike[str] = "brain-structures",
    keep_ratio: float | Sequence[float] | None = None,
    *,
    device: str | torch.device | None = None,
    overlap: float | None = None,
    controls: Controls | None = None,
    region: Box | None = None,
    backend: str = "auto",
    sharpen: bool | None = None,
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
    controls
        Prune by something else than the model's scores, or leave its blocks out.
    region
        Run only the windows that reach into this box of the input's voxels; labels and tokens
        there are those of a run of the whole volume.
    backend
        How the network is run: ``auto``, ``plain``, ``openvino`` or ``compile`` (`make_backend`).
    sharpen
        Whether labels are sharpened by the scan's own voxels, where their intensities tell classes
        apart; as the model says if not given. Of a region the appearance of classes is learned from
        its own voxels, so borders may differ from those of the whole volume.

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
    volume = _volume(source, network)
    for event in segmenting(
        volume,
        network,
        keep_ratio,
        device=device,
        overlap=overlap,
        controls=controls,
        region=region,
        backend=backend,
        sharpen=sharpen,
    ):
        if isinstance(event, Segmentation):
            return event
    raise AssertionError("the run ended without a result")


def _volume(source: Source | Mapping[str, Source], network: SCD) -> Volume:
    channels = () if network.info is None else network.info.channels
    if isinstance(source, Mapping):
        return read_channels(source, channels)
    return source if isinstance(source, Volume) else read_scan(source, channels)


def segmenting(
    volume: Volume,
    model: SCD,
    keep_ratio: float | Sequence[float] | None = None,
    *,
    device: str | torch.device | None = None,
    overlap: float | None = None,
    controls: Controls | None = None,
    region: Box | None = None,
    backend: str = "auto",
    sharpen: bool | None = None,
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
    check_backend(backend)
    info = check_fit(volume, model)
    ratios = keep_ratios(
        model.config.keep_ratio if keep_ratio is None else keep_ratio, model.config.stages
    )
    share = _checked_overlap(info.overlap if overlap is None else overlap)
    if region is not None:
        region.check(volume.shape, volume.name)
    placed = model if device is None else model.to(choose_device(str(device)))
    options = RunOptions(ratios, share, controls or Controls(), region, info.sharpens(sharpen))
    run = _begun(volume, make_backend(placed, backend), info, options)
    run.seconds["preprocess"] = time.perf_counter() - started
    # One window takes no memory a second time, and fresh pages are the faster ones.
    with kept_memory() if run.count > 1 else nullcontext():
        for done, _ in enumerate(run.windows()):
            yield run.progress(done)
    yield run.result(time.perf_counter() - started)


def _begun(volume: Volume, backend: Backend, info: ModelInfo, options: RunOptions) -> WindowRun:
    """Prepare a run, or say how much memory that would have needed."""
    runs: list[WindowRun] = []
    lacking = tried(
        lambda: runs.append(WindowRun(volume, backend, info, options)), torch.device("cpu")
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


def _checked_overlap(overlap: float) -> float:
    if not 0.0 <= overlap < 1.0:
        raise SegmentError(f"overlap {overlap:g}: must be in [0, 1)")
    return overlap
