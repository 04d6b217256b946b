"""Sparse encoder: a vision transformer that prunes tokens as it goes (sections 3.1, 3.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from napari_tokensparse.model.layers.blocks import (
    LAYER_NORM_EPS,
    Block,
    init_weights,
    make_embedding,
)
from napari_tokensparse.model.layers.stage import Live, Stage, StageOutput
from napari_tokensparse.model.ratios import pinned
from napari_tokensparse.model.tokens import at_places

if TYPE_CHECKING:
    from torch import Tensor

    from napari_tokensparse.model.config import SCDConfig
    from napari_tokensparse.model.noise import Noise
    from napari_tokensparse.model.ratios import Rule


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
    skips
        Raw patch tokens ``(B, L, E)`` of earlier blocks, for the dense baseline; else empty.
    gate
        ``(B, L)``: 1 where the first stage kept a token, 0 where it pruned one, straight-through in
        training; None without stages.
    places
        ``(B, k)`` where it is 1, ascending; None without stages.
    """

    pruned: tuple[Tensor, ...]
    final: Tensor
    skips: tuple[Tensor, ...] = ()
    gate: Tensor | None = None
    places: Tensor | None = None


@dataclass(frozen=True)
class Pass:
    """How one forward pass is run.

    Attributes
    ----------
    noise
        Source of the training noise.
    token_scores
        ``(B, L)`` scores of a control that replace the predictors'.
    skip_blocks
        Whether every transformer block is left out, as a control.
    """

    noise: Noise = None
    token_scores: Tensor | None = None
    skip_blocks: bool = False


@dataclass(frozen=True, eq=False)
class EncoderStart:
    """A pass up to the first stage's scores: what does not depend on the keep ratios.

    Attributes
    ----------
    tokens
        ``(B, 1 + L, E)``, CLS first, as the first stage's block leaves them; without stages, as
        the last block does.
    ids
        ``(B, L)`` grid ids of the patch tokens, ascending.
    scores
        ``(B, L)`` of the first stage; None without stages.
    skips
        As in `SparseTokens`.
    how
        How the pass is run.
    """

    tokens: Tensor
    ids: Tensor
    scores: Tensor | None
    skips: tuple[Tensor, ...]
    how: Pass


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
        ends = (0, *(block + 1 for block in config.prune_after), config.depth)
        self.legs = tuple(range(first, end) for first, end in pairwise(ends))
        self.patch_embed = make_embedding(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + tokens, dim))
        rates = [config.drop_path * n / max(config.depth - 1, 1) for n in range(config.depth)]
        self.blocks = nn.ModuleList(Block(dim, config.num_heads, rate) for rate in rates)
        self.skip_after = config.skip_after
        self.share_predictor = config.share_predictor
        self.stages = nn.ModuleList(Stage(config, number) for number in range(config.stages))
        self.norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.blocks.apply(init_weights)  # not the predictors: so small, their scores would be flat
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def embed(self, image: Tensor, ids: Tensor | None = None) -> Tensor:
        """Patch and position embedding: ``(B, C, h, w, d)`` to ``(B, 1 + L, E)``, CLS first.

        ``ids`` ``(L,)`` are the grid ids of the patches of a cropped window.
        """
        patches = self.patch_embed(image).flatten(2).transpose(1, 2)
        cls = self.cls_token.expand(image.shape[0], -1, -1)
        return torch.cat([cls, patches], dim=1) + at_places(self.pos_embed, ids)

    def begin(self, image: Tensor, how: Pass, ids: Tensor | None = None) -> EncoderStart:
        """Encode a window ``(B, C, h, w, d)`` up to the first stage.

        It has the config's size, or was cropped to the tokens with the grid ids ``ids`` ``(L,)``.
        """
        x = self.embed(image, ids)
        skips: list[Tensor] = []
        for index in self.legs[0]:
            x = self._block(x, index, how)
            if index in self.skip_after:
                skips.append(x[:, 1:])
        live, scores = _all_live(x, ids), None
        if self.stages:
            scores = self.score(0, live, x[:, :1], how.token_scores)
        return EncoderStart(x, live.ids, scores, tuple(skips), how)

    def finish(
        self, start: EncoderStart, rule: Rule, pins: Tensor | None = None
    ) -> tuple[SparseTokens, TokenTrace]:
        """Prune at each stage by a rule and pins ``(B, L)`` of the grid, and encode the rest."""
        x, scores, how = start.tokens, start.scores, start.how
        live = Live(x[:, 1:], start.ids)
        outputs: list[StageOutput] = []
        for number, stage in enumerate(self.stages):
            cls, live = x[:, :1], Live(x[:, 1:], live.ids, live.weight)
            if scores is None:
                scores = self.score(number, live, cls, how.token_scores)
            fixed = None if pins is None else pins.gather(1, live.ids)
            ranking, k = pinned(rule, number, scores, fixed)
            outputs.append(replace(stage(live, ranking, k, how.noise), scores=scores))
            live, scores = outputs[-1].live, None
            x = torch.cat([cls, live.tokens], dim=1)
            for index in self.legs[number + 1]:
                x = self._block(x, index, how)
        gate, places = (outputs[0].mask, outputs[0].places) if outputs else (None, None)
        pruned = tuple(o.pruned for o in outputs)
        sparse = SparseTokens(pruned, self.norm(x), start.skips, gate, places)
        return sparse, TokenTrace(
            tuple(o.scores for o in outputs), tuple(o.pruned_ids for o in outputs), live.ids
        )

    def _block(self, x: Tensor, index: int, how: Pass) -> Tensor:
        return x if how.skip_blocks else self.blocks[index](x, how.noise)

    def score(self, stage: int, live: Live, cls: Tensor, control: Tensor | None = None) -> Tensor:
        """Return scores ``(B, n)``: the predictor's, or those of a control for the whole grid."""
        if control is not None:
            return control.gather(1, live.ids)
        owner: Any = self.stages[0 if self.share_predictor else stage]
        scores: Tensor = owner.predictor(live.tokens, cls)
        return scores


def _all_live(x: Tensor, ids: Tensor | None) -> Live:
    """All patch tokens of ``(B, 1 + L, E)``, which begins with CLS."""
    b, n = x.shape[0], x.shape[1] - 1
    places = torch.arange(n, device=x.device) if ids is None else ids
    return Live(x[:, 1:], places.expand(b, -1))
