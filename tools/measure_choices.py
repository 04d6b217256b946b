"""Measure what each choice for speed gains: everything as it is, against the same with one undone.

python tools/measure_choices.py --preset btcv --keep-ratio 0.1 --json btcv.json
python tools/measure_choices.py --preset brain-structures --keep-ratio 0.25 --training
python tools/measure_choices.py --volume --json volume.json
"""

from __future__ import annotations

import argparse
import json
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from napari_tokensparse.benchmarks.networks import drawn
from napari_tokensparse.benchmarks.timing import MatrixRate, take_turns
from napari_tokensparse.compute.allocation import kept_memory
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.model.layers import convolution
from napari_tokensparse.model.layers.layout import DoublingConv, LayoutKeepingNorm, PointwiseConv
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.segmenting import infer
from napari_tokensparse.segmenting import run as run_module
from napari_tokensparse.segmenting.inputgrid import InputGrid
from napari_tokensparse.segmenting.windowing import Windowed
from napari_tokensparse.training.optim import make_optimizer
from napari_tokensparse.training.trainconfig import TrainConfig
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.samples import sample_path
from napari_tokensparse.volumes.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from torch import Tensor
    from torch.optim import Optimizer

AS_IS = "as it is"


@contextmanager
def plain_layers(
    model: nn.Module, ours: type[nn.Module], torchs: type[nn.Module]
) -> Iterator[None]:
    """Turn layers of ours into torch's for a while."""
    changed = [module for module in model.modules() if type(module) is ours]
    for module in changed:
        module.__class__ = torchs
    try:
        yield
    finally:
        for module in changed:
            module.__class__ = ours


@contextmanager
def weights_contiguous(model: SCD) -> Iterator[None]:
    """Lay the weights of convolutions out as torch does by itself; maps follow them."""
    model.decoder.to(memory_format=torch.contiguous_format)
    try:
        yield
    finally:
        model.decoder.to(memory_format=torch.channels_last_3d)


@contextmanager
def pass_for_pass(optimizer: Optimizer) -> Iterator[None]:
    """Let an optimizer go over the weights again and again, as torch does by itself."""
    for group in optimizer.param_groups:
        group["fused"] = False
    try:
        yield
    finally:
        for group in optimizer.param_groups:
            group["fused"] = True


def undone(
    model: SCD, optimizer: Optimizer | None
) -> dict[str, Callable[[], AbstractContextManager[object]]]:
    """Name the choices, and make each a context in which it is undone."""
    of_training: dict[str, Callable[[], AbstractContextManager[object]]] = {}
    if optimizer is not None:
        of_training = {
            "kernels' gradients as products": lambda: patch.object(
                convolution, "_LEAST_WEIGHTS", np.inf
            ),
            "AdamW in one pass": lambda: pass_for_pass(optimizer),
        }
    return {
        AS_IS: nullcontext,
        "fused attention": lambda: sdpa_kernel(SDPBackend.MATH),
        "channels-last weights": lambda: weights_contiguous(model),
        "norm that keeps the layout": lambda: plain_layers(
            model, LayoutKeepingNorm, nn.InstanceNorm3d
        ),
        "1 x 1 x 1 convolution as a product": lambda: plain_layers(model, PointwiseConv, nn.Conv3d),
        "transposed convolution as a product": lambda: plain_layers(
            model, DoublingConv, nn.ConvTranspose3d
        ),
        "small maps to oneDNN": lambda: patch.object(convolution, "_SMALL", -1),
        **of_training,
    }


def measure(
    name: str, keep_ratio: float, rounds: int, training: bool
) -> dict[str, dict[str, float]]:
    """Time every choice undone: seconds, and how many times longer than as it is."""
    torch.manual_seed(0)
    model = SCD(preset(name)).train(training)
    optimizer = make_optimizer(model, TrainConfig(steps=1)) if training else None
    image = torch.randn(1, model.config.in_channels, *model.config.window)

    def work(context: Callable[[], AbstractContextManager[object]]) -> Callable[[], None]:
        def run() -> None:
            with context(), torch.set_grad_enabled(training):
                out = model(image, keep_ratio).logits
                if optimizer is not None:
                    out.square().mean().backward()
                    optimizer.step()
                    optimizer.zero_grad()

        return run

    contexts = undone(model, optimizer)
    works = {choice: work(context) for choice, context in contexts.items()}
    rate = MatrixRate()
    with kept_memory():
        kept = _run(works, rounds, rate)
    fresh = _run({AS_IS: works[AS_IS]}, rounds, rate)
    kept["memory kept"] = fresh[AS_IS]
    whole = kept[AS_IS]
    return {
        choice: {"seconds": median(seconds), "times": median(seconds) / median(whole)}
        for choice, seconds in kept.items()
    }


