from typing import Any

import pytest
import torch
from monai.networks.blocks.unetr_block import UnetrUpBlock
from torch import nn
from torch.profiler import ProfilerActivity, profile

from napari_tokensparse.model.decoders.unetr import UnetrDecoder
from napari_tokensparse.model.layers import layout
from napari_tokensparse.model.layers.convolution import CpuConv
from napari_tokensparse.model.layers.layout import (
    DoublingConv,
    LayoutKeepingNorm,
    PointwiseConv,
    channels_last,
    keep_layout,
)
from napari_tokensparse.model.presets import preset


def both_ways(layer: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """What a layer gives, and the gradients of the input and of the parameters."""
    given = x.detach().requires_grad_()
    out = layer(given)
    wanted = [given, *layer.parameters()]
    weights = torch.linspace(-1, 1, out.numel()).reshape(out.shape)
    return out, list(torch.autograd.grad((out * weights).sum(), wanted))


def assert_same_gradients(own: list[torch.Tensor], torchs: list[torch.Tensor]) -> None:
    """A gradient is a sum: how far it is rounded goes with its largest entry, not with each."""
    for a, b in zip(own, torchs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4 * float(b.abs().max()))


def replaced(layer: nn.Module) -> nn.Module:
    holder = nn.Sequential(layer)
    keep_layout(holder)
    return holder[0]


@pytest.mark.parametrize("windows", [1, 2])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (nn.InstanceNorm3d(3, eps=1e-3), LayoutKeepingNorm),
        (nn.Conv3d(3, 5, 1), PointwiseConv),
        (nn.Conv3d(3, 5, 1, stride=2, bias=False), PointwiseConv),
        (nn.Conv3d(3, 5, 3, padding=1), CpuConv),
        (nn.Conv3d(3, 5, 3, stride=2, padding=(1, 0, 2), dilation=(1, 1, 2)), CpuConv),
        (nn.Conv3d(3, 5, 3, bias=False), CpuConv),
        (nn.ConvTranspose3d(3, 5, 2, stride=2), DoublingConv),
        (nn.ConvTranspose3d(3, 5, 2, stride=2, bias=False), DoublingConv),
    ],
)
def test_a_replaced_layer_gives_what_torchs_gives_in_the_layout_it_was_given(
    layer: nn.Module, kind: type[nn.Module], memory: Any, windows: int
) -> None:
    x = (5 * torch.randn(windows, 3, 8, 6, 4) + 7).contiguous(memory_format=memory)
    other = replaced(layer)
    assert type(other) is kind
    assert other.state_dict().keys() == layer.state_dict().keys()
    assert all(a is b for a, b in zip(other.parameters(), layer.parameters(), strict=True))
    (own, own_grads), (torchs, torchs_grads) = both_ways(other, x), both_ways(layer, x)
    torch.testing.assert_close(own, torchs, rtol=1e-5, atol=2e-5)
    assert_same_gradients(own_grads, torchs_grads)
    with torch.no_grad():
        without = other(x)
    torch.testing.assert_close(without, torchs, rtol=1e-5, atol=2e-5)
    if memory is torch.channels_last_3d:
        assert without.is_contiguous(memory_format=memory)
        assert own.is_contiguous(memory_format=memory)


@pytest.mark.parametrize("channels", [3, 20])
@pytest.mark.parametrize("most_rows", [1, 27, 8192])
def test_a_norm_of_rows_put_together_is_torchs(
    channels: int, most_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "_MOST_ROWS", most_rows)
    x = (torch.randn(2, channels, 9, 6, 4).cumsum(dim=2) + 7).contiguous(
        memory_format=torch.channels_last_3d
    )
    (own, own_grads), (torchs, torchs_grads) = (
        both_ways(norm, x) for norm in (LayoutKeepingNorm(channels), nn.InstanceNorm3d(channels))
    )
    torch.testing.assert_close(own, torchs, rtol=1e-5, atol=1e-5)
    assert_same_gradients(own_grads, torchs_grads)


def test_a_norm_of_a_large_map_keeps_its_digits_with_gradients_and_without() -> None:
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(1, 4, 96, 96, 96, generator=generator) + 3).contiguous(
        memory_format=torch.channels_last_3d
    )
    exact = nn.InstanceNorm3d(4)(x.double())
    with torch.no_grad():
        without = LayoutKeepingNorm(4)(x)
    assert float((without - exact).abs().max()) < 1e-5
    assert torch.equal(LayoutKeepingNorm(4)(x.requires_grad_()), without)


def test_a_norm_of_a_flat_map_is_0() -> None:
    flat = torch.full((1, 3, 2, 2, 2), 7.0)
    assert LayoutKeepingNorm(3)(flat).abs().max() < 1e-4


@pytest.mark.parametrize(
    "layer",
    [
        nn.InstanceNorm3d(3, affine=True),
        nn.Conv3d(3, 3, 3, groups=3),
        nn.Conv3d(3, 3, 3, padding="same"),
        nn.Conv3d(3, 3, 3, padding=1, padding_mode="reflect"),
        nn.Conv3d(3, 3, 1, groups=3),
        nn.ConvTranspose3d(3, 3, 3, stride=2),
    ],
)
def test_what_is_something_else_stays(layer: nn.Module) -> None:
    assert replaced(layer) is layer


def test_a_small_map_is_never_left_to_torchs_loop() -> None:
    conv = replaced(nn.Conv3d(3, 5, 3, padding=1))
    x = torch.randn(1, 3, 8, 6, 4, requires_grad=True)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        conv(x).sum().backward()
    names = {event.name for event in seen.events()}
    assert "aten::mkldnn_convolution" in names
    assert not any("slow_conv" in name for name in names)


def test_replacing_draws_no_random_numbers() -> None:
    block = UnetrUpBlock(3, 4, 4, kernel_size=3, upsample_kernel_size=2, norm_name="instance")
    before = torch.get_rng_state()
    keep_layout(block)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_whole_decoder_stays_channels_last() -> None:
    decoder = channels_last(UnetrDecoder(preset("nano")))
    norms = [m for m in decoder.modules() if isinstance(m, nn.InstanceNorm3d)]
    assert len(norms) > 10
    assert all(type(m) is LayoutKeepingNorm for m in norms)
    token_map, image = torch.randn(2, 24, 4, 4, 4), torch.randn(2, 1, 32, 32, 32)
    seen: list[torch.Tensor] = []
    for norm in norms:
        norm.register_forward_hook(lambda _, given, out: seen.extend([*given, out]))
    decoder(token_map.contiguous(memory_format=torch.channels_last_3d), image)
    assert len(seen) == 2 * len(norms)
    assert all(x.is_contiguous(memory_format=torch.channels_last_3d) for x in seen)
