"""Check and time the networks on a GPU in five minutes, and write the figures as JSON.

For each preset: whether the device gives what the CPU gives (logits for the same tokens, in float32
and in the half precision that segmenting takes there, and how many tokens the scores choose
otherwise), and the time of a window by keep ratio, eagerly in float32 and in half precision. Then a
training step, and whole volumes with their memory, by ours and by MONAI's inferer round the same
network; and, if asked for, a window at one keep ratio compiled, which takes a minute or so to
compile. What does not fit into the minutes is left out and named::

    python tools/measure_gpu.py gpu.json
    python tools/measure_gpu.py cpu.json --device cpu --presets nano --minutes 1   # does it run?
"""

from __future__ import annotations

import argparse
import json
import math
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.inferers import SlidingWindowInferer

from napari_tokensparse.compute.backends.base import PLAIN, Backend
from napari_tokensparse.compute.backends.choice import make_backend
from napari_tokensparse.compute.machine import describe_machine
from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.model.presets import PRESETS, preset
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.volumes.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEEP_RATIOS = (0.1, 0.25, 0.5, 1.0)
COMPILED = 0.25  # the ratio for which networks are compiled
ROUNDS = 7
LOGITS_AGREE = 1e-3  # of their size, in float32 on another device
_CONTROL_SEED = 0


def network(name: str, device: str) -> SCD:
    """Make a preset with random weights; its classes are numbered."""
    config = preset(name)
    classes = tuple(
        LabelClass(value=n, name=f"class {n}", color=(n % 256, 0, 0))
        for n in range(1, config.out_channels)
    )
    channels = tuple(f"channel {n}" for n in range(config.in_channels))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return (
            SCD(config, ModelInfo(name=name, channels=channels, classes=classes)).eval().to(device)
        )


