"""Whether a CPU computes faster in bfloat16: asked of the processor, then measured.

Training and segmenting both ask here. `bfloat16_gain` is the sieve, of one convolution; whether a
whole network gains, and keeps its labels, is tried by `napari_tokensparse.compute.backends.trial`.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch.nn import functional as F

from napari_tokensparse.common.cache import cache_folder
from napari_tokensparse.common.files import written_whole
from napari_tokensparse.compute.machine import describe_machine
from napari_tokensparse.model.layers.convolution import CpuConv
from napari_tokensparse.model.layers.layout import channels_last
from napari_tokensparse.model.layers.operators import operator

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

Precision = Literal["auto", "float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("auto", "float32", "bfloat16")

GAIN = 1.2
"""That bfloat16 must bring to be worth its fewer digits."""
_ROUNDS = 12
_FIRST_LOOK = 3  # rounds after which what is hopeless is left
_HOPELESS = 0.9


@cache
def bfloat16_gain() -> float:
    """Measure how many times as fast a 3 x 3 x 3 convolution is in bfloat16 as in float32.

    On this CPU, with torch's present number of threads, forwards; 0 where the processor has no
    instructions for it. It takes some hundredths of a second, once on a machine: what is computed
    does not depend on how busy it is.
    """
    return _kept_gain(_convolution) if has_bfloat16() else 0.0


@cache
def attention_gain() -> float:
    """Measure how many times as fast attention is in bfloat16 as in float32, on this CPU."""
    return _kept_gain(_attention) if has_bfloat16() else 0.0


@cache
def has_bfloat16() -> bool:
    """Ask the processor for instructions on bfloat16: AVX512-BF16 or AMX, or those of Arm."""
    supported = operator("torch.ops.mkldnn._is_mkldnn_bf16_supported")
    if supported is not None and not supported():
        return False
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # of newer torch
    if known.get("architecture") != "x86_64":
        return True
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


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
    return "bf16" if device == "cpu" and bfloat16_gain() >= GAIN else "no"


def _kept_gain(prepared: Callable[[torch.dtype], Callable[[], Tensor]]) -> float:
    """Return what was measured before on this machine, with so many threads, or measure it."""
    said = describe_machine()
    known = (
        prepared.__name__,
        *(said[name] for name in ("cpu", "instructions", "threads", "torch")),
    )
    key = hashlib.sha256(repr(known).encode()).hexdigest()
    file = cache_folder("bfloat16") / f"{key}.txt"
    with suppress(OSError, ValueError):  # it is not there, or no longer what it was
        return float(file.read_text(encoding="ascii"))
    gain = _gain(prepared)
    with suppress(OSError):  # a cache that cannot be written to is none
        file.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(file) as part:
            part.write_text(repr(gain), encoding="ascii")
    return gain


def _gain(prepared: Callable[[torch.dtype], Callable[[], Tensor]]) -> float:
    """Time a piece of work in both types, in turns: what else the machine does slows both."""
    works = [prepared(dtype) for dtype in (torch.float32, torch.bfloat16)]
    best = [float("inf")] * 2
    with torch.inference_mode():
        for work in works:
            work()
        for done in range(_ROUNDS):
            for n, work in enumerate(works):
                began = time.perf_counter()
                work()
                best[n] = min(best[n], time.perf_counter() - began)
            if done + 1 >= _FIRST_LOOK and best[0] < _HOPELESS * best[1]:
                break
    return best[0] / best[1]


def _convolution(dtype: torch.dtype) -> Callable[[], Tensor]:
    """Prepare a convolution of 16 channels, channels last, by the layer that networks have.

    torch's own would not hand so small a map of float32 to oneDNN.
    """
    bare = CpuConv(16, 16, 3, padding=1, bias=False, device="meta")  # draws no numbers
    bare.load_state_dict({"weight": torch.ones(16, 16, 3, 3, 3, dtype=dtype)}, assign=True)
    layer = channels_last(bare.requires_grad_(False))
    maps = torch.ones(1, 16, 32, 32, 32, dtype=dtype)
    laid = maps.to(memory_format=torch.channels_last_3d)
    return lambda: cast("Tensor", layer(laid))


def _attention(dtype: torch.dtype) -> Callable[[], Tensor]:
    """Prepare attention among 512 tokens, of 12 heads."""
    tokens = torch.ones(1, 12, 512, 64, dtype=dtype)
    return lambda: F.scaled_dot_product_attention(tokens, tokens, tokens)
