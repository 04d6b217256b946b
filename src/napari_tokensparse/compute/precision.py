"""Whether a CPU computes faster in bfloat16: asked of the processor, then measured."""

from __future__ import annotations

import time
from functools import cache
from typing import Literal

import torch
from torch.nn import functional as F

from napari_tokensparse.model.layers.operators import operator

Precision = Literal["auto", "float32", "bfloat16"]

_GAIN = 1.2  # that bfloat16 must bring to be worth its fewer digits
_ROUNDS = 12


@cache
def bfloat16_gain() -> float:
    """Measure how many times as fast a 3 x 3 x 3 convolution is in bfloat16 as in float32.

    On this CPU, with torch's present number of threads, forwards; 0 where torch's own check finds
    no instructions for it. It takes some hundredths of a second, once in a process.
    """
    has_instructions = operator("torch.ops.mkldnn._is_mkldnn_bf16_supported")
    if has_instructions is not None and not has_instructions():
        return 0.0
    taken: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for _ in range(_ROUNDS):  # in turns, so that what else the machine does slows both
        for dtype, seconds in taken.items():
            seconds.append(_seconds(dtype))
    return min(taken[torch.float32]) / min(taken[torch.bfloat16])


def mixed_precision(device: str, precision: Precision) -> str:
    """Choose what Accelerate calls the mixed precision of a run.

    Parameters
    ----------
    device
        ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    precision
        ``float32`` everywhere; ``bfloat16`` but for norms, scores and losses; ``auto``: bfloat16
        (or, on an older one, float16) on a CUDA GPU, and on a CPU where it is measured to be
        faster.

    Returns
    -------
    str
        ``no``, ``bf16`` or ``fp16``.
    """
    if precision != "auto":
        return "bf16" if precision == "bfloat16" else "no"
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "bf16" if device == "cpu" and bfloat16_gain() >= _GAIN else "no"


def _seconds(dtype: torch.dtype) -> float:
    """Time a convolution of 16 channels, channels last, after one that warms up."""
    laid = {"memory_format": torch.channels_last_3d}
    maps = torch.ones(1, 16, 32, 32, 32, dtype=dtype).to(**laid)  # type: ignore[call-overload]
    kernel = torch.ones(16, 16, 3, 3, 3, dtype=dtype).to(**laid)  # type: ignore[call-overload]
    with torch.inference_mode():
        F.conv3d(maps, kernel, padding=1)
        began = time.perf_counter()
        F.conv3d(maps, kernel, padding=1)
        return time.perf_counter() - began
