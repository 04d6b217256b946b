"""Sparse encoder: a vision transformer that prunes tokens as it goes (sections 3.1, 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_tokensparse.model.blocks import LAYER_NORM_EPS, Block, init_weights
from napari_tokensparse.model.predictor import MlpPredictor
from napari_tokensparse.model.ratios import live_counts
from napari_tokensparse.model.tokens import (
    gumbel_like,
    soft_top_k_mask,
    split_top_k,
    take,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_tokensparse.model.config import SCDConfig


@dataclass(frozen=True)
class TokenTrace:
    """Which tokens each stage scored, pruned and kept.

    Attributes
    ----------
    scores
        Per stage ``(B, L_live)``, log-sigmoid, live tokens in grid order.
    pruned
        Per stage ``(B, n)`` grid ids pruned there, ascending.
    kept
        ``(B, n)`` grid ids alive at the end, ascending.
    """

    scores: tuple[Tensor, ...]
    pruned: tuple[Tensor, ...]
    kept: Tensor


@dataclass(frozen=True)
class SparseTokens:
    """Tokens leaving the encoder: each stage's pruned ones and the final ones.

    Attributes
    ----------
    pruned
        Per stage ``(B, n, E)``, normed, in grid order.
    final
        ``(B, 1 + n, E)``, normed, CLS first.
    """

    pruned: tuple[Tensor, ...]
    final: Tensor


@dataclass(frozen=True)
class _Live:
    """Live patch tokens on their way through the encoder.

    ``weight`` ``(B, n)`` is the product of the straight-through masks so far: all ones, and the
    road by which gradients reach the predictors.
    """

    tokens: Tensor
    ids: Tensor
    weight: Tensor | None


class Stage(nn.Module):
    """One pruning stage: score, keep the best, hand on the rest."""

    def __init__(self, config: SCDConfig) -> None:
        super().__init__()
        self.perturbation = config.perturbation
        self.tau = config.tau
        self.predictor = MlpPredictor(config.embed_dim)
        self.pruned_norm = nn.LayerNorm(config.embed_dim, eps=LAYER_NORM_EPS)

    def forward(
        self, live: _Live, k: int, generator: torch.Generator | None
    ) -> tuple[_Live, Tensor, Tensor, Tensor]:
        """Return the live tokens that stay, the pruned tokens and their ids, and the scores."""
        scores = self.predictor(live.tokens)
        if not self.training:
            kept, pruned = split_top_k(scores, k)
            stays = _Live(take(live.tokens, kept), live.ids.gather(1, kept), None)
            gone = take(live.tokens, pruned)
        else:
            stays, gone, pruned = self._soft_split(live, scores, k, generator)
        return stays, self.pruned_norm(gone), live.ids.gather(1, pruned), scores

    def _soft_split(
        self, live: _Live, scores: Tensor, k: int, generator: torch.Generator | None
    ) -> tuple[_Live, Tensor, Tensor]:
        if self.perturbation == "gumbel":
            scores = scores + gumbel_like(scores, generator)
        kept, pruned = split_top_k(scores.detach(), k)
        mask = soft_top_k_mask(scores, kept, self.tau)
        before = torch.ones_like(mask) if live.weight is None else live.weight
        weight = (before * mask).gather(1, kept)
        gone = (before * (1.0 - mask)).gather(1, pruned)
        stays = _Live(take(live.tokens, kept) * weight[..., None], live.ids.gather(1, kept), weight)
        return stays, take(live.tokens, pruned) * gone[..., None], pruned


class SparseEncoder(nn.Module):
    """Vision transformer whose stages prune tokens by importance.

    Parameters
    ----------
    config
        Sizes; the position table is made for ``config.window``.
    """

    def __init__(self, config: SCDConfig) -> None:
        super().__init__()
        dim, tokens = config.embed_dim, 1
        for n in config.grid:
            tokens *= n
        self.prune_after = config.prune_after
        self.patch_embed = nn.Conv3d(
            config.in_channels, dim, config.patch_size, stride=config.patch_size
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + tokens, dim))
        rates = [config.drop_path * n / max(config.depth - 1, 1) for n in range(config.depth)]
        self.blocks = nn.ModuleList(Block(dim, config.num_heads, rate) for rate in rates)
        self.stages = nn.ModuleList(Stage(config) for _ in config.prune_after)
        self.norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.blocks.apply(init_weights)  # not the predictors: so small, their scores would be flat
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def embed(self, image: Tensor) -> Tensor:
        """Patch and position embedding: ``(B, C, h, w, d)`` to ``(B, 1 + L, E)``, CLS first."""
        patches = self.patch_embed(image).flatten(2).transpose(1, 2)
        cls = self.cls_token.expand(image.shape[0], -1, -1)
        return torch.cat([cls, patches], dim=1) + self.pos_embed

    def forward(
        self, image: Tensor, ratios: Sequence[float], generator: torch.Generator | None = None
    ) -> tuple[SparseTokens, TokenTrace]:
        """Encode a window, pruning at each stage.

        Parameters
        ----------
        image
            ``(B, C, h, w, d)`` of the config's window.
        ratios
            Keep ratio per stage, in (0, 1].
        generator
            Source of the training noise; the global one if not given.
        """
        x = self.embed(image)
        b, n = x.shape[0], x.shape[1] - 1
        live = _Live(x[:, 1:], torch.arange(n, device=x.device).expand(b, -1), None)
        keep = iter(live_counts(n, ratios)[1:])
        stages = dict(zip(self.prune_after, self.stages, strict=True))
        scores, pruned, pruned_ids = [], [], []
        for index, block in enumerate(self.blocks):
            x = block(x, generator)
            if index in stages:
                live = _Live(x[:, 1:], live.ids, live.weight)
                live, gone, gone_ids, score = stages[index](live, next(keep), generator)
                x = torch.cat([x[:, :1], live.tokens], dim=1)
                scores.append(score)
                pruned.append(gone)
                pruned_ids.append(gone_ids)
        trace = TokenTrace(tuple(scores), tuple(pruned_ids), live.ids)
        return SparseTokens(tuple(pruned), self.norm(x)), trace
