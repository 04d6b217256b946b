"""UNETR's family of decoders, from MONAI's blocks (section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from monai.networks.blocks.dynunet_block import UnetOutBlock
from monai.networks.blocks.unetr_block import UnetrBasicBlock, UnetrPrUpBlock, UnetrUpBlock
from torch import nn

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
        self.ups = up_blocks(widths, dim)
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


def up_blocks(widths: list[int], deepest: int) -> nn.ModuleList:
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
