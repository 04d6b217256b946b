"""Elastic training: one checkpoint for every keep ratio.

A step draws its keep ratio anew; at a share of the steps both ends of the range are run as well
(the sandwich rule: Yu and Huang, "Universally slimmable networks", ICCV 2019), and the pass that
prunes least teaches the others. The scores may be told which patches hold something. In a share of
the passes tokens are pinned, as a person may, and in another they are kept by their importance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from napari_tokensparse.datasets.sampling import UNLABELLED
from napari_tokensparse.model.ratios import KEEP, Importance
from napari_tokensparse.training.losses import rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from napari_tokensparse.model.encoder import TokenTrace
    from napari_tokensparse.training.trainconfig import TrainConfig

_PIN_REACH = 3.5  # tokens
_LEAST, _MOST = 0.01, 0.2  # of the least importances


def keep_ratios_of_step(config: TrainConfig, generator: torch.Generator) -> tuple[float, ...]:
    """Draw the keep ratios at which a step runs its windows.

    Returns
    -------
    tuple of float
        One ratio, log-uniform over the config's range; or, at the share ``sandwich`` of the steps,
        the upper end of the range, one drawn like that, and the lower end.
    """
    low, high = config.keep_range
    place, chance = torch.rand(2, generator=generator).tolist()
    # Not through a logarithm: k = int(live * ratio) needs a range of one point as it is.
    drawn = float(low * (high / low) ** place)
    return (high, drawn, low) if chance < config.sandwich else (drawn,)


def rule_of_pass(ratio: float, share: float, generator: torch.Generator) -> float | Importance:
    """Draw how a pass chooses its tokens: by its keep ratio, or by their importance.

    Parameters
    ----------
    ratio
        Keep ratio, in (0, 1].
    share
        Chance, in [0, 1], of importance; the least of it is log-uniform.
    generator
        Source of the randomness.
    """
    place, chance = torch.rand(2, generator=generator).tolist()
    return Importance(_LEAST * (_MOST / _LEAST) ** place) if chance < share else ratio


def random_pins(
    content: Tensor, grid: Sequence[int], share: float, generator: torch.Generator
) -> Tensor:
    """Draw the tokens that are pinned in a window, as one who brings back what was lost would.

    Parameters
    ----------
    content
        ``(L,)`` of a window, from `token_targets`.
    grid
        Token grid.
    share
        Chance, in [0, 1], that any token is pinned.
    generator
        Source of the randomness.

    Returns
    -------
    Tensor
        ``(L,)`` int8 pins on the content's device: the tokens up to some tokens away from one that
        holds what is to be found, or, as often, those of them alone that hold it too.
    """
    chance, reach, alone = torch.rand(3, generator=generator).tolist()
    if chance >= share:
        return torch.zeros_like(content, dtype=torch.int8)
    held = content.cpu() > 0
    centre = (torch.rand(content.shape, generator=generator) + held).argmax()
    axes = torch.meshgrid(*(torch.arange(float(n)) for n in grid), indexing="ij")
    places = torch.stack([axis.flatten() for axis in axes], dim=1)
    near = (places - places[centre]).square().sum(dim=1) <= (_PIN_REACH * reach) ** 2
    pins: Tensor = KEEP * (near & (held | (alone < 0.5))).to(torch.int8)
    return pins.to(content.device)


def make_distillation(
    name: str, class_weights: Tensor | None = None
) -> Callable[[Tensor, Tensor], Tensor]:
    """Make the loss of a pass against the one that prunes least.

    Parameters
    ----------
    name
        ``dice-ce`` (exclusive classes) or ``dice`` (overlapping regions), as in `make_loss`.
    class_weights
        ``(K,)`` weights of exclusive classes.

    Returns
    -------
    callable
        From the logits and the teacher's logits, both ``(B, K, h, w, d)``, to the mean
        cross-entropy with the teacher's probabilities; the teacher gets no gradient.
    """

    def exclusive(logits: Tensor, teacher: Tensor) -> Tensor:
        weights = None if class_weights is None else class_weights.to(logits.device)
        return F.cross_entropy(rows_of(logits), rows_of(teacher.detach()).softmax(dim=1), weights)

    def regions(logits: Tensor, teacher: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, teacher.detach().sigmoid())

    return regions if name == "dice" else exclusive


def patch_shares(target: Tensor, patch_size: int, classes: int) -> tuple[Tensor, Tensor]:
    """Return which share of each patch every class or region has.

    Parameters
    ----------
    target
        ``(B, h, w, d)`` classes, 0 background and -1 unlabelled, or ``(B, K, h, w, d)`` regions of
        0 and 1 or shares of classes.
    patch_size
        Token edge in voxels.
    classes
        Number of exclusive classes, background included, or of regions.

    Returns
    -------
    shares
        ``(B, K, L)`` in grid order, of the patch's voxels.
    labelled
        ``(B, L)`` share of voxels that are labelled.
    """
    if target.ndim == 5:
        held = F.avg_pool3d(target.float(), patch_size).flatten(2)
        return held, torch.ones_like(held[:, 0])
    known = F.avg_pool3d((target != UNLABELLED).float()[:, None], patch_size)[:, 0].flatten(1)
    return _patch_counts(target, patch_size, classes) / patch_size**3, known


def token_targets(target: Tensor, patch_size: int, classes: int) -> tuple[Tensor, Tensor]:
    """Say how much of what is to be found each patch holds.

    Parameters
    ----------
    target
        As in `patch_shares`; floating ones are shares of classes.
    patch_size
        Token edge in voxels.
    classes
        Number of exclusive classes, background included.

    Returns
    -------
    content
        ``(B, L)`` in [0, 1], grid order: the square root of the shares of every class's or region's
        voxels that the patch holds, summed and divided by the richest patch's. So a patch with a
        whole small structure counts more than one full of a large one, as in a mean Dice.
    labelled
        ``(B, L)`` share of voxels that are labelled.
    """
    shares, labelled = patch_shares(target, patch_size, classes)
    if target.ndim == 4 or target.is_floating_point():
        shares = shares[:, 1:]
    of_class = shares / shares.sum(dim=2, keepdim=True).clamp(min=1e-9)
    summed = of_class.sum(dim=1)
    richest = summed.amax(dim=1, keepdim=True).clamp(min=1e-9)
    return (summed / richest).sqrt(), labelled


def _patch_counts(target: Tensor, patch_size: int, classes: int) -> Tensor:
    """Count the voxels of each class in each patch: ``(B, K, L)``."""
    b, *shape = target.shape
    tokens = [n // patch_size for n in shape]
    patches = target.reshape(b, *(n for t in tokens for n in (t, patch_size)))
    patches = patches.permute(0, 1, 3, 5, 2, 4, 6).reshape(b, -1, patch_size**3)
    counts = torch.zeros(b, patches.shape[1], classes, device=target.device)
    counts.scatter_add_(2, patches.clamp(min=0), (patches >= 0).float())
    return counts.transpose(1, 2)


def score_loss(trace: TokenTrace, content: Tensor, labelled: Tensor) -> Tensor:
    """Cross-entropy of the importances with what the patches hold, the mean over the stages.

    Parameters
    ----------
    trace
        Of the pass.
    content, labelled
        From `token_targets`, of the whole grid; tokens without a labelled voxel are left out.
    """
    losses = []
    for stage, scores in enumerate(trace.scores):
        live = torch.cat([*trace.pruned[stage:], trace.kept], dim=1).sort(dim=1).values
        wanted, weight = content.gather(1, live), labelled.gather(1, live)
        kept = scores.clamp(max=-1e-6)  # log(1 - importance) of a certain token is not finite
        entropy = -(wanted * kept + (1 - wanted) * torch.log(-torch.expm1(kept)))
        losses.append((entropy * weight).sum() / weight.sum().clamp(min=1e-9))
    return torch.stack(losses).mean() if losses else content.new_zeros(())
