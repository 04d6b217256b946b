"""Losses of a batch of windows, each window for itself.

The loss of a batch is the mean over its windows, so it does not depend on how windows are grouped
into batches or processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from monai.losses.dice import DiceLoss
from torch.nn import functional as F

from napari_tokensparse.data.sampling import UNLABELLED

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

# Squared denominator and smoothing are the paper's.
_DICE: dict[str, Any] = {"squared_pred": True, "smooth_nr": 0.0, "smooth_dr": 1e-6}


def make_loss(name: str, class_weights: Tensor | None = None) -> Callable[[Tensor, Tensor], Tensor]:
    """Make the loss of a config's name.

    Parameters
    ----------
    name
        ``dice-ce`` for exclusive classes: targets ``(B, h, w, d)`` int64, -1 where unlabelled.
        ``dice`` for overlapping regions: targets ``(B, K, h, w, d)`` of 0 and 1.
    class_weights
        ``(K,)`` weights in the cross-entropy.

    Returns
    -------
    callable
        From logits ``(B, K, h, w, d)`` and targets to the mean over the windows, a scalar.
    """
    if name == "dice":
        return DiceLoss(sigmoid=True, **_DICE)
    dice = DiceLoss(to_onehot_y=True, softmax=True, ignore_index=UNLABELLED, **_DICE)

    def dice_ce(logits: Tensor, target: Tensor) -> Tensor:
        if not bool((target != UNLABELLED).any()):
            return logits.sum() * 0.0
        weights = None if class_weights is None else class_weights.to(logits.device)
        entropy = F.cross_entropy(logits, target, weights, ignore_index=UNLABELLED)
        overlap: Tensor = dice(logits, target[:, None])
        return overlap + entropy

    def each(logits: Tensor, target: Tensor) -> Tensor:
        windows = range(len(logits))
        return torch.stack([dice_ce(logits[n : n + 1], target[n : n + 1]) for n in windows]).mean()

    return each
