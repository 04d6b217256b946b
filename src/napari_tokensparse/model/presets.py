"""Named sizes. ``btcv`` and ``brats`` are the paper's; they come without weights.

``LITE`` turns any of them into a network that prunes earlier and completes without attention; with
half the ``feature_size``, the decoder costs about a quarter.
"""

from __future__ import annotations

from typing import Any

from napari_tokensparse.model.config import SCDConfig

_PRESETS: dict[str, dict[str, Any]] = {
    "nano": {
        "out_channels": 2,
        "window": (32, 32, 32),
        "embed_dim": 24,
        "num_heads": 4,
        "completion_dim": 24,
        "completion_heads": 4,
        "feature_size": 2,
    },
    "small": {
        "out_channels": 2,
        "window": (64, 64, 64),
        "embed_dim": 192,
        "num_heads": 6,
        "completion_dim": 192,
        "completion_heads": 6,
        "feature_size": 16,
    },
    "brain-structures": {
        "out_channels": 28,
        "window": (64, 80, 64),
        "patch_size": 4,
        "embedding": "conv-stem",
        "embed_dim": 128,
        "depth": 8,
        "num_heads": 4,
        "prune_after": (-1, 1, 3),
        "perturbation": "none",
        "relaxation": "threshold",
        "tau": 0.5,
        "completion": "mta-mlp",
        "forgotten_stages": 1,
        "completion_dim": 128,
        "completion_heads": 4,
        "completion_positions": False,
        "decoder": "gated-pyramid",
        "crop_value": 0.0,
    },
    "ms-lesions": {
        "out_channels": 2,
        "window": (96, 96, 96),
        "embedding": "conv-stem",
        "embed_dim": 128,
        "depth": 8,
        "num_heads": 4,
        "prune_after": (-1, 1, 3),
        "perturbation": "none",
        "relaxation": "threshold",
        "tau": 0.5,
        "completion": "mta-mlp",
        "forgotten_stages": 1,
        "completion_dim": 128,
        "completion_heads": 4,
        "completion_positions": False,
        "decoder": "coarse-to-fine",
        "feature_size": 8,
        "crop_value": 0.0,
    },
    "btcv": {
        "out_channels": 14,
        "window": (96, 96, 96),
        "keep_ratio": (1 - 0.9,) * 3,
        "drop_path": 0.1,
    },
    "brats": {
        "in_channels": 4,
        "out_channels": 3,
        "window": (128, 128, 128),
        "keep_ratio": (0.25,) * 3,
    },
}

LITE: dict[str, Any] = {"prune_after": (0, 3, 6), "completion": "mta-mlp"}
_PRESETS["btcv-lite"] = {
    **_PRESETS["btcv"],
    **LITE,
    "keep_ratio": (0.25,) * 3,
    "feature_size": 8,
}

PRESETS = tuple(_PRESETS)


def preset(name: str, **changes: Any) -> SCDConfig:
    """Return a named config, with any field changed.

    Parameters
    ----------
    name
        One of ``PRESETS``.
    **changes
        Fields of `SCDConfig` to set instead.

    Raises
    ------
    ValueError
        The name is not a preset, or the changed config does not fit together.
    """
    if name not in _PRESETS:
        raise ValueError(f"preset {name!r}: choose one of {', '.join(PRESETS)}")
    return SCDConfig(**{**_PRESETS[name], **changes})
