"""Small networks that find something, for `conftest.py`."""

from typing import Any

import torch

from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD

VALUES = (17, 53, 4)
PYRAMID: dict[str, Any] = {
    "window": (32, 24, 16),
    "patch_size": 4,
    "embedding": "conv-stem",
    "keep_ratio": (0.5, 0.5),
    "forgotten_stages": 1,
    "completion_positions": False,
    "decoder": "gated-pyramid",
    "crop_value": 0.0,
}
"""A network that crops its windows to what they hold, and draws detail where tokens are kept."""


def make_cropping(
    values: tuple[int, ...] = VALUES,
    depth: int = 12,
    prune_after: int = 3,
    decoder: str = "gated-pyramid",
    **info: Any,
) -> SCD:
    """Make a network as `make_model` does, of a light decoder, whose windows are cropped."""
    config = {**PYRAMID, "depth": depth, "prune_after": (-1, prune_after), "decoder": decoder}
    return _made(config, values, info)


def make_model(values: tuple[int, ...] = VALUES, **info: Any) -> SCD:
    """Make a nano network whose random weights give every class and every stage its share."""
    return _made({"keep_ratio": (0.5, 0.5, 0.5)}, values, info)


def _made(config: dict[str, Any], values: tuple[int, ...], info: dict[str, Any]) -> SCD:
    exclusive = info.get("exclusive", True)
    changes = {"out_channels": len(values) + exclusive, **config}
    said = ModelInfo(
        **{
            "name": "nano",
            "channels": ("T1",),
            "classes": tuple(
                LabelClass(value=v, name=f"part {v}", color=(v % 256, 0, 0)) for v in values
            ),
            **info,
        }
    )
    model = SCD(preset("nano", **changes), said).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        balance(model, lower=0.0 if exclusive else 0.25)
    return model


def balance(model: SCD, lower: float) -> None:
    """Let each class win somewhere: directions round a circle, and no class ahead on average."""
    out = model.decoder.out.conv.conv
    angles = 2 * torch.pi * torch.arange(out.out_channels) / out.out_channels
    out.weight.zero_()
    out.weight[:, :2] = torch.stack([angles.cos(), angles.sin()], dim=1)[..., None, None, None]
    image = torch.randn(1, model.config.in_channels, *model.config.window)
    out.bias.sub_(model(image).logits.mean(dim=(0, 2, 3, 4)) + lower)
