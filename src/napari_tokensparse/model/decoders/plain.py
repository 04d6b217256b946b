"""Decoders that do not look at the image: a linear head and progressive upsampling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

    from napari_tokensparse.model.config import SCDConfig


class LinearDecoder(nn.Module):
    """Linear head: every token predicts the logits of its own patch.

    Parameters
    ----------
    config
        Sizes.
    """

    def __init__(self, config: SCDConfig) -> None:
        super().__init__()
        self.classes, self.patch = config.out_channels, config.patch_size
        self.linear = nn.Linear(config.embed_dim, self.classes * self.patch**3)

    def forward(self, token_map: Tensor, image: Tensor) -> Tensor:
        """Decode ``(B, E, gh, gw, gd)`` to logits; the image is not looked at."""
        x = self.linear(token_map.movedim(1, -1))
        x = x.unflatten(-1, (self.classes, *(self.patch,) * 3))
        b, gh, gw, gd = token_map.shape[0], *token_map.shape[2:]
        p = self.patch
        x = x.permute(0, 4, 1, 5, 2, 6, 3, 7)  # (B, K, gh, p, gw, p, gd, p)
        logits: Tensor = x.reshape(b, self.classes, gh * p, gw * p, gd * p)
        return logits


class ProgressiveDecoder(nn.Module):
    """Progressive upsampling (SETR-PUP, Zheng et al., CVPR 2021): convolve, double, repeat.

    Parameters
    ----------
    config
        Sizes; the width halves from ``8 f`` with every doubling, down to ``f``.
    """

    def __init__(self, config: SCDConfig) -> None:
        super().__init__()
        f, before, steps = config.feature_size, config.embed_dim, []
        for step in range(config.patch_size.bit_length() - 1):
            width = max(f, f * 8 >> step)
            steps += [
                nn.Conv3d(before, width, 3, padding=1, bias=False),
                nn.InstanceNorm3d(width, affine=True),
                nn.ReLU(inplace=True),
                nn.Upsample(scale_factor=2, mode="trilinear", align_corners=False),
            ]
            before = width
        self.steps = nn.Sequential(*steps)
        self.out = nn.Conv3d(before, config.out_channels, 1)

    def forward(self, token_map: Tensor, image: Tensor) -> Tensor:
        """Decode ``(B, E, gh, gw, gd)`` to logits; the image is not looked at."""
        logits: Tensor = self.out(self.steps(token_map))
        return logits
