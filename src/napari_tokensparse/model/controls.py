"""Controls: what a learned pruning must beat before it means anything.

Each gives scores ``(B, L)`` for `SCD.forward`'s ``token_scores``, in the predictors' form: a
logarithm of something in (0, 1), so that ``exp(score)`` is shown like an importance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

Scorer = Literal["learned", "random", "intensity", "foreground"]
SCORERS: tuple[Scorer, ...] = ("learned", "random", "intensity", "foreground")


def control_scores(
    scorer: Scorer, image: Tensor, patch_size: int, background: float, generator: torch.Generator
) -> Tensor | None:
    """Score the tokens of windows without the model.

    Parameters
    ----------
    scorer
        ``random``; ``intensity``, the patch's mean, standardised within its window;
        ``foreground``, the patch's share of voxels that are not background; or ``learned``, which
        leaves scoring to the model's predictors.
    image
        ``(B, C, h, w, d)``, preprocessed.
    patch_size
        Token edge in voxels.
    background
        Intensity of background.
    generator
        Source of the random scores, on the CPU.

    Returns
    -------
    Tensor or None
        ``(B, L)`` in grid order; None for ``learned``.
    """
    if scorer == "learned":
        return None
    if scorer == "intensity":
        return F.logsigmoid(_standardised(_patch_means(image, patch_size)))
    if scorer == "foreground":
        return F.logsigmoid(_patch_means((image != background).float(), patch_size))
    shape = _patch_means(image, patch_size).shape
    return torch.rand(shape, generator=generator).log().to(image.device)


def _patch_means(image: Tensor, patch_size: int) -> Tensor:
    """Average over each patch and over channels: ``(B, L)`` in grid order."""
    return F.avg_pool3d(image, patch_size).mean(dim=1).flatten(1)


def _standardised(values: Tensor) -> Tensor:
    """Centre and scale each row: raw intensities would saturate the sigmoid and all be equal."""
    spread = values.std(dim=1, correction=0, keepdim=True).clamp(min=torch.finfo(values.dtype).tiny)
    return (values - values.mean(dim=1, keepdim=True)) / spread
