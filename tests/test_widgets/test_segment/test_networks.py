"""The network that runs and previews share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_tokensparse.compute.devices import DeviceError
from napari_tokensparse.model.folder import WEIGHTS
from napari_tokensparse.widgets.segment.networks import Networks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.gui


def test_threads_that_ask_for_the_same_network_get_one(write_nano: Callable[..., Path]) -> None:
    networks, folder = Networks(), write_nano()
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda device: networks.load(folder, device), ["cpu"] * 4))
    assert all(network is loaded[0] for network in loaded)
    assert not loaded[0].training


def test_it_is_loaded_again_when_its_folder_was_trained_further(
    write_nano: Callable[..., Path],
) -> None:
    networks, folder = Networks(), write_nano()
    before = networks.load(folder, "cpu")
    weights = load_file(folder / WEIGHTS)
    weights["decoder.out.conv.conv.bias"] = torch.tensor([1.0, 2.0])
    save_file(weights, folder / WEIGHTS)
    after = networks.load(folder, "cpu")
    assert after is not before
    assert after.decoder.out.conv.conv.bias.tolist() == [1.0, 2.0]
    other = networks.load(write_nano("other"), "cpu")
    assert other.info.name == "other"
    with pytest.raises(DeviceError, match=r"^device 'cuda:77': this machine has "):
        networks.load(folder, "cuda:77")
