"""Losses of a batch of windows, each window for itself.

The loss of a batch is the mean over its windows, so it does not depend on how windows are grouped
into batches or processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from monai.losses.dice import DiceLoss
from torch.nn import functional as F

from napari_tokensparse.datasets.sampling import UNLABELLED

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
        ``dice-ce`` for exclusive classes: targets ``(B, h, w, d)`` int64, -1 where unlabelled, or
        ``(B, K, h, w, d)`` floating: the share of each voxel that every class has.
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

    def dice_ce(logits: Tensor, target: Tensor) -> Tensor:
        rows = rows_of(logits[None])
        if target.is_floating_point():
            return _shares_loss(rows, rows_of(target[None]), class_weights)
        truth = target.flatten()
        known = truth != UNLABELLED
        if not bool(known.any()):
            return logits.sum() * 0.0
        if not bool(known.all()):
            rows, truth = rows[known], truth[known]
        weights = None if class_weights is None else class_weights.to(rows.device)
        logs = rows.log_softmax(dim=1)
        return _dice(logs.exp(), truth) + F.nll_loss(logs, truth, weights)

    def each(logits: Tensor, target: Tensor) -> Tensor:
        return torch.stack([dice_ce(x, t) for x, t in zip(logits, target, strict=True)]).mean()

    return each


def rows_of(maps: Tensor) -> Tensor:
    """Lay maps ``(B, K, h, w, d)`` out as a row for each voxel, ``(B * h * w * d, K)``.

    Channels-last maps, as a CPU's network gives them, are not copied for that; a softmax over
    their channels would turn them round first.
    """
    return maps.movedim(1, -1).flatten(0, 3)


def _shares_loss(rows: Tensor, shares: Tensor, class_weights: Tensor | None) -> Tensor:
    """Dice and cross-entropy of rows ``(N, K)`` of logits with the classes' shares ``(N, K)``."""
    shares, logs = shares.to(rows.dtype), rows.log_softmax(dim=1)
    probabilities = logs.exp()
    overlap = (probabilities * shares).sum(dim=0)
    size = (probabilities.square() + shares.square()).sum(dim=0)
    dice = 1.0 - 2.0 * overlap / (size + _DICE["smooth_dr"])
    loss: Tensor = dice.mean() + share_entropy(logs, shares, class_weights)
    return loss


def share_entropy(logs: Tensor, shares: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of log probabilities ``(N, K)`` with shares ``(N, K)``, classes weighted."""
    weighted = shares if class_weights is None else shares * class_weights.to(shares)
    entropy: Tensor = -(weighted * logs).sum() / weighted.sum().clamp(min=1e-9)
    return entropy


def _dice(probabilities: Tensor, truth: Tensor) -> Tensor:
    """Give MONAI's Dice loss of rows ``(N, K)`` and their classes ``(N,)``, without a one-hot."""
    own = probabilities.gather(1, truth[:, None])[:, 0]
    overlap = own.new_zeros(probabilities.shape[1]).index_add(0, truth, own)
    there = torch.zeros_like(overlap).index_add(0, truth, torch.ones_like(own))
    size = probabilities.square().sum(dim=0) + there
    loss: Tensor = 1.0 - 2.0 * overlap / (size + _DICE["smooth_dr"])
    return loss.mean()
