from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from napari_tokensparse.model.decoders.protocols import BranchedDecoder
from napari_tokensparse.model.decoders.unetr import UnetrDecoder
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD

LAYOUTS: list[dict[str, Any]] = [
    {"decoder": "unetr-x8-v2", "window": (32, 48, 32)},
    {"decoder": "unetr-x8", "window": (24, 40, 16)},
    {"decoder": "unetr", "patch_size": 16, "window": (32, 48, 16)},
]


@pytest.mark.parametrize("changes", LAYOUTS, ids=lambda changes: str(changes["decoder"]))
def test_every_layout_gives_logits_of_the_windows_shape(changes: dict[str, Any]) -> None:
    model = SCD(preset("nano", in_channels=2, out_channels=3, **changes)).eval()
    with torch.inference_mode():
        logits = model(torch.randn(2, 2, *changes["window"])).logits
    assert logits.shape == (2, 3, *changes["window"])
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(
    ("changes", "skips", "ups"),
    [
        (LAYOUTS[0], [2, 4, 8, 16], [(4, 2), (8, 4), (16, 8), (24, 16)]),
        (LAYOUTS[1], [2, 4, 8], [(4, 2), (8, 4), (24, 8)]),
        (LAYOUTS[2], [2, 4, 8, 16], [(4, 2), (8, 4), (16, 8), (24, 16)]),
    ],
)
def test_widths_double_from_level_to_level(
    changes: dict[str, Any], skips: list[int], ups: list[tuple[int, int]]
) -> None:
    config = preset("nano", **changes)
    decoder = UnetrDecoder(config)
    token_map = torch.zeros(1, 24, *config.grid)
    image = torch.zeros(1, 1, *config.window)
    with torch.inference_mode():
        widths = [s(token_map if n else image).shape[1] for n, s in enumerate(decoder.skips)]
    assert widths == skips
    transposed = [up.transp_conv.conv for up in decoder.ups]
    assert [(c.in_channels, c.out_channels) for c in transposed] == ups


@pytest.mark.parametrize("changes", LAYOUTS, ids=lambda changes: str(changes["decoder"]))
def test_both_the_image_and_the_map_reach_the_logits(changes: dict[str, Any]) -> None:
    config = preset("nano", **changes)
    decoder = UnetrDecoder(config).eval()
    token_map, image = torch.randn(1, 24, *config.grid), torch.randn(1, 1, *config.window)
    with torch.inference_mode():
        logits = decoder(token_map, image)
        assert (decoder(token_map + torch.randn_like(token_map), image) - logits).abs().max() > 1e-3
        assert (decoder(token_map, image + torch.randn_like(image)) - logits).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("name", "keep_ratio", "giga_macs"),
    [("btcv", None, 131.8), ("btcv", 0.25, 140.9), ("btcv", 0.5, 165.3), ("brats", None, 403.8)],
)
def test_the_papers_presets_cost_what_was_counted_for_them(
    name: str, keep_ratio: float | None, giga_macs: float
) -> None:
    config = preset(name)
    with torch.device("meta"):
        model = SCD(config).eval()
    model.to_empty(device="cpu")
    # Shapes only, no arithmetic.
    with FakeTensorMode(allow_non_fake_inputs=True), sdpa_kernel(SDPBackend.MATH):
        image = torch.empty(1, config.in_channels, *config.window)
        with FlopCounterMode(display=False) as counter:
            logits = model(image, keep_ratio).logits
    assert logits.shape == (1, config.out_channels, *config.window)
    assert counter.get_total_flops() / 2e9 == pytest.approx(giga_macs, abs=0.05)


def test_the_papers_presets_can_be_built_without_memory() -> None:
    with torch.device("meta"):
        model = SCD(preset("btcv"))
    assert sum(parameter.numel() for parameter in model.parameters()) == 106_247_601


def test_the_image_branch_can_be_given_to_a_decoder() -> None:
    config = preset("nano", in_channels=2)
    decoder = UnetrDecoder(config).eval()
    assert isinstance(decoder, BranchedDecoder)
    token_map, image = torch.randn(1, 24, 4, 4, 4), torch.randn(1, 2, 32, 32, 32)
    with torch.inference_mode():
        skip = decoder.image_branch(image)
        assert skip.shape == (1, 2, 32, 32, 32)
        given = decoder(token_map, torch.zeros_like(image), image_skip=skip)
        assert torch.equal(given, decoder(token_map, image))
