"""The decoder that a config names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_tokensparse.model.decoders.plain import LinearDecoder, ProgressiveDecoder
from napari_tokensparse.model.decoders.pyramids import CoarseToFineDecoder, GatedPyramidDecoder
from napari_tokensparse.model.decoders.unetr import UnetrDecoder

if TYPE_CHECKING:
    from torch import nn

    from napari_tokensparse.model.config import SCDConfig


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
    if config.decoder == "coarse-to-fine":
        return CoarseToFineDecoder(config)
    return UnetrDecoder(config)
