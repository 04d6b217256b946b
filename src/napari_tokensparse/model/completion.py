"""Token completion: from sparse tokens back to a dense map (section 3.3)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_tokensparse.model.layers.blocks import LAYER_NORM_EPS, Block, MlpBlock, init_weights
from napari_tokensparse.model.tokens import at_places, put_back, sincos_table

if TYPE_CHECKING:
    from torch import Tensor

    from napari_tokensparse.model.config import SCDConfig
    from napari_tokensparse.model.encoder import SparseTokens, TokenTrace


class Completion(nn.Module, ABC):
    """What all completions share: a position table and blocks on all tokens.

    Parameters
    ----------
    config
        Sizes; the position table is made for ``config.window``.
    """

    position_table: Tensor

    def __init__(self, config: SCDConfig) -> None:
        super().__init__()
        inner = config.completion_dim
        table = torch.zeros(1, 1, 1)
        if config.completion_positions:
            table = sincos_table(config.grid, inner)
        self.has_positions = config.completion_positions
        self.register_buffer("position_table", table, persistent=False)
        alone = config.completion == "mta-mlp"
        self.blocks = nn.ModuleList(
            MlpBlock(inner) if alone else Block(inner, config.completion_heads)
            for _ in range(config.completion_depth)
        )
        self.out_norm = nn.LayerNorm(inner, eps=LAYER_NORM_EPS)
        self.out_linear: nn.Module = nn.Linear(inner, config.embed_dim)

    def forward(self, sparse: SparseTokens, trace: TokenTrace, ids: Tensor | None = None) -> Tensor:
        """Complete the tokens: all patch tokens ``(B, L, E)`` in grid order.

        ``ids`` ``(L,)`` are the grid ids of a cropped window.
        """
        x = self.assemble(sparse, trace)
        if self.has_positions:
            x = x + at_places(self.position_table, ids)
        for block in self.blocks:
            x = block(x)
        tokens: Tensor = self.out_linear(self.out_norm(x))
        return tokens[:, 1:]

    @abstractmethod
    def assemble(self, sparse: SparseTokens, trace: TokenTrace) -> Tensor:
        """Put a token in every place: ``(B, 1 + L, E')``, CLS first."""


class MultiLayerTokenAssembly(Completion):
    """MTA: assemble the tokens of all stages into one dense sequence.

    Parameters
    ----------
    config
        Sizes. With ``completion`` "mta-no-linear" tokens are assembled as they are; with "mta-mlp"
        the blocks that follow have no attention.
    """

    def __init__(self, config: SCDConfig) -> None:
        super().__init__(config)
        dim, inner, sources = config.embed_dim, config.completion_dim, config.stages + 1
        bare = config.completion == "mta-no-linear"
        self.forgotten = config.forgotten_stages
        self.source_linears = nn.ModuleList(
            nn.Identity() if bare or n < self.forgotten else nn.Linear(dim, inner)
            for n in range(sources)
        )
        self.layer_tokens = nn.ParameterList(
            nn.Parameter(torch.zeros(1, 1, inner)) for _ in range(sources)
        )
        if bare:
            self.out_linear = nn.Identity()
        self.apply(init_weights)
        for token in self.layer_tokens:
            nn.init.trunc_normal_(token, std=0.02)

    def assemble(self, sparse: SparseTokens, trace: TokenTrace) -> Tensor:
        """Project each source, mark it, and put all tokens back in place: ``(B, 1 + L, E')``."""
        sources = [
            mark.expand(*tokens.shape[:2], -1) if n < self.forgotten else linear(tokens) + mark
            for n, (linear, mark, tokens) in enumerate(
                zip(
                    self.source_linears,
                    self.layer_tokens,
                    (*sparse.pruned, sparse.final),
                    strict=True,
                )
            )
        ]
        cls, kept = sources[-1][:, :1], sources[-1][:, 1:]
        patches = torch.cat([*sources[:-1], kept], dim=1)
        ids = torch.cat([*trace.pruned, trace.kept], dim=1)
        return torch.cat([cls, put_back(patches, ids)], dim=1)


class MaskTokenCompletion(Completion):
    """The masked-image-modelling baseline: one learned token wherever one was pruned.

    Parameters
    ----------
    config
        Sizes.
    """

    def __init__(self, config: SCDConfig) -> None:
        super().__init__(config)
        self.in_norm = nn.LayerNorm(config.embed_dim, eps=LAYER_NORM_EPS)
        self.in_linear = nn.Linear(config.embed_dim, config.completion_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.completion_dim))
        self.apply(init_weights)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def assemble(self, sparse: SparseTokens, trace: TokenTrace) -> Tensor:
        """Put the final tokens in place and the mask token elsewhere: ``(B, 1 + L, E')``."""
        final = self.in_linear(self.in_norm(sparse.final))
        ids = torch.cat([trace.kept, *trace.pruned], dim=1)
        missing = ids.shape[1] - trace.kept.shape[1]
        masks = self.mask_token.expand(ids.shape[0], missing, -1)
        patches = put_back(torch.cat([final[:, 1:], masks], dim=1), ids)
        return torch.cat([final[:, :1], patches], dim=1)


class NoCompletion(nn.Module):
    """The dense baseline: nothing was pruned, so nothing is missing."""

    def forward(self, sparse: SparseTokens, trace: TokenTrace, ids: Tensor | None = None) -> Tensor:
        """Return the final patch tokens ``(B, L, E)``."""
        return sparse.final[:, 1:]


def make_completion(config: SCDConfig) -> Completion | NoCompletion:
    """Make the completion that a config names."""
    if config.completion == "none":
        return NoCompletion()
    if config.completion == "mask-token":
        return MaskTokenCompletion(config)
    return MultiLayerTokenAssembly(config)
