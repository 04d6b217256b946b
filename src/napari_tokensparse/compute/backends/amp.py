"""Half precision on a GPU, once it has been shown to give what float32 gives."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch

from napari_tokensparse.compute.backends.base import PLAIN, Backend

if TYPE_CHECKING:
    from napari_tokensparse.model.scd import SCD

AMP = "amp"
TOLERANCE = 0.02
"""Most that the logits may differ from those in float32, as a share of their size (both root mean
squares), for the same tokens. bfloat16 keeps about three digits; a wrong kernel is far outside."""

_differences: WeakKeyDictionary[SCD, dict[tuple[str, torch.dtype], float]] = WeakKeyDictionary()


def amp_backend(
    model: SCD, dtype: torch.dtype | None = None, tolerance: float = TOLERANCE
) -> Backend:
    """Run a model in half precision if it gives what float32 gives, else in float32.

    Some versions of cuDNN convolve volumes wrongly in half precision, so this is tried once for
    each device and model.

    Parameters
    ----------
    model
        On its device.
    dtype
        Half precision; bfloat16 where the GPU has it, else float16, if not given.
    tolerance
        As `TOLERANCE`.
    """
    chosen = dtype or (torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16)
    half = Backend(AMP, model, autocast=chosen)
    difference = _difference(model, half)
    if difference <= tolerance:  # not so for NaN
        return half
    said = str(chosen).removeprefix("torch.")
    note = (
        f"{said} on {_device(model)} gives other logits than float32 (by {difference:.2g} of their "
        f"size, at most {tolerance:g} is allowed): running in float32"
    )
    return Backend(PLAIN, model, (note,))


def _difference(model: SCD, half: Backend) -> float:
    known = _differences.setdefault(model, {})
    assert half.autocast is not None
    case = (str(_device(model)), half.autocast)
    if case not in known:
        known[case] = _measured(model, half)
    return known[case]


def _measured(model: SCD, half: Backend) -> float:
    """Compare on one window of noise, pruned by scores that are given, so that ids agree."""
    config, device = model.config, _device(model)
    generator = torch.Generator().manual_seed(0)
    window = torch.randn(1, config.in_channels, *config.window, generator=generator).to(device)
    h, w, d = config.grid
    scores = torch.rand(1, h * w * d, generator=generator).log().to(device)
    exact = Backend(PLAIN, model)(window, token_scores=scores).logits
    other = half(window, token_scores=scores).logits
    return float((other - exact).square().mean().sqrt() / exact.square().mean().sqrt())


def _device(model: SCD) -> torch.device:
    return next(model.parameters()).device
