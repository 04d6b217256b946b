"""What bfloat16 brings on this processor: to single operations, and to networks as they are run."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from napari_tokensparse.benchmarks.inference import made_apart
from napari_tokensparse.benchmarks.macs import gmacs
from napari_tokensparse.benchmarks.networks import SCD_VARIANT, drawn
from napari_tokensparse.benchmarks.report import HINTED, TOTAL, Row
from napari_tokensparse.benchmarks.timing import Note, take_turns
from napari_tokensparse.compute.allocation import kept_memory
from napari_tokensparse.compute.backends.base import OPENVINO, PLAIN, Backend
from napari_tokensparse.compute.backends.bfloat16 import BFLOAT16
from napari_tokensparse.compute.precision import has_bfloat16
from napari_tokensparse.model.presets import preset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from napari_tokensparse.benchmarks.plan import Plan
    from napari_tokensparse.benchmarks.timing import Round
    from napari_tokensparse.model.scd import SCD

SECTION = "bfloat16"
OPERATION = "operation"
"""In place of a preset's name: single operations."""
_PRESETS = ("btcv",)
_SIZE, _CHANNELS, _SIDE = 1024, 32, 48


def time_bfloat16(plan: Plan) -> Iterator[Round | Note | Row]:
    """Time operations in both types, then networks at the lowest keep ratio in all ways.

    Yields
    ------
    Round, Note, Row
        A round as it begins; the rows when the rounds of one thing are over.
    """
    if not has_bfloat16():
        yield Note("this processor has no instructions for bfloat16: it is computed by others")
    works = {(kind, name): work for kind in _OPERATIONS for name, work in _operations(kind)}
    with torch.inference_mode():
        times = yield from take_turns("operations in bfloat16", works, plan.rounds, plan.rate)
    for (kind, name), seconds in times.items():
        row = Row(SECTION, TOTAL, OPERATION, kind, name, gmacs=_OPERATIONS[kind])
        yield row.timed(seconds[TOTAL])
    for name in plan.presets_of(_PRESETS):
        yield from _network(name, plan)


def _network(name: str, plan: Plan) -> Iterator[Round | Note | Row]:
    config, ratio = preset(name), min(plan.keep_ratios)
    model = drawn(config).eval()
    image = torch.randn(
        1, config.in_channels, *config.window, generator=torch.Generator().manual_seed(0)
    )
    ways = {way: made_apart(model, way) for way in (PLAIN, BFLOAT16)}
    if OPENVINO in plan.backends:
        ways |= {OPENVINO: made_apart(model, OPENVINO), HINTED: _hinted(model)}
    works = {way: partial(_once, backend, image, ratio) for way, backend in ways.items()}
    with kept_memory():
        times = yield from take_turns(f"bfloat16 {name}", works, plan.rounds, plan.rate)
    exact = _labels(ways[PLAIN], image, ratio)
    for way, seconds in times.items():
        same = (_labels(ways[way], image, ratio) == exact).float().mean()
        row = Row(SECTION, TOTAL, name, SCD_VARIANT, way, ratio, agreement=float(same))
        yield replace(row.timed(seconds[TOTAL]), gmacs=gmacs(config, ratio)[TOTAL])


def _hinted(model: SCD) -> Backend:
    from napari_tokensparse.compute.backends.openvino import hinted_network

    return Backend(HINTED, hinted_network(model))


def _once(backend: Backend, image: Tensor, ratio: float) -> None:
    backend(image, ratio)


def _labels(backend: Backend, image: Tensor, ratio: float) -> Tensor:
    return backend(image, ratio).logits.argmax(dim=1)


_OPERATIONS = {
    "product": _SIZE**3 / 1e9,
    "convolution": _CHANNELS**2 * 27 * _SIDE**3 / 1e9,
}
"""Their GMACs."""


def _operations(kind: str) -> Iterator[tuple[str, Callable[[], None]]]:
    for name, dtype in (("float32", torch.float32), (BFLOAT16, torch.bfloat16)):
        make = _product if kind == "product" else _convolution
        yield name, make(dtype)


def _product(dtype: torch.dtype) -> Callable[[], None]:
    one, other = (torch.ones(_SIZE, _SIZE, dtype=dtype) for _ in range(2))

    def multiply() -> None:
        one @ other

    return multiply


def _convolution(dtype: torch.dtype) -> Callable[[], None]:
    laid = {"memory_format": torch.channels_last_3d}
    maps = torch.ones(1, _CHANNELS, *(_SIDE,) * 3, dtype=dtype)
    kernel = torch.ones(_CHANNELS, _CHANNELS, 3, 3, 3, dtype=dtype)
    maps, kernel = (x.to(**laid) for x in (maps, kernel))  # type: ignore[call-overload]

    def convolve() -> None:
        F.conv3d(maps, kernel, padding=1)

    return convolve
