"""AdamW with layer-wise step sizes, and the schedule of the step size."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.training.trainconfig import TrainConfig

# The gradients of the score predictors come through a softmax over all live tokens and are of
# order 1e-12: with Adam's usual 1e-8 the predictors would not move.
_EPS = 1e-16
_BLOCK = re.compile(r"encoder\.blocks\.(\d+)\.")
_EMBEDDINGS = ("encoder.patch_embed.", "encoder.cls_token", "encoder.pos_embed")


def make_optimizer(model: SCD, config: TrainConfig) -> torch.optim.AdamW:
    """Make AdamW with one parameter group per step size and decay."""
    groups: dict[tuple[float, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        scale = lr_scale(name, model.config.depth, config.layer_decay)
        decayed = parameter.ndim > 1 and not name.endswith(".bias")
        groups.setdefault((scale, decayed), []).append(parameter)
    parts: list[dict[str, Any]] = [
        {"params": p, "lr_scale": scale, "weight_decay": config.weight_decay * decayed}
        for (scale, decayed), p in groups.items()
    ]
    how: dict[str, Any] = {"betas": config.betas, "eps": _EPS, "fused": True}
    return torch.optim.AdamW(parts, lr=config.lr, **how)


def lr_scale(name: str, depth: int, layer_decay: float) -> float:
    """Step size of a parameter relative to the head's (layer-wise decay, as in BEiT and MAE).

    Parameters
    ----------
    name
        Of the parameter in an `SCD` network.
    depth
        Number n of encoder blocks: block i gets ``layer_decay ** (n - i)``, the embeddings
        ``layer_decay ** (n + 1)``, everything else 1.
    layer_decay
        In (0, 1].
    """
    if name.startswith(_EMBEDDINGS):
        return layer_decay ** (depth + 1)
    block = _BLOCK.match(name)
    return layer_decay ** (depth - int(block[1])) if block else 1.0


def learning_rate(config: TrainConfig, step: int, share: float) -> float:
    """Step size at a 0-based step, with a share in [0, 1] of the run behind it."""
    warm = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    if config.schedule == "constant":
        return config.lr * warm * min(1.0, (1.0 - share) / max(config.cooldown, 1e-9))
    start = config.warmup_steps / config.steps if config.steps else 0.0
    progress = min(max((share - start) / max(1.0 - start, 1e-9), 0.0), 1.0)
    return config.lr * warm * 0.5 * (1.0 + math.cos(math.pi * progress))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every parameter group its share of a step size."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
