from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD

VALUES = (17, 53, 4)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Start every test with the same weights, and leave the global generator as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="session")
def make_model() -> Callable[..., SCD]:
    """Make a nano network whose random weights give every class and every stage its share."""

    def make(values: tuple[int, ...] = VALUES, **info: Any) -> SCD:
        exclusive = info.get("exclusive", True)
        changes = {"out_channels": len(values) + exclusive, "keep_ratio": (0.5, 0.5, 0.5)}
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

    return make


def balance(model: SCD, lower: float) -> None:
    """Let each class win somewhere: directions round a circle, and no class ahead on average."""
    out = model.decoder.out.conv.conv
    angles = 2 * torch.pi * torch.arange(out.out_channels) / out.out_channels
    out.weight.copy_(torch.stack([angles.cos(), angles.sin()], dim=1)[..., None, None, None])
    image = torch.randn(1, model.config.in_channels, *model.config.window)
    out.bias.sub_(model(image).logits.mean(dim=(0, 2, 3, 4)) + lower)
