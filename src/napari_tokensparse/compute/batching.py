"""How many windows go through a network at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from napari_tokensparse.model.config import SCDConfig

_VOXELS_ON_CPU = 2**18
_VOXELS_ON_GPU = 2**22
_SHARE_OF_GPU = 0.25
_MAPS_AT_ONCE = 9  # maps of the finest level, and copies of the logits, that are alive together
_LOGITS_AT_ONCE = 2
_BYTES = 4


def windows_at_once(config: SCDConfig, windows: int, device: torch.device) -> int:
    """Choose how many windows to run at once.

    On a CPU that is worth while for small windows alone: a pass costs some milliseconds however
    little it computes, but the maps of large windows do not fit into its caches. On a GPU memory
    limits it.

    Parameters
    ----------
    config
        Of the network.
    windows
        How many there are in all: they are dealt out evenly.
    device
        Where the network runs.
    """
    if config.crop_value is not None:  # each window has a box of its own
        return 1
    h, w, d = config.window
    voxels = h * w * d
    limit = max(1, _VOXELS_ON_CPU // voxels)
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
        fitting = int(_SHARE_OF_GPU * memory) // network_bytes(config)
        limit = max(1, min(_VOXELS_ON_GPU // voxels, fitting))
    passes = max(1, -(-windows // limit))
    return max(1, -(-windows // passes))


def network_bytes(config: SCDConfig, windows: int = 1) -> int:
    """Return about how many bytes a network's maps and logits take at their peak.

    Parameters
    ----------
    config
        Of the network.
    windows
        That are run at once.
    """
    h, w, d = config.window
    channels = _MAPS_AT_ONCE * config.feature_size + _LOGITS_AT_ONCE * config.out_channels
    return _BYTES * channels * h * w * d * windows
