"""From image to patch tokens: the paper's linear patch embedding, or a small convolutional stem."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from monai.networks.blocks.dynunet_block import UnetResBlock
from torch import nn

from napari_tokensparse.model.layers.layout import channels_last, keep_layout

if TYPE_CHECKING:
    from napari_tokensparse.model.config import SCDConfig


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
