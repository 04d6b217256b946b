"""How long whole volumes take from file to file, and how that grows; MONAI's inferer beside it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import psutil
import torch

from napari_tokensparse.benchmarks.apart import (
    CLASSES,
    NANO,
    Done,
    Engine,
    Job,
    nano_network,
    run_apart,
    write_noise,
)
from napari_tokensparse.benchmarks.macs import volume_gmacs
from napari_tokensparse.benchmarks.networks import SCD_VARIANT
from napari_tokensparse.benchmarks.preview import DEFAULT_MODEL
from napari_tokensparse.benchmarks.report import MONAI_INFERER, TOTAL, Row
from napari_tokensparse.benchmarks.timing import Note, take_turns
from napari_tokensparse.compute.backends.base import PLAIN
from napari_tokensparse.compute.backends.bfloat16 import BFLOAT16
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.samples import sample_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari_tokensparse.benchmarks.plan import Plan
    from napari_tokensparse.benchmarks.timing import Round
    from napari_tokensparse.model.config import SCDConfig

VOLUME = "volume"
NETWORK = "network"
Shape = tuple[int, int, int]
SHAPES: tuple[Shape, ...] = ((216, 216, 200), (288, 288, 280), (360, 360, 344), (512, 512, 400))
QUICK_SHAPES: tuple[Shape, ...] = ((128, 128, 96), (192, 192, 96))
"""Multiples of the patch, so that MONAI lays the same windows. Those of `SHAPES` overlap alike: a
window stands for as many voxels in each, within 5 %, so that time can be set by windows."""
_LOGIT_BYTES = 4
_ROOM = 2  # times the logits of the whole volume: what MONAI's inferer may need


@dataclass(frozen=True, eq=False)
class _Case:
    """One volume by one engine."""

    row: Row
    job: Job
    config: SCDConfig
    done: list[Done] = field(default_factory=list)

    def once(self, apart: Callable[[Job], Done]) -> dict[str, float]:
        """Segment the volume; returns the seconds of the parts."""
        self.done.append(apart(self.job))
        return self.done[-1].seconds

    def rows(self, agreement: float | None = None) -> Iterator[Row]:
        """Yield the total, then the parts."""
        windows, looked_at = self.done[-1].windows, self.done[-1].looked_at
        counted = volume_gmacs(self.config, self.row.keep_ratio or 1.0, looked_at)
        for part in (TOTAL, *(part for part in self.done[-1].seconds if part != TOTAL)):
            row = replace(self.row, part=part, windows=windows)
            if part in (TOTAL, NETWORK):
                row = replace(row, gmacs=counted)
            if part == TOTAL:
                peak = max(done.peak_mb for done in self.done)
                row = replace(row, peak_mb=peak, agreement=agreement)
            yield row.timed([done.seconds[part] for done in self.done])


def time_volumes(
    plan: Plan, shapes: Sequence[Shape] | None = None, apart: Callable[[Job], Done] = run_apart
) -> Iterator[Round | Note | Row]:
    """Time the sample brain by the bundled model, and volumes of noise by a tiny network.

    Noise is segmented in float32 and, where the plan names it, in bfloat16, by both engines.

    Parameters
    ----------
    plan
        Each volume is segmented a third as often as it has rounds, without a round that warms up:
        every process warms up itself.
    shapes
        Of the volumes of noise; if not given, they follow from the plan.
    apart
        Runs a job.

    Yields
    ------
    Round, Note, Row
        Rounds as they begin, then the rows of what took turns.
    """
    rounds = max(1, plan.rounds // 3)
    if shapes is None:
        shapes = plan.shapes or (QUICK_SHAPES if plan.quick else SHAPES)
    with TemporaryDirectory() as name:
        folder = Path(name)
        sample = [_sample(folder, backend) for backend in plan.backends]
        yield from _timed(sample, rounds, plan, apart)
        for shape in shapes:
            engines = [SCD_VARIANT]
            if _has_room(shape):
                engines.append(MONAI_INFERER)
            else:
                yield Note(f"{MONAI_INFERER} is left out of {_said(shape)}: too little memory")
            scan = write_noise(folder / "noise.nii", shape)
            cases = [_noise(scan, shape, *each) for each in product(_for_noise(plan), engines)]
            yield from _timed(cases, rounds, plan, apart)


def _timed(
    cases: Sequence[_Case], rounds: int, plan: Plan, apart: Callable[[Job], Done]
) -> Iterator[Round | Row]:
    shape = cases[0].row.shape
    assert shape is not None
    works = {n: partial(case.once, apart) for n, case in enumerate(cases)}
    yield from take_turns(f"{VOLUME} {_said(shape)}", works, rounds, plan.rate, warm_up=False)
    yield from cases[0].rows()
    for other in cases[1:]:
        yield from other.rows(_agreement(cases[0].job.labels, other.job.labels))


def _sample(folder: Path, backend: str) -> _Case:
    config, scan, labels = load_model(DEFAULT_MODEL).config, sample_path(), folder / backend
    row = Row(VOLUME, TOTAL, DEFAULT_MODEL, SCD_VARIANT, backend, shape=read_volume(scan).shape)
    threads = torch.get_num_threads()
    job = Job("ours", scan, labels.with_suffix(".nii.gz"), DEFAULT_MODEL, threads, backend)
    return _Case(replace(row, keep_ratio=config.keep_ratio[0]), job, config)


def _for_noise(plan: Plan) -> tuple[str, ...]:
    """Return the backends by which noise is segmented: those that MONAI's inferer can have too."""
    return tuple(name for name in plan.backends if name in (PLAIN, BFLOAT16)) or (PLAIN,)


def _noise(scan: Path, shape: Shape, backend: str, variant: str) -> _Case:
    config, labels = nano_network().config, scan.with_name(f"{variant}-{backend}.nii")
    row = Row(VOLUME, TOTAL, NANO, variant, backend, config.keep_ratio[0], shape=shape)
    engine: Engine = "ours" if variant == SCD_VARIANT else "monai"
    return _Case(row, Job(engine, scan, labels, NANO, torch.get_num_threads(), backend), config)


def _agreement(one: Path, other: Path) -> float:
    return float(np.mean(read_volume(one).array == read_volume(other).array))


def _has_room(shape: Shape) -> bool:
    """Whether MONAI's inferer, which holds the logits of the whole volume, may be tried."""
    needed = _ROOM * CLASSES * _LOGIT_BYTES * int(np.prod(shape))
    return bool(psutil.virtual_memory().available > needed)


def _said(shape: Shape) -> str:
    return " × ".join(map(str, shape))
