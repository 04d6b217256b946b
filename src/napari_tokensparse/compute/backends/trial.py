"""Whether a backend is faster than another one here, and gives the same labels: tried once.

On the window of the sample brain that holds most, preprocessed as the model says. That is the
bundled model's own sample, and a stand-in for what other models see. What came out is kept in the
user's cache, for a network, a processor and a number of threads.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, ValidationError

from napari_tokensparse.common.cache import cache_folder
from napari_tokensparse.common.files import written_whole
from napari_tokensparse.common.untrusted import PlainError
from napari_tokensparse.compute.machine import describe_machine
from napari_tokensparse.volumes.preprocess import preprocess
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.samples import sample_path
from napari_tokensparse.volumes.windows import window_grid

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from napari_tokensparse.compute.backends.base import Backend
    from napari_tokensparse.model.scd import SCD

_FORM = 1  # of the trial: to be counted up when something else is tried
_ROUNDS = 3
_WEIGHTS = 64  # of each array, by which a network is known again


class Trial(BaseModel):
    """What came out.

    Attributes
    ----------
    gain : float
        How many times as fast the other backend is.
    agreement : float
        Share of voxels that get the same label.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    gain: NonNegativeFloat
    agreement: NonNegativeFloat


def trial_of(model: SCD, one: Backend, other: Backend) -> Trial:
    """Return the trial of two backends of a model, and make it if there is none yet.

    Parameters
    ----------
    model
        The model.
    one, other
        Backends of it: is the other one faster, and gives it the same labels?
    """
    file = cache_folder("trials") / f"{_key(model, one, other)}.json"
    with suppress(OSError, ValidationError):  # it is not there, or no longer what it was
        return Trial.model_validate_json(file.read_bytes())
    trial = compared(one, other, sample_window(model))
    with suppress(OSError):  # a cache that cannot be written to is none
        file.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(file) as part:
            part.write_text(trial.model_dump_json(), encoding="utf-8")
    return trial


def compared(
    one: Backend,
    other: Backend,
    window: Tensor,
    clock: Callable[[], float] = time.perf_counter,
) -> Trial:
    """Run both in turns on a window ``(1, C, h, w, d)``, after a round that warms up."""
    same = _codes(one, window) == _codes(other, window)
    best = [float("inf")] * 2
    for _ in range(_ROUNDS):
        for n, backend in enumerate((one, other)):
            began = clock()
            backend(window)
            best[n] = min(best[n], clock() - began)
    return Trial(gain=best[0] / best[1], agreement=float(same.float().mean()))


def sample_window(model: SCD) -> Tensor:
    """Return the window ``(1, C, h, w, d)`` of the sample brain that holds most.

    Every channel is given the same brain. Noise stands in where a model says nothing of its
    preprocessing, or cannot preprocess the sample.
    """
    config = model.config
    if model.has_info:
        sample = read_volume(sample_path())
        channels = np.repeat(sample.array, config.in_channels, axis=0)
        with suppress(PlainError):
            image = preprocess(replace(sample, array=channels), model.info.preprocessing).image
            grid = window_grid(image.shape[1:], config.window, config.patch_size, 0.5)
            padded = grid.pad(image, model.info.background)
            windows = (grid.cut(padded, start) for start in grid.starts)
            held = [int((each != model.info.background).sum()) for each in windows]
            return grid.cut(padded, grid.starts[held.index(max(held))])[None].contiguous()
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, config.in_channels, *config.window, generator=generator)


def codes(model: SCD, logits: Tensor) -> Tensor:
    """Return of logits ``(B, K, ...)`` which class wins, or which regions there are."""
    exclusive = not model.has_info or model.info.exclusive
    return logits.argmax(dim=1) if exclusive else logits > 0


def _codes(backend: Backend, window: Tensor) -> Tensor:
    """Return the codes of what was looked at."""
    return codes(backend.network, backend(window).inside)


def _key(model: SCD, one: Backend, other: Backend) -> str:
    said = {
        **describe_machine(),
        "form": _FORM,
        "backends": (one.name, other.name),
        "network": model.config.model_dump(),
        "preprocessing": model.info.preprocessing if model.has_info else (),
    }
    said.pop("memory_gb")
    digest = hashlib.sha256(repr(sorted(said.items())).encode())
    for weights in model.parameters():
        flat = weights.detach().cpu().flatten()
        digest.update(flat[:: max(1, len(flat) // _WEIGHTS)].contiguous().numpy().tobytes())
    return digest.hexdigest()
