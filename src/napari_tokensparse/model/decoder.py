"""Dense decoders: UNETR's family from MONAI's blocks (section 3.4), and two plain heads.

A decoder is anything that turns the completed map and the image into logits (`Decoder`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from monai.networks.blocks.dynunet_block import UnetOutBlock, UnetResBlock
from monai.networks.blocks.unetr_block import UnetrBasicBlock, UnetrPrUpBlock, UnetrUpBlock
from torch import nn
from torch.nn import functional as F

from napari_tokensparse.model.layers.layout import keep_layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_tokensparse.model.config import DecoderName, SCDConfig

_BLOCK: dict[str, Any] = {"spatial_dims": 3, "norm_name": "instance"}


@dataclass(frozen=True)
class _Layout:
    """Shape of a decoder.

    ``upsamplings`` holds, per skip from the finest on, how often MONAI's ``UnetrPrUpBlock``
    doubles the map after its first doubling; with ``bottleneck`` a further skip stays at token
    resolution and the decoder starts from the halved map.
    """

    upsamplings: tuple[int, ...]
    bottleneck: bool


@runtime_checkable
class Decoder(Protocol):
    """What SCD asks of a decoder; an `nn.Module` with such a ``forward`` is one."""

    def __call__(self, token_map: Tensor, image: Tensor) -> Tensor:
        """Turn the map ``(B, E, gh, gw, gd)`` and image ``(B, C, h, w, d)`` into logits."""


@runtime_checkable
class BranchedDecoder(Protocol):
    """A decoder that can do apart, and once, what depends on the image alone.

    Optional: what `image_branch` returns is handed to its ``forward`` as ``image_skip``.
    """

    def image_branch(self, image: Tensor) -> Tensor:
        """Turn the image ``(B, C, h, w, d)`` into what decoding takes of it."""


@runtime_checkable
class GatedDecoder(Protocol):
    """A decoder that is told where the first stage kept a token.

    Optional: its ``forward`` takes ``gate`` ``(B, 1, gh, gw, gd)``: 1 where it did, 0 where not.
    """

    gated: bool


_LAYOUTS: dict[DecoderName, _Layout] = {
    "unetr": _Layout((2, 1, 0), bottleneck=False),
    "unetr-x8": _Layout((1, 0), bottleneck=False),
    "unetr-x8-v2": _Layout((1, 0), bottleneck=True),
}


class UnetrDecoder(nn.Module):
    """UNETR decoder whose skips all come from the completed map.

    Parameters
    ----------
    config
        ``decoder`` chooses the layout, ``feature_size`` the width f: level n has ``f * 2**n``.
    """

    def __init__(self, config: SCDConfig) -> None:
        super().__init__()
        layout = _LAYOUTS[config.decoder]
        dim, f = config.embed_dim, config.feature_size
        skips = [_refine(config.in_channels, f)]
        for level, doublings in enumerate(layout.upsamplings, start=1):
            skips.append(_upsample(dim, f * 2**level, doublings))
        if layout.bottleneck:
            skips.append(_refine(dim, f * 2 ** len(skips)))
        widths = [f * 2**level for level in range(len(skips))]
        self.skips = nn.ModuleList(skips)
        self.pool = nn.AvgPool3d(3, stride=2, padding=1) if layout.bottleneck else nn.Identity()
        self.ups = _up_blocks(widths, dim)
        self.out = UnetOutBlock(3, f, config.out_channels)
        keep_layout(self)

    def image_branch(self, image: Tensor) -> Tensor:
        """Return the finest skip, ``(B, f, h, w, d)``: the only one that sees the image."""
        skip: Tensor = self.skips[0](image)
        return skip

    def forward(
        self,
        token_map: Tensor,
        image: Tensor,
        skip_maps: Sequence[Tensor] = (),
        image_skip: Tensor | None = None,
    ) -> Tensor:
        """Decode ``(B, E, gh, gw, gd)`` and the image ``(B, C, h, w, d)`` to logits.

        ``skip_maps``, one per skip from the finest on, take the place of the map in the skips:
        the dense baseline's. ``image_skip`` is what `image_branch` gave for this image, if it is
        there already.
        """
        maps = skip_maps or [token_map] * (len(self.skips) - 1)
        skips = [self.image_branch(image) if image_skip is None else image_skip]
        skips += [skip(x) for skip, x in zip(self.skips[1:], maps, strict=True)]
        x = self.pool(token_map)
        for up, skip in zip(reversed(self.ups), reversed(skips), strict=True):
            x = up(x, skip)
        logits: Tensor = self.out(x)
        return logits


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
        self.ups = _up_blocks(widths, config.embed_dim)
        self.out = UnetOutBlock(3, widths[0], config.out_channels)
        keep_layout(self)

    def image_branch(self, image: Tensor) -> list[Tensor]:
        """Return the skips, from the finest on: ``(B, f * 2**n, ...)`` of level n, ungated."""
        skips, x = [], image
        for skip in self.skips:
            x = skip(x)
            skips.append(x)
        return skips

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


def make_decoder(config: SCDConfig, own: nn.Module | None = None) -> nn.Module:
    """Make the decoder that a config names, or take the user's own.

    Raises
    ------
    ValueError
        The config and what is given do not agree on whose decoder it is.
    """
    if own is not None:
        if config.decoder != "custom":
            raise ValueError(f"decoder {config.decoder!r}: must be 'custom' to use one's own")
        return own
    if config.decoder == "custom":
        raise ValueError("decoder 'custom': give SCD the decoder itself")
    if config.decoder == "linear":
        return LinearDecoder(config)
    if config.decoder == "pup":
        return ProgressiveDecoder(config)
    if config.decoder == "gated-pyramid":
        return GatedPyramidDecoder(config)
    return UnetrDecoder(config)


def _up_blocks(widths: list[int], deepest: int) -> nn.ModuleList:
    """Make UNETR's blocks from each width below, the deepest last, to each width."""
    return nn.ModuleList(
        UnetrUpBlock(
            in_channels=below,
            out_channels=width,
            kernel_size=3,
            upsample_kernel_size=2,
            res_block=True,
            **_BLOCK,
        )
        for width, below in zip(widths, [*widths[1:], deepest], strict=True)
    )


def _convolved(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.InstanceNorm3d(out_channels),
        nn.LeakyReLU(0.01, inplace=True),
    )


def _refine(in_channels: int, out_channels: int) -> nn.Module:
    return UnetrBasicBlock(
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=3,
        stride=1,
        res_block=True,
        **_BLOCK,
    )


def _upsample(in_channels: int, out_channels: int, doublings: int) -> nn.Module:
    return UnetrPrUpBlock(
        in_channels=in_channels,
        out_channels=out_channels,
        num_layer=doublings,
        kernel_size=3,
        stride=1,
        upsample_kernel_size=2,
        conv_block=True,
        res_block=True,
        **_BLOCK,
    )
