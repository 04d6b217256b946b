"""The networks that are compared: of a preset, its dense baseline, and MONAI's UNETR."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from napari_tokensparse.benchmarks.report import LITE
from napari_tokensparse.model.config import DECODER_PATCH, SCDConfig
from napari_tokensparse.model.layers.blocks import MLP_RATIO
from napari_tokensparse.model.presets import preset

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monai.networks.nets.unetr import UNETR

    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.model.scd import SCD

SCD_VARIANT = "scd"
MONAI_UNETR = "monai-unetr"
PRESETS = ("btcv", "btcv-lite", "brats", "small", "brain-structures")
KEEP_RATIOS = (0.1, 0.25, 0.5, 0.75, 1.0)
UNETR_PATCH = 16
"""The only patch size of MONAI's UNETR: of a preset with patch 8 it has an eighth of the tokens."""


def drawn(config: SCDConfig, info: ModelInfo | None = None) -> SCD:
    """Make a network whose random weights are the same in every run."""
    import torch

    from napari_tokensparse.model.scd import SCD

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SCD(config, info)


def dense_of(config: SCDConfig) -> SCDConfig:
    """Return the dense baseline of a config: all tokens, no completion, skips from the blocks."""
    changes = {"prune_after": (), "keep_ratio": (), "completion": "none", "forgotten_stages": 0}
    return SCDConfig(**{**config.model_dump(), **changes})


def unetr_of(config: SCDConfig) -> UNETR:
    """Make MONAI's UNETR as it is shipped, of a config's window and widths; its patch is 16."""
    from monai.networks.nets.unetr import UNETR

    return UNETR(
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        img_size=config.window,
        feature_size=config.feature_size,
        hidden_size=config.embed_dim,
        mlp_dim=MLP_RATIO * config.embed_dim,
        num_heads=config.num_heads,
    )


def has_unetr() -> bool:
    """Whether MONAI can make its UNETR here: it needs einops."""
    return find_spec("einops") is not None


def families(presets: Sequence[str]) -> dict[str, list[str]]:
    """Group presets that are compared with one another: ``btcv-lite`` goes with ``btcv``."""
    members: dict[str, list[str]] = {}
    for name in presets:
        members.setdefault(name.removesuffix(LITE), []).append(name)
    return members


def has_baselines(name: str) -> bool:
    """Whether a preset is compared with its own baselines; a lite one is with its model's."""
    return not name.endswith(LITE)


def has_dense(name: str) -> bool:
    """Whether one of a preset's baselines is dense: that takes a decoder of UNETR's family."""
    return has_baselines(name) and preset(name).decoder in DECODER_PATCH