def window_of(model: SCD) -> torch.Tensor:
    """Draw a window; of one that is cropped the middle half is not empty."""
    config = model.config
    generator = torch.Generator().manual_seed(1)
    window = torch.randn(1, config.in_channels, *config.window, generator=generator)
    if config.crop_value is not None:
        inside = tuple(slice(n // 8, n - n // 8) for n in config.window)
        kept = torch.zeros(config.window, dtype=torch.bool)
        kept[inside] = True
        window = torch.where(kept, window, config.crop_value)
    return window


def parity(name: str, device: str) -> dict[str, Any]:
    """Compare a device with the CPU on one window, by scores that are given and by its own."""
    here, there = network(name, "cpu"), network(name, device)
    window = window_of(here)
    length = math.prod(here.config.grid)
    scores = torch.rand(1, length, generator=torch.Generator().manual_seed(_CONTROL_SEED)).log()
    exact = Backend(PLAIN, here)(window, 0.5, token_scores=scores).logits
    figures: dict[str, Any] = {"preset": name}
    for kind, backend in (("float32", Backend(PLAIN, there)), ("auto", make_backend(there))):
        out = backend(window.to(device), 0.5, token_scores=scores.to(device)).logits.cpu()
        figures[kind] = {
            "backend": backend.name,
            "logits off": float(
                (out - exact).square().mean().sqrt() / exact.square().mean().sqrt()
            ),
        }
    own = Backend(PLAIN, here)(window, 0.5).trace.kept
    theirs = Backend(PLAIN, there)(window.to(device), 0.5).trace.kept.cpu()
    figures["tokens chosen otherwise"] = len(set(own[0].tolist()) ^ set(theirs[0].tolist())) // 2
    figures["agrees"] = figures["float32"]["logits off"] <= LOGITS_AGREE
    return figures


def timed(work: Callable[[], object], device: str) -> float:
    """Return the median seconds of some work, after two rounds that warm up."""
    seconds = []
    for _ in range(2 + ROUNDS):
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        seconds.append(time.perf_counter() - began)
    return median(seconds[2:])


def windows(name: str, device: str) -> Iterator[dict[str, Any]]:
    """Time a window at each keep ratio, in every way of running it but compiled."""
    model = network(name, device)
    image = window_of(model).to(device)
    ways = {"float32": Backend(PLAIN, model), "auto": make_backend(model)}
    for way, backend in ways.items():
        for keep in KEEP_RATIOS:
            seconds = timed(partial(backend, image, keep), device)
            yield {"preset": name, "way": way, "keep_ratio": keep, "seconds": seconds}


def compiled(name: str, device: str) -> Iterator[dict[str, Any]]:
    """Time a window by torch.compile, which compiles for one number of tokens."""
    model = network(name, device)
    work = partial(make_backend(model, "compile"), window_of(model).to(device), COMPILED)
    seconds = timed(work, device)
    yield {"preset": name, "way": "compile", "keep_ratio": COMPILED, "seconds": seconds}


def training(name: str, device: str) -> Iterator[dict[str, Any]]:
    """Time forward and backward of a window, in float32 and in bfloat16."""
    model = network(name, device).train()
    image = window_of(model).to(device)
    for dtype in (torch.float32, torch.bfloat16):

        def step(dtype: torch.dtype = dtype) -> None:
            with torch.autocast(device.split(":")[0], dtype, enabled=dtype != torch.float32):
                out = model(image, 0.25)
            out.inside.float().square().mean().backward()
            model.zero_grad()

        said = str(dtype).removeprefix("torch.")
        yield {"preset": name, "precision": said, "seconds": timed(step, device)}


def volumes(name: str, device: str, side: int) -> Iterator[dict[str, Any]]:
    """Time a whole volume of noise by ours and by MONAI's inferer round the same network."""
    model = network(name, device)
    shape = (model.config.in_channels, side, side, side)
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    volume = Volume(array, np.eye(4), "noise")
    _forget_peak(device)
    began = time.perf_counter()
    result = segment(volume, model, 0.25)
    ours, our_peak = time.perf_counter() - began, _peak_mb(device)
    inferer = SlidingWindowInferer(
        model.config.window, sw_batch_size=4, overlap=0.5, mode="gaussian", sw_device=device
    )
    backend = make_backend(model)
    _wait(device)
    _forget_peak(device)
    began = time.perf_counter()
    with torch.inference_mode():
        logits = inferer(torch.from_numpy(array)[None], lambda image: backend(image, 0.25).logits)
    logits.argmax(dim=1)
    _wait(device)
    yield {
        "preset": name,
        "side": side,
        "windows": result.stats.windows,
        "seconds": ours,
        "monai_seconds": time.perf_counter() - began,
        "peak_mb": our_peak,
        "monai_peak_mb": _peak_mb(device),
    }


def _forget_peak(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)


def _peak_mb(device: str) -> float | None:
    """Return the most memory that tensors took on a GPU, in 10⁶ bytes."""
    return torch.cuda.max_memory_allocated(device) / 1e6 if device.startswith("cuda") else None


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def measuring(
    names: list[str], device: str, with_compiled: bool, side: int
) -> Iterator[tuple[str, str, Iterator[dict[str, Any]]]]:
    """Give every section of every preset with what measures it, the most important first."""
    sections: dict[str, Callable[[str], Iterator[dict[str, Any]]]] = {
        "parity": lambda name: (parity(each, device) for each in [name]),
        "windows": lambda name: windows(name, device),
        "training": lambda name: training(name, device),
        "volumes": lambda name: volumes(name, device, side),
    }
    if with_compiled:
        sections["compiled"] = lambda name: compiled(name, device)
    for section, measure in sections.items():
        for name in names:
            yield section, name, measure(name)


def main() -> None:
    """Measure until the minutes are over, and write after every section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("json", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--presets", default="brain-structures,btcv,btcv-lite,brats")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--side", type=int, default=256, help="voxels of the whole volumes")
    parser.add_argument("--compile", action="store_true", help="compiled networks too")
    given = parser.parse_args()
    names = given.presets.split(",")
    for name in names:
        if name not in PRESETS:
            parser.error(f"preset {name!r}: choose one of {', '.join(PRESETS)}")
    gpu = torch.cuda.get_device_name(given.device) if given.device.startswith("cuda") else "none"
    figures: dict[str, Any] = {"machine": describe_machine(), "gpu": gpu, "left_out": []}
    end = time.monotonic() + 60 * given.minutes
    for section, name, rows in measuring(names, given.device, given.compile, given.side):
        while time.monotonic() < end:
            row = next(rows, None)
            if row is None:
                break
            figures.setdefault(section, []).append(row)
            print(section, json.dumps(row), flush=True)
            given.json.write_text(json.dumps(figures, indent=1))
        else:
            figures["left_out"].append(f"{section} of {name}, or part of it")
    given.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
