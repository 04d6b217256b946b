"""A decoder in the form that OpenVINO runs fastest: maps stay channels-last from end to end."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from napari_tokensparse.compute.backends.base import with_parts
from napari_tokensparse.model.decoders.protocols import GatedDecoder
from napari_tokensparse.model.layers.convolution import CpuConv
from napari_tokensparse.model.layers.layout import DoublingConv, LayoutKeepingNorm, PointwiseConv

if TYPE_CHECKING:
    from torch import Tensor

    from napari_tokensparse.model.crop import Grid
    from napari_tokensparse.model.scd import SCD

_BLOCK = 8


def for_export(model: SCD, grid: Grid) -> nn.Module:
    """Wrap a model's decoder: tokens ``(1, L, E)`` and image to logits ``(1, h, w, d, K)``.

    ``grid`` are the tokens along each axis of what is decoded.
    """
    return ChannelsLast(with_parts(model.decoder, plain_layer), grid).eval()


def takes_gate(model: SCD) -> bool:
    """Whether a model's decoder is told where the first stage kept a token."""
    return isinstance(model.decoder, GatedDecoder) and model.config.stages > 0


class ChannelsLast(nn.Module):
    """A decoder whose inputs and logits lie in memory as they are written down.

    A map given as ``(1, gh, gw, gd, E)`` instead of tokens makes OpenVINO turn maps round: a
    quarter slower.

    Parameters
    ----------
    decoder
        A `Decoder`.
    grid
        Token grid.
    """

    def __init__(self, decoder: nn.Module, grid: Grid) -> None:
        super().__init__()
        self.decoder, self.grid = decoder, grid

    def forward(self, tokens: Tensor, image: Tensor, *others: Tensor) -> Tensor:
        """Decode tokens ``(1, L, E)`` and the image.

        The dense baseline takes skips like tokens beside them, a gated decoder ``(1, L, 1)``: 1
        where the first stage kept a token.
        """
        maps = [self._as_map(other) for other in others]
        given: dict[str, Any] = {}
        if maps:
            gated = isinstance(self.decoder, GatedDecoder)
            given = {"gate": maps[0]} if gated else {"skip_maps": maps}
        logits: Tensor = self.decoder(self._as_map(tokens), image, **given)
        return logits.movedim(1, -1)

    def _as_map(self, tokens: Tensor) -> Tensor:
        return tokens.transpose(1, 2).reshape(1, -1, *self.grid)


class _Norm(nn.Module):
    """Instance norm by sums of sums.

    OpenVINO's own adds all voxels of a channels-last map one after another, and 10⁶ of them lose
    three digits. Averages over blocks do not, and neither do lengths of slices: those have no map
    of squares either, which would have to be written and read.
    """

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Give each channel of ``(1, C, h, w, d)`` mean 0 and variance 1."""
        mean = _mean(x)
        squares = _mean(torch.linalg.vector_norm(x, dim=4, keepdim=True).square()) / x.shape[4]
        scale = torch.rsqrt((squares - mean.square()).clamp(min=0.0) + self.eps)
        return (x - mean) * scale


def _mean(x: Tensor) -> Tensor:
    """Average over space, by blocks of up to 8 voxels a side: ``(1, C, 1, 1, 1)``."""
    block = [max(k for k in range(1, _BLOCK + 1) if n % k == 0) for n in x.shape[2:]]
    return F.avg_pool3d(x, block).mean(dim=(2, 3, 4), keepdim=True)


def plain_layer(layer: nn.Module) -> nn.Module | None:
    """Return torch's own layer for one that was rewritten for torch, where it is the faster."""
    if isinstance(layer, LayoutKeepingNorm):
        return _Norm(layer.eps)
    if isinstance(layer, (PointwiseConv, CpuConv)):
        return _as(nn.Conv3d, layer)
    if isinstance(layer, DoublingConv):
        return _as(nn.ConvTranspose3d, layer)
    return None


def _as(kind: type[nn.Module], layer: nn.Module) -> nn.Module:
    """Copy a layer of a class derived from ``kind`` that adds nothing but its ``forward``."""
    twin = copy.copy(layer)
    twin.__class__ = kind
    return twin