def _run(
    works: dict[str, Callable[[], None]], rounds: int, rate: MatrixRate
) -> dict[str, list[float]]:
    turns = take_turns("choices", works, rounds, rate)
    while True:
        try:
            next(turns)
        except StopIteration as over:
            return {choice: seconds["total"] for choice, seconds in over.value.items()}


def every_cell(lowest: Tensor, highest: Tensor) -> Tensor:
    """Take all cells for such as hold more classes than one."""
    return torch.ones(lowest.shape[:3], dtype=torch.bool).nonzero()


def own_voxels(windowed: Windowed, start: tuple[int, int, int]) -> bool:
    """Look through the voxels of each window by itself for anything but background."""
    window = windowed.grid.cut(windowed.image, start)
    return bool((window != windowed.background).any())


def small_windows() -> tuple[Volume, SCD]:
    """Make a volume of many small windows, and the network for it."""
    kind = LabelClass(value=1, name="one", color=(255, 0, 0))
    model = drawn(preset("nano"), ModelInfo(name="nano", channels=("a",), classes=(kind,))).eval()
    noise = np.random.default_rng(0).normal(size=(1, 160, 160, 128)).astype(np.float32)
    return Volume(noise, np.eye(4), "noise"), model


def measure_volumes(rounds: int) -> dict[str, dict[str, float]]:
    """Time whole volumes in memory: the sample brain, and one of many small windows."""
    brain, network = read_volume(sample_path()), load_model("brain-structures")
    noise, nano = small_windows()
    changes: dict[str, tuple[str, Callable[[], AbstractContextManager[object]]]] = {
        AS_IS: ("brain", nullcontext),
        "labels between unlike voxels alone": (
            "brain",
            lambda: patch.object(InputGrid, "_mixed", staticmethod(every_cell)),
        ),
        f"{AS_IS}, small windows": ("noise", nullcontext),
        "memory kept": ("noise", lambda: patch.object(infer, "kept_memory", nullcontext)),
        "small windows several at once": (
            "noise",
            lambda: patch.object(run_module, "windows_at_once", lambda *_: 1),
        ),
        "background looked for once": (
            "noise",
            lambda: patch.object(Windowed, "is_foreground", own_voxels),
        ),
    }

    def work(
        scan: str, context: Callable[[], AbstractContextManager[object]]
    ) -> Callable[[], None]:
        volume, model = (brain, network) if scan == "brain" else (noise, nano)

        def run() -> None:
            with context():
                infer.segment(volume, model, 0.25)

        return run

    seconds: dict[str, list[float]] = {}
    for scan in ("brain", "noise"):  # each by itself: a large volume slows what comes after it
        works = {choice: work(*change) for choice, change in changes.items() if change[0] == scan}
        seconds |= _run(works, rounds, MatrixRate())
    whole = {"brain": seconds[AS_IS], "noise": seconds[f"{AS_IS}, small windows"]}
    return {
        choice: {"seconds": median(s), "times": median(s) / median(whole[changes[choice][0]])}
        for choice, s in seconds.items()
    }


def main() -> None:
    """Print a table, and write it if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="brain-structures")
    parser.add_argument("--keep-ratio", type=float, default=0.25)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--training", action="store_true", help="a step instead of a pass")
    parser.add_argument("--volume", action="store_true", help="whole volumes instead of a window")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.set_flush_denormal(True)
    measured = (
        measure_volumes(given.rounds)
        if given.volume
        else measure(given.preset, given.keep_ratio, given.rounds, given.training)
    )
    for choice, figures in measured.items():
        print(f"{choice:38} {figures['seconds']:.3f} s  x {figures['times']:.2f}")
    if given.json:
        names = ("preset", "keep_ratio", "threads", "training", "volume")
        what = {name: getattr(given, name) for name in names}
        given.json.write_text(json.dumps({**what, "undone": measured}, indent=1))


if __name__ == "__main__":
    main()
