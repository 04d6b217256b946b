"""One pruning stage of the encoder: it scores the live tokens and keeps the best (section 3.2)."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from napari_tokensparse.model.layers.blocks import LAYER_NORM_EPS
from napari_tokensparse.model.tokens import (
    gumbel_like,
    soft_threshold_mask,
    soft_top_k_mask,
    split_top_k,
    take,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from torch import Tensor

    from napari_tokensparse.model.config import PredictorName, RelaxationName, SCDConfig
    from napari_tokensparse.model.noise import Noise


class MlpPredictor(nn.Module):
    """Score tokens from their own features and the mean of the live ones.

    Parameters
    ----------
    dim
        Token width E, a multiple of 4.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.embed = nn.Linear(dim, dim)
        self.head = nn.Sequential(
            nn.Linear(dim, dim // 2),
            nn.GELU(),
            nn.Linear(dim // 2, dim // 4),
            nn.GELU(),
            nn.Linear(dim // 4, 1),
        )

    def forward(self, tokens: Tensor, cls: Tensor) -> Tensor:
        """Score live patch tokens.

        Parameters
        ----------
        tokens
            ``(B, L, E)`` live patch tokens, CLS left out.
        cls
            ``(B, 1, E)``, not used.

        Returns
        -------
        Tensor
            ``(B, L)`` log-sigmoid scores in float32: ``exp(score)`` is the importance in (0, 1).
        """
        with _full_precision(tokens):
            x = F.gelu(self.embed(self.norm(tokens.to(self.embed.weight.dtype))))
            local, pooled = x.chunk(2, dim=-1)
            shared = pooled.mean(dim=1, keepdim=True).expand_as(pooled)
            x = self.head(torch.cat([local, shared], dim=-1))
            return F.logsigmoid(x.squeeze(-1))


class AttentionPredictor(nn.Module):
    """Score tokens by how well they match the CLS token.

    Parameters
    ----------
    dim
        Token width E; tokens are compared at a sixth of it.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.linear = nn.Linear(dim, dim // 6)

    def forward(self, tokens: Tensor, cls: Tensor) -> Tensor:
        """Score live patch tokens.

        Parameters
        ----------
        tokens
            ``(B, L, E)`` live patch tokens, CLS left out.
        cls
            ``(B, 1, E)``.

        Returns
        -------
        Tensor
            ``(B, L)`` log-sigmoid scores in float32.
        """
        with _full_precision(tokens):
            keys, query = (self.linear(x.to(self.linear.weight.dtype)) for x in (tokens, cls))
            return F.logsigmoid((keys * query).sum(dim=-1) * self.scale)


def _full_precision(tokens: Tensor) -> AbstractContextManager[object]:
    """Switch autocast off; the meta device has none."""
    kind = tokens.device.type
    return nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False)


def make_predictor(name: PredictorName, dim: int) -> MlpPredictor | AttentionPredictor:
    """Make the predictor of a config's name."""
    return MlpPredictor(dim) if name == "mlp" else AttentionPredictor(dim)


@dataclass(frozen=True)
class Live:
    """Live patch tokens on their way through the encoder.

    Attributes
    ----------
    tokens, ids
        ``(B, n, E)`` and their grid ids ``(B, n)``, ascending.
    weight
        ``(B, n)`` product of the straight-through masks so far: all ones, and the road by which
        gradients reach the predictors; None before the first stage and outside training.
    """

    tokens: Tensor
    ids: Tensor
    weight: Tensor | None = None


@dataclass(frozen=True)
class StageOutput:
    """What a stage gives.

    Attributes
    ----------
    live
        The tokens that stay.
    pruned, pruned_ids
        The others, ``(B, m, E)`` and ``(B, m)``.
    scores
        ``(B, n)`` of all that reached the stage.
    mask
        ``(B, n)``: 1 where a token stays, 0 where it is pruned; straight-through in training.
    places
        ``(B, k)`` of those that stay, in the order of the tokens that reached the stage.
    """

    live: Live
    pruned: Tensor
    pruned_ids: Tensor
    scores: Tensor
    mask: Tensor
    places: Tensor


_RELAXATIONS: dict[RelaxationName, Callable[[Tensor, Tensor, float], Tensor]] = {
    "softmax": soft_top_k_mask,
    "threshold": soft_threshold_mask,
}


class Stage(nn.Module):
    """Keep the best live tokens, hand on the rest.

    Parameters
    ----------
    config
        Sizes, noise, relaxation and temperature.
    number
        Of this stage, from 0; with a shared predictor only the first has one.
    """

    def __init__(self, config: SCDConfig, number: int = 0) -> None:
        super().__init__()
        scores = number == 0 or not config.share_predictor
        self.perturbation = config.perturbation
        self.tau = config.tau
        self.relaxed = _RELAXATIONS[config.relaxation]
        self.predictor = make_predictor(config.predictor, config.embed_dim) if scores else None
        forgotten = number < config.forgotten_stages
        norm = nn.LayerNorm(config.embed_dim, eps=LAYER_NORM_EPS)
        self.pruned_norm: nn.Module = nn.Identity() if forgotten else norm

    def forward(self, live: Live, scores: Tensor, k: int, noise: Noise = None) -> StageOutput:
        """Keep the ``k`` tokens with the best scores ``(B, n)``."""
        if self.training:
            return self._soft_split(live, scores, k, noise)
        return self.split(live, scores, *split_top_k(scores, k))

    def split(self, live: Live, scores: Tensor, kept: Tensor, pruned: Tensor) -> StageOutput:
        """Keep the tokens at the positions ``kept`` ``(B, k)``, hand on those at ``pruned``."""
        stays = Live(take(live.tokens, kept), live.ids.gather(1, kept))
        gone = self.pruned_norm(take(live.tokens, pruned))
        mask = torch.zeros_like(scores).scatter(1, kept, 1.0)
        return StageOutput(stays, gone, live.ids.gather(1, pruned), scores, mask, kept)

    def _soft_split(self, live: Live, scores: Tensor, k: int, noise: Noise) -> StageOutput:
        noisy = scores
        if self.perturbation == "gumbel":
            noisy = scores + gumbel_like(scores, noise)
        kept, pruned = split_top_k(noisy.detach(), k)
        mask = self.relaxed(noisy, kept, self.tau)
        before = torch.ones_like(mask) if live.weight is None else live.weight
        weight = (before * mask).gather(1, kept)
        gone_weight = (before * (1.0 - mask)).gather(1, pruned)
        stays = take(live.tokens, kept) * weight[..., None]
        gone = self.pruned_norm(take(live.tokens, pruned) * gone_weight[..., None])
        return StageOutput(
            Live(stays, live.ids.gather(1, kept), weight),
            gone,
            live.ids.gather(1, pruned),
            scores,
            mask,
            kept,
        )
