"""One volume from file to file, in a process of its own, so that its memory is its own too."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path  # noqa: TC003  # pickled
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference

from napari_tokensparse.benchmarks.networks import drawn
from napari_tokensparse.compute.backends.base import PLAIN
from napari_tokensparse.compute.backends.choice import make_backend
from napari_tokensparse.compute.memory import PeakMemory
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.model.presets import preset
from napari_tokensparse.segmenting.infer import check_fit, segment
from napari_tokensparse.segmenting.windowing import decision, label_dtype
from napari_tokensparse.volumes.preprocess import preprocess
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import Volume, write_nifti
from napari_tokensparse.volumes.windows import Shape  # noqa: TC001  # pickled

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_tokensparse.model.scd import SCD

    _Segmented = tuple[NDArray[np.unsignedinteger], dict[str, float], tuple[Shape, ...]]
    """Labels, seconds of the parts, and what was looked at of each window."""

Engine = Literal["ours", "monai"]
NANO = "nano"
CLASSES = 14
_SIZES: dict[str, Any] = {
    "out_channels": CLASSES,
    "window": (96, 96, 96),
    "decoder": "linear",
    "depth": 3,
    "prune_after": (-1,),
    "keep_ratio": (0.1,),
    "completion": "mta-mlp",
}
_RANGE = (-175, 250)  # HU, as in the recipe for BTCV
_OVERLAP = 0.25  # MONAI's usual one
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Job:
    """A volume to segment.

    Attributes
    ----------
    engine
        ``ours``, or ``monai``: `sliding_window_inference` with the same network, windows, overlap
        and preprocessing.
    scan, labels
        File to read, and file to write.
    model
        ``nano``, a network of random weights with 14 classes, windows of 96³ voxels and so little
        in between that the engine is what is measured; or what `load_model` takes.
    threads
        That torch computes with.
    backend
        How the network is run.
    """

    engine: Engine
    scan: Path
    labels: Path
    model: str
    threads: int
    backend: str = PLAIN


@dataclass(frozen=True)
class Done:
    """What a job took.

    Attributes
    ----------
    seconds
        Per part, and ``total`` from file to file.
    peak_mb
        Growth of the process's memory, from before the file is read, in 10⁶ bytes.
    looked_at
        Of each window, the tokens along each axis of what was looked at.
    """

    seconds: dict[str, float]
    peak_mb: float
    looked_at: tuple[Shape, ...]

    @property
    def windows(self) -> int:
        """Windows that were run."""
        return len(self.looked_at)


def run_apart(job: Job) -> Done:
    """Run a job in a fresh process.

    Raises
    ------
    MemoryError
        The process was ended from without, as it is where memory runs out.
    """
    context = get_context("spawn")  # a fork would begin with this process's memory
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(run, job).result()
        except BrokenProcessPool as error:
            raise MemoryError(f"{job.scan.name}: the process ended; memory ran out?") from error


def run(job: Job) -> Done:
    """Run a job, after one that warms up and leaves what the backend converts in its cache.

    That is a window; of a network that crops its windows the whole volume, for the sizes of its
    boxes.
    """
    torch.set_num_threads(job.threads)
    model = nano_network() if job.model == NANO else load_model(job.model)
    by = _by_us if job.engine == "ours" else _by_monai
    segmented = partial(by, backend=job.backend)
    if model.config.crop_value is None:
        warm = make_backend(model, job.backend)
        warm(torch.zeros(1, model.config.in_channels, *model.config.window))
    else:
        segmented(read_volume(job.scan), model)
    with PeakMemory(_CPU) as memory:
        began = time.perf_counter()
        volume = read_volume(job.scan)
        read = time.perf_counter()
        labels, parts, looked_at = segmented(volume, model)
        done = time.perf_counter()
        write_nifti(job.labels, labels, volume)
        written = time.perf_counter()
    seconds = {"read": read - began, **parts, "write": written - done, "total": written - began}
    return Done(seconds, memory.mb, looked_at)


def nano_network() -> SCD:
    """Make the network of ``nano`` jobs, always the same."""
    classes = [LabelClass(value=n, name=f"class {n}", color=(n, n, n)) for n in range(1, CLASSES)]
    low, high = _RANGE
    scaled = {"a_min": low, "a_max": high, "b_min": 0.0, "b_max": 1.0, "clip": True}
    info = ModelInfo(
        name=NANO,
        channels=("CT",),
        classes=tuple(classes),
        overlap=_OVERLAP,
        preprocessing=({"_target_": "ScaleIntensityRanged", "keys": "image", **scaled},),
    )
    return drawn(preset(NANO, **_SIZES), info).eval()


def write_noise(path: Path, shape: tuple[int, int, int]) -> Path:
    """Write an int16 volume of noise in the range of ``nano``; no window of it is background."""
    grey = np.random.default_rng(0).integers(*_RANGE, (1, *shape), dtype=np.int16)
    volume = Volume(grey, np.eye(4), path.name.partition(".")[0])
    return write_nifti(path, grey[0], volume)


def _by_us(volume: Volume, model: SCD, backend: str) -> _Segmented:
    result = segment(volume, model, backend=backend)
    parts = {part: s for part, s in result.stats.seconds.items() if part != "total"}
    return result.labels, parts, result.stats.looked_at


def _by_monai(volume: Volume, model: SCD, backend: str) -> _Segmented:
    """Segment as MONAI's tools do; the volume must need no turning or resampling."""
    info, network = check_fit(volume, model), make_backend(model, backend)
    began = time.perf_counter()
    looked_at: list[Shape] = []

    def logits_of(window: Tensor) -> Tensor:
        out = network(window)
        looked_at.append(model.config.grid if out.box is None else out.box.size)
        logits: Tensor = out.logits
        return logits

    image = preprocess(volume, info.preprocessing).image[None]
    prepared = time.perf_counter()
    with torch.inference_mode():
        logits = sliding_window_inference(
            image, model.config.window, 1, logits_of, overlap=info.overlap, mode=info.blending
        )
        assert isinstance(logits, torch.Tensor)
        labels = decision(info)(logits[0]).numpy().astype(label_dtype(info))
    parts = {"preprocess": prepared - began, "windows": time.perf_counter() - prepared}
    return labels, parts, tuple(looked_at)
