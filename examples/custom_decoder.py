"""Plug in a decoder of one's own: upsample the token map, refine it with the image."""

import torch
from torch import nn

from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD


class MyDecoder(nn.Module):
    """Token map (B, 24, gh, gw, gd) and image (B, 1, h, w, d) to logits (B, 3, h, w, d)."""

    def __init__(self) -> None:
        super().__init__()
        self.details, self.head = nn.Conv3d(1, 8, 3, padding=1), nn.Conv3d(24 + 8, 3, 1)

    def forward(self, token_map: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Decode."""
        coarse = nn.functional.interpolate(token_map, image.shape[2:], mode="trilinear")
        return self.head(torch.cat([coarse, self.details(image).relu()], dim=1))


model = SCD(preset("nano", decoder="custom", out_channels=3), decoder=MyDecoder())
out = model(torch.randn(2, 1, 32, 32, 32), keep_ratio=0.5)
out.logits.square().mean().backward()  # the decoder and the score predictors learn together
print("logits", tuple(out.logits.shape), "of", out.trace.kept.shape[1], "tokens kept to the end")
