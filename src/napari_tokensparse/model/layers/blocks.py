"""What tokens are made by, and the transformer block that encoder and completion share."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from monai.networks.blocks.dynunet_block import UnetResBlock
from torch import nn
from torch.nn import functional as F

from napari_tokensparse.model.layers.layout import channels_last, keep_layout
from napari_tokensparse.model.noise import bernoulli

if TYPE_CHECKING:
    from torch import Tensor

    from napari_tokensparse.model.config import SCDConfig
    from napari_tokensparse.model.noise import Noise

MLP_RATIO = 4
LAYER_NORM_EPS = 1e-6


class Attention(nn.Module):
    """Multi-head self-attention, ``(B, L, E)`` to ``(B, L, E)``."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend: ``(B, L, E)`` to the same."""
        b, n, e = x.shape
        qkv = self.qkv(x).view(b, n, 3, self.num_heads, e // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, L, E / heads)
        x = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(x.transpose(1, 2).reshape(b, n, e))
        return out


class Mlp(nn.Module):
    """Linear, exact GELU, Linear."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, MLP_RATIO * dim)
        self.fc2 = nn.Linear(MLP_RATIO * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each token by itself: ``(..., E)`` to the same."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """Pre-norm transformer block, ``(B, L, E)`` to ``(B, L, E)``.

    Parameters
    ----------
    dim, num_heads
        Width E and attention heads.
    drop_path
        Chance that a sample's branch is left out while training, in [0, 1).
    """

    def __init__(self, dim: int, num_heads: int, drop_path: float = 0.0) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(dim)

    def forward(self, x: Tensor, noise: Noise = None) -> Tensor:
        """Transform ``(B, L, E)`` to the same; ``noise`` decides what is dropped."""
        x = x + self._drop(self.attn(self.norm1(x)), noise)
        return x + self._drop(self.mlp(self.norm2(x)), noise)

    def _drop(self, branch: Tensor, noise: Noise) -> Tensor:
        if not self.training or self.drop_path == 0.0:
            return branch
        keep = 1.0 - self.drop_path
        mask = bernoulli(branch.new_empty(branch.shape[0], 1, 1), keep, noise)
        return branch * mask / keep


class MlpBlock(nn.Module):
    """Pre-norm block without attention: each token by itself.

    Parameters
    ----------
    dim
        Width E.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm2 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)  # named as in `Block`
        self.mlp = Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``(B, L, E)`` to the same."""
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


def init_weights(module: nn.Module) -> None:
    """Initialise as ViT does: truncated normal (sd 0.02) Linears, zero biases, unit norms."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def make_embedding(config: SCDConfig) -> nn.Module:
    """Make the patch embedding that a config names: ``(B, C, h, w, d)`` to ``(B, E, gh, gw, gd)``.

    ``linear`` is one convolution as wide as a patch. ``conv-stem`` halves the image again and again
    by residual blocks of 3 x 3 x 3 convolutions, the width doubling up to E (Xiao et al., "Early
    convolutions help transformers see better", NeurIPS 2021); a token then sees a little of its
    neighbours.
    """
    dim, patch = config.embed_dim, config.patch_size
    if config.embedding == "linear":
        return nn.Conv3d(config.in_channels, dim, patch, stride=patch)
    halvings = patch.bit_length() - 1
    widths = [config.in_channels, *(max(1, dim >> (halvings - n)) for n in range(halvings - 1))]
    blocks = [
        UnetResBlock(3, before, after, kernel_size=3, stride=2, norm_name="instance")
        for before, after in pairwise(widths)
    ]
    last = nn.Conv3d(widths[-1], dim, 3, stride=2, padding=1)
    stem: nn.Module = nn.Sequential(*blocks, last)
    keep_layout(stem)
    return channels_last(stem)
