"""How fast networks segment one window: seconds in all and per part, efficiency, memory."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from napari_tokensparse.benchmarks.macs import gmacs, unetr_gmacs
from napari_tokensparse.benchmarks.networks import (
    MONAI_UNETR,
    PRESETS,
    SCD_VARIANT,
    dense_of,
    drawn,
    families,
    has_baselines,
    has_dense,
    has_unetr,
    unetr_of,
)
from napari_tokensparse.benchmarks.parts import SCD_PARTS, UNETR_PARTS, PartTimer
from napari_tokensparse.benchmarks.report import DENSE, TOTAL, Row
from napari_tokensparse.benchmarks.timing import Note, take_turns
from napari_tokensparse.common.cache import CACHE_VARIABLE
from napari_tokensparse.compute.allocation import kept_memory
from napari_tokensparse.compute.backends.base import PLAIN
from napari_tokensparse.compute.backends.choice import make_backend
from napari_tokensparse.compute.backends.compiled import COMPILE
from napari_tokensparse.compute.memory import PeakMemory
from napari_tokensparse.model.presets import preset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from napari_tokensparse.benchmarks.plan import Plan
    from napari_tokensparse.benchmarks.timing import Round
    from napari_tokensparse.compute.backends.base import Backend
    from napari_tokensparse.model.config import SCDConfig
    from napari_tokensparse.model.scd import SCD

INFERENCE = "inference"
_CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class _Case:
    """One thing that is timed: a network, how it is run, and what is known of it."""

    row: Row
    run: Callable[[], object]
    gmacs: Mapping[str, float]
    model: nn.Module | None = None
    parts: Mapping[str, str] | None = None

    def once(self) -> None:
        """Segment the window."""
        with torch.inference_mode():
            self.run()

    def parted(self) -> dict[str, float]:
        """Segment the window and return the seconds of each part."""
        if self.model is None or self.parts is None:
            return {}
        with torch.inference_mode(), PartTimer(self.model, self.parts) as timer:
            self.run()
        return timer.seconds

    def peak_mb(self) -> float:
        """Return the memory that segmenting the window takes."""
        return most_memory(self.once)

    def rows(self, totals: Sequence[float], parts: Mapping[str, Sequence[float]]) -> Iterator[Row]:
        """Yield the total, then each part that took any time."""
        whole = self.row.timed(totals)
        yield replace(whole, gmacs=self.gmacs[TOTAL], peak_mb=self.peak_mb())
        for part, seconds in parts.items():
            if part != TOTAL and any(seconds):
                row = replace(self.row, part=part, gmacs=self.gmacs.get(part) or None)
                yield row.timed(seconds)


def most_memory(work: Callable[[], object]) -> float:
    """Do something twice and return the peak of its memory in 10⁶ bytes.

    Where other work keeps the processor busy, a single look may miss the peak.
    """
    peaks = []
    for _ in range(2):
        with PeakMemory(_CPU) as memory:
            work()
        peaks.append(memory.mb)
    return max(peaks)


def time_inference(plan: Plan) -> Iterator[Round | Note | Row]:
    """Time one window of every preset: pruned, dense, and by MONAI's UNETR.

    Totals come from rounds without a hook; the parts from rounds of their own. Presets of one
    family, such as ``btcv`` and ``btcv-lite``, take turns with one another. All of them, MONAI's
    too, gain by memory that is kept, as the engine does it.

    Yields
    ------
    Round, Note, Row
        A round as it begins; the rows of a family when its rounds are over.
    """
    if not has_unetr():
        yield Note(f"{MONAI_UNETR} is left out: MONAI's UNETR needs einops, of the extra 'bench'")
    for family, names in families(plan.presets_of(PRESETS)).items():
        cases: list[_Case] = []
        for made in (made for name in names for made in _cases(name, plan)):
            if isinstance(made, Note):
                yield made
            else:
                cases.append(made)
        works = {n: case.once for n, case in enumerate(cases)}
        parted = {n: case.parted for n, case in enumerate(cases)}
        rounds = max(1, plan.rounds // 2)
        with kept_memory():
            totals = yield from take_turns(f"{INFERENCE} {family}", works, plan.rounds, plan.rate)
            parts = yield from take_turns(f"parts of {family}", parted, rounds, plan.rate)
        for n, case in enumerate(cases):
            yield from case.rows(totals[n][TOTAL], parts[n])


def _cases(name: str, plan: Plan) -> Iterator[_Case | Note]:
    config = preset(name)
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, config.in_channels, *config.window, generator=generator)
    yield from _scd_cases((name, SCD_VARIANT), config, image, plan.keep_ratios, plan.backends)
    if has_dense(name):
        yield from _scd_cases((name, DENSE), dense_of(config), image, (1.0,), plan.backends)
    if has_baselines(name) and has_unetr():
        yield _unetr_case(name, config, image)


def _scd_cases(
    named: tuple[str, str],
    config: SCDConfig,
    image: Tensor,
    keep_ratios: Sequence[float],
    backends: Sequence[str],
) -> Iterator[_Case | Note]:
    """Make the cases of a network at all keep ratios, by all backends."""
    model = drawn(config).eval()
    counted = {ratio: gmacs(config, ratio) for ratio in keep_ratios}
    for name in backends:
        backend = made_apart(model, name)
        if backend.name != name:
            yield Note(f"{named[0]} {named[1]} by {name} is left out: {'; '.join(backend.notes)}")
            continue
        # Hooks would break up what is compiled.
        parts = None if name == COMPILE else SCD_PARTS
        for ratio, counts in counted.items():
            row = Row(INFERENCE, TOTAL, *named, name, ratio)
            yield _Case(row, partial(backend, image, ratio), counts, backend.network, parts)


def made_apart(model: SCD, name: str) -> Backend:
    """Make a backend: graphs of random weights do not go to the user's cache."""
    before = os.environ.get(CACHE_VARIABLE)
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ[CACHE_VARIABLE] = folder
        try:
            return make_backend(model, name)
        finally:
            del os.environ[CACHE_VARIABLE]
            if before is not None:
                os.environ[CACHE_VARIABLE] = before


def _unetr_case(name: str, config: SCDConfig, image: Tensor) -> _Case:
    model: Any = unetr_of(config).eval()
    row = Row(INFERENCE, TOTAL, name, MONAI_UNETR, PLAIN, 1.0)
    return _Case(row, partial(model, image), unetr_gmacs(config), model, UNETR_PARTS)
