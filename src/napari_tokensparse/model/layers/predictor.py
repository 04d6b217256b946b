"""Score predictors: one importance score per live token (section 3.2)."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import Tensor

    from napari_tokensparse.model.config import PredictorName


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
