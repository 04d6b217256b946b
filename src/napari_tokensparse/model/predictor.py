"""Score predictors: one importance score per live token (section 3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor


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

    def forward(self, tokens: Tensor) -> Tensor:
        """Score live patch tokens.

        Parameters
        ----------
        tokens
            ``(B, L, E)`` live patch tokens, CLS left out.

        Returns
        -------
        Tensor
            ``(B, L)`` log-sigmoid scores in float32: ``exp(score)`` is the importance in (0, 1).
        """
        with torch.autocast(tokens.device.type, enabled=False):
            x = F.gelu(self.embed(self.norm(tokens.float())))
            local, pooled = x.chunk(2, dim=-1)
            shared = pooled.mean(dim=1, keepdim=True).expand_as(pooled)
            x = self.head(torch.cat([local, shared], dim=-1))
            return F.logsigmoid(x.squeeze(-1))
