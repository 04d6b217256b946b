"""Token completion: from sparse tokens back to a dense map (section 3.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_tokensparse.model.blocks import LAYER_NORM_EPS, Block, init_weights
from napari_tokensparse.model.tokens import put_back, sincos_table

if TYPE_CHECKING:
    from torch import Tensor

    from napari_tokensparse.model.config import SCDConfig
    from napari_tokensparse.model.encoder import SparseTokens, TokenTrace


class MultiLayerTokenAssembly(nn.Module):
    """MTA: assemble the tokens of all stages into one dense map.

    Parameters
    ----------
    config
        Sizes; the position table is made for ``config.window``.
    """

    position_table: Tensor

    def __init__(self, config: SCDConfig) -> None:
        super().__init__()
        dim, inner = config.embed_dim, config.completion_dim
        sources = config.stages + 1
        self.grid = config.grid
        self.source_linears = nn.ModuleList(nn.Linear(dim, inner) for _ in range(sources))
        self.layer_tokens = nn.ParameterList(
            nn.Parameter(torch.zeros(1, 1, inner)) for _ in range(sources)
        )
        self.register_buffer("position_table", sincos_table(config.grid, inner), persistent=False)
        self.blocks = nn.ModuleList(
            Block(inner, config.completion_heads) for _ in range(config.completion_depth)
        )
        self.out_norm = nn.LayerNorm(inner, eps=LAYER_NORM_EPS)
        self.out_linear = nn.Linear(inner, dim)
        self.apply(init_weights)
        for token in self.layer_tokens:
            nn.init.trunc_normal_(token, std=0.02)

    def forward(self, sparse: SparseTokens, trace: TokenTrace) -> Tensor:
        """Complete the map: ``(B, E, gh, gw, gd)`` from the tokens of all stages."""
        x = self.assemble(sparse, trace) + self.position_table
        for block in self.blocks:
            x = block(x)
        x = self.out_linear(self.out_norm(x))[:, 1:]
        token_map: Tensor = x.transpose(1, 2).unflatten(2, self.grid)
        return token_map  # (B, E, gh, gw, gd)

    def assemble(self, sparse: SparseTokens, trace: TokenTrace) -> Tensor:
        """Project each source, mark it, and put all tokens back in place: ``(B, 1 + L, E')``."""
        sources = [
            linear(tokens) + mark
            for linear, mark, tokens in zip(
                self.source_linears, self.layer_tokens, (*sparse.pruned, sparse.final), strict=True
            )
        ]
        cls, kept = sources[-1][:, :1], sources[-1][:, 1:]
        patches = torch.cat([*sources[:-1], kept], dim=1)
        ids = torch.cat([*trace.pruned, trace.kept], dim=1)
        return torch.cat([cls, put_back(patches, ids)], dim=1)
