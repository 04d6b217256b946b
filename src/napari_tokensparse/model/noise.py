"""Training noise whose source is one generator, or one per sample.

With one per sample a sample's noise does not depend on what it is batched with, nor on the process
or device that runs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

Noise = torch.Generator | Sequence[torch.Generator] | None
"""Where noise comes from; the global generator if None."""


def exponential(like: Tensor, noise: Noise) -> Tensor:
    """Draw standard exponential values shaped like ``(B, ...)``."""
    return _draw(like, lambda rows, generator: rows.exponential_(generator=generator), noise)


def bernoulli(like: Tensor, chance: float, noise: Noise) -> Tensor:
    """Draw ones with a chance, else zeros, shaped like ``(B, ...)``."""
    return _draw(like, lambda rows, generator: rows.bernoulli_(chance, generator=generator), noise)


def _draw(
    like: Tensor, fill: Callable[[Tensor, torch.Generator | None], Tensor], noise: Noise
) -> Tensor:
    if noise is None:
        return fill(torch.empty_like(like), None)
    if isinstance(noise, torch.Generator):
        return fill(torch.empty_like(like, device=noise.device), noise).to(like.device)
    if len(noise) != len(like):
        raise ValueError(f"{len(noise)} generators for {len(like)} samples: give one for each")
    rows = [fill(torch.empty_like(r, device=g.device), g) for r, g in zip(like, noise, strict=True)]
    return torch.stack(rows).to(like.device)


def keyed_generator(seed: int, *key: int) -> torch.Generator:
    """Make the random generator of a key, independent of all other keys.

    Parameters
    ----------
    seed, *key : int
        The key, none of them negative.

    Returns
    -------
    torch.Generator
    """
    state = np.random.SeedSequence((seed, *key)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
