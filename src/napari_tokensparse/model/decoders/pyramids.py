"""Light decoders whose detail of the image is drawn where the first stage kept a token."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from monai.networks.blocks.dynunet_block import UnetOutBlock, UnetResBlock
from torch import nn
from torch.nn import functional as F

from napari_tokensparse.model.decoders.unetr import up_blocks
from napari_tokensparse.model.layers.layout import keep_layout
from napari_tokensparse.model.layers.patches import add_patches, cut_patches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_tokensparse.model.config import SCDConfig

_SLOPE = 0.01
_RIM = 2  # voxels on each side that two convolutions of 3 x 3 x 3 take off
_DENSE = 0.6  # share of kept tokens from which on their rims cost more than the others do


class GatedPyramidDecoder(nn.Module):
    """Light pyramid whose detail of the image is drawn only where the first stage kept a token.

    Level 0 has the image's voxels and width f, level n halves them and has ``f * 2**n``; tokens
    stand below the last one. The finest skip sees the image through one convolution; the coarser
    ones see further, and are multiplied by the first stage's mask, so that what a pruned token
    covers is known by its place and its nearest voxels alone. Without the mask such a decoder does
    all the work by itself, and tokens are decoration.

    Parameters
    ----------
    config
        Sizes; ``feature_size`` is the width f.
    """

    gated = True

    def __init__(self, config: SCDConfig) -> None:
        super().__init__()
        levels = config.patch_size.bit_length() - 1
        widths = [config.feature_size * 2**level for level in range(levels)]
        self.skips = nn.ModuleList(
            [_convolved(config.in_channels, widths[0])]
            + [
                UnetResBlock(3, before, after, kernel_size=3, stride=2, norm_name="instance")
                for before, after in pairwise(widths)
            ]
        )
        self.ups = up_blocks(widths, config.embed_dim)
        self.out = UnetOutBlock(3, widths[0], config.out_channels)
        keep_layout(self)

    def image_branch(self, image: Tensor) -> list[Tensor]:
        """Return the skips, from the finest on: ``(B, f * 2**n, ...)`` of level n, ungated."""
        return _one_after_another(self.skips, image)

    def forward(
        self,
        token_map: Tensor,
        image: Tensor,
        image_skip: Sequence[Tensor] | None = None,
        gate: Tensor | None = None,
    ) -> Tensor:
        """Decode ``(B, E, gh, gw, gd)`` and the image ``(B, C, h, w, d)`` to logits.

        ``image_skip`` is what `image_branch` gave for this image, if it is there already. Without
        a gate every token counts as kept.
        """
        finest, *coarser = self.image_branch(image) if image_skip is None else image_skip
        if gate is not None:
            for level, skip in enumerate(coarser, start=1):
                size = [n // 2**level for n in image.shape[2:]]
                coarser[level - 1] = skip * F.interpolate(gate.to(skip.dtype), size=size)
        x = token_map
        for up, skip in zip(reversed(self.ups), reversed([finest, *coarser]), strict=True):
            x = up(x, skip)
        logits: Tensor = self.out(x)
        return logits


class CoarseToFineDecoder(nn.Module):
    """Light pyramid to half resolution, and the last doubling in the kept tokens alone.

    Coarse logits are those of the pyramid's finest level, which has half the image's resolution;
    what is pruned has no others. Where the first stage kept a token, what a closer look at the
    image adds to them is computed: the cost of the voxels follows the tokens, and the logits of a
    token's voxels have nothing to do with how many others are looked at. In training all are, and
    the gate's gradient is what a closer look gains.

    Parameters
    ----------
    config
        Sizes; level n of the pyramid, of 1 and more, has width ``f * 2**n`` of ``feature_size`` f.
    """

    gated = True
    sparse = True

    def __init__(self, config: SCDConfig) -> None:
        super().__init__()
        levels = config.patch_size.bit_length() - 1
        widths = [config.feature_size * 2**level for level in range(1, levels)]
        self.patch = config.patch_size
        self.skips = nn.ModuleList(
            UnetResBlock(3, before, after, kernel_size=3, stride=2, norm_name="instance")
            for before, after in pairwise([config.in_channels, *widths])
        )
        self.ups = up_blocks(widths, config.embed_dim)
        self.out = UnetOutBlock(3, widths[0], config.out_channels)
        self.detail = Detail(
            widths[0], config.in_channels, config.feature_size, config.out_channels
        )
        keep_layout(self)

    def image_branch(self, image: Tensor) -> list[Tensor]:
        """Return the skips ``(B, f * 2**n, ...)`` of levels n from 1 on, ungated."""
        return _one_after_another(self.skips, image)

    def forward(
        self,
        token_map: Tensor,
        image: Tensor,
        image_skip: Sequence[Tensor] | None = None,
        gate: Tensor | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """Decode ``(B, E, gh, gw, gd)`` and the image ``(B, C, h, w, d)`` to logits.

        ``image_skip`` is what `image_branch` gave for this image, if it is there already. Without
        a gate every token counts as kept; without places the gate is multiplied by what a closer
        look at all tokens gives, which is the same.
        """
        skips = list(self.image_branch(image) if image_skip is None else image_skip)
        x = token_map
        for level, up in reversed(list(enumerate(self.ups, start=1))):
            skip = skips[level - 1]
            if gate is not None:
                size = [n // 2**level for n in image.shape[2:]]
                skip = skip * F.interpolate(gate.to(skip.dtype), size=size)
            x = up(x, skip)
        coarse = F.interpolate(self.out(x), scale_factor=2.0)
        if places is not None and places.shape[1] == 0:
            return coarse
        features, around = F.pad(x, (_RIM // 2,) * 6), F.pad(image, (_RIM,) * 6)
        if places is None or self.training or places.shape[1] > _DENSE * token_map[0, 0].numel():
            fine = self.detail(features, around)
            if gate is not None:
                fine = fine * F.interpolate(gate.to(fine.dtype), size=image.shape[2:])
            logits: Tensor = coarse + fine
            return logits
        return self._added(coarse, features, around, places)

    def _added(self, logits: Tensor, features: Tensor, image: Tensor, places: Tensor) -> Tensor:
        """Add to logits what a closer look at the tokens at some places gives."""
        patch = self.patch
        grid = [n // patch for n in logits.shape[2:]]
        half = cut_patches(features, places, grid, patch // 2)
        fine = self.detail(half, cut_patches(image, places, grid, patch))
        return add_patches(logits, fine, places, grid)


class Detail(nn.Module):
    """What a closer look at the image adds to coarse logits.

    Parameters
    ----------
    width, channels, fine_width, classes
        Channels of the features at half resolution, of the image, of the layers between, of the
        logits.
    """

    def __init__(self, width: int, channels: int, fine_width: int, classes: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(width, fine_width, 2, stride=2)
        self.look = nn.Conv3d(fine_width + channels, fine_width, 3)
        self.refine = nn.Conv3d(fine_width, fine_width, 3)
        self.out = nn.Conv3d(fine_width, classes, 1)
        for weights in self.out.parameters():
            nn.init.zeros_(weights)

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        """Look at maps ``(N, 2f, h / 2, w / 2, d / 2)`` and images ``(N, C, h, w, d)``.

        Both have a rim of `_RIM` voxels of the image on each side, which the logits
        ``(N, K, h - 2 rim, ...)`` have not.
        """
        x = torch.cat([F.leaky_relu(self.up(features), _SLOPE), image], dim=1)
        x = F.leaky_relu(self.look(x), _SLOPE)
        x = F.leaky_relu(self.refine(x), _SLOPE)
        fine: Tensor = self.out(x)
        return fine


def _one_after_another(layers: nn.ModuleList, x: Tensor) -> list[Tensor]:
    """Return what each layer gives of what the one before gave, the first of ``x``."""
    given = []
    for layer in layers:
        x = layer(x)
        given.append(x)
    return given


def _convolved(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.InstanceNorm3d(out_channels),
        nn.LeakyReLU(0.01, inplace=True),
    )
