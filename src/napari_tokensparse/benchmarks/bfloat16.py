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
from napari_tokensparse.model.crop import content_box
from napari_tokensparse.model.presets import preset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from napari_tokensparse.benchmarks.plan import Plan
    from napari_tokensparse.benchmarks.timing import Round
    from napari_tokensparse.model.config import SCDConfig
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
    image = noise_window(config)
    ways = {way: made_apart(model, way) for way in (PLAIN, BFLOAT16)}
    if OPENVINO in plan.backends:
        ways |= {OPENVINO: made_apart(model, OPENVINO), HINTED: _hinted(model)}
    row = Row(SECTION, TOTAL, name, SCD_VARIANT, keep_ratio=ratio)
    yield from beside_plain(row, ways, image, plan)


def beside_plain(
    row: Row, ways: Mapping[str, Backend], image: Tensor, plan: Plan
) -> Iterator[Round | Note | Row]:
    """Time backends of a network in turns, and compare their labels with those of `plain`.

    Parameters
    ----------
    row
        Of section, preset, variant and keep ratio; the others follow from it.
    ways
        Backends by their names, `plain` among them.
    image
        ``(1, C, h, w, d)``.
    plan
        How often.
    """
    ratio = row.keep_ratio
    assert ratio is not None
    works = {way: partial(_once, backend, image, ratio) for way, backend in ways.items()}
    what = f"{row.section} {row.preset} at {ratio:g}"
    with kept_memory():
        times = yield from take_turns(what, works, plan.rounds, plan.rate)
    exact, config = _labels(ways[PLAIN], image, ratio), ways[PLAIN].network.config
    box = content_box(image, config)
    macs = gmacs(config, ratio, None if box is None else box.size)[TOTAL]
    for way, seconds in times.items():
        same = float((_labels(ways[way], image, ratio) == exact).float().mean())
        yield replace(row.timed(seconds[TOTAL]), backend=way, agreement=same, gmacs=macs)


def noise_window(config: SCDConfig) -> Tensor:
    """Return the same window of noise ``(1, C, h, w, d)`` in every run."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, config.in_channels, *config.window, generator=generator)


def _hinted(model: SCD) -> Backend:
    from napari_tokensparse.compute.backends.openvino import hinted_network

    return Backend(HINTED, hinted_network(model))


def _once(backend: Backend, image: Tensor, ratio: float) -> None:
    backend(image, ratio)


def _labels(backend: Backend, image: Tensor, ratio: float) -> Tensor:
    return backend(image, ratio).inside.argmax(dim=1)


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
