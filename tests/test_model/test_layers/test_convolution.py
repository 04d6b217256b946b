from itertools import product
from typing import Any

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from napari_tokensparse.model.layers import convolution
from napari_tokensparse.model.layers.convolution import CpuConv, weight_gradient


def gradients(conv: nn.Module, x: torch.Tensor, like: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(conv(x), [x, *conv.parameters()], like))


def pair(bias: bool = True) -> tuple[CpuConv, nn.Conv3d]:
    own, torchs = CpuConv(12, 16, 3, padding=1, bias=bias), nn.Conv3d(12, 16, 3, padding=1)
    torchs.bias = torchs.bias if bias else None
    torchs.load_state_dict(own.state_dict())
    return own, torchs


@pytest.mark.parametrize("at_once", [2**18, 1])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("windows", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_are_torchs(
    bias: bool, windows: int, layout: Any, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "_AT_ONCE", at_once)
    own, torchs = pair(bias)
    x = torch.randn(windows, 12, 7, 6, 5).contiguous(memory_format=layout).requires_grad_()
    like = torch.randn(windows, 16, 7, 6, 5).contiguous(memory_format=layout)
    ours, wanted = gradients(own, x, like), gradients(torchs, x, like)
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 5, 2), (4, 1, 3)])
def test_gradients_of_the_smallest_maps_are_torchs(size: tuple[int, int, int]) -> None:
    own, torchs = pair()
    x, like = torch.randn(1, 12, *size, requires_grad=True), torch.randn(1, 16, *size)
    torch.testing.assert_close(gradients(own, x, like), gradients(torchs, x, like))


def test_the_gradient_of_weights_keeps_its_digits_in_a_large_map() -> None:
    generator = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(2, 64, 64, 64, generator=generator) + 1 for _ in range(2))
    gradient = weight_gradient(x, grad).double()
    around = nn.functional.pad(x.double(), (1,) * 6)
    places = product(range(3), repeat=3)
    moved = [around[:, a : a + 64, b : b + 64, c : c + 64] for a, b, c in places]
    exact = torch.stack([torch.einsum("ohwd,ihwd->oi", grad.double(), m) for m in moved], dim=-1)
    exact = exact.view(2, 2, 3, 3, 3)
    assert float((gradient - exact).abs().max() / exact.abs().max()) < 1e-6


def test_only_what_is_asked_for_is_computed() -> None:
    own, _ = pair()
    own.weight.requires_grad_(False)
    x = torch.randn(1, 12, 4, 4, 4, requires_grad=True)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        own(x).sum().backward()
    names = [event.name for event in seen.events()]
    assert x.grad is not None
    assert own.weight.grad is None
    assert "aten::bmm" not in names
    assert "aten::convolution_backward" not in names
    assert names.count("aten::mkldnn_convolution") == 2


def test_logits_are_the_same_with_gradients_and_without() -> None:
    own, _ = pair()
    for size in ((4, 4, 4), (12, 48, 48)):  # to either side of what torch gives to a loop
        x = torch.randn(1, 12, *size)
        with torch.no_grad():
            without = own(x)
        assert torch.equal(own(x), without)


def test_what_is_not_float32_goes_to_torch() -> None:
    own, torchs = pair()
    x = torch.randn(1, 12, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    like = torch.randn(1, 16, 4, 4, 4, dtype=torch.float64)
    ours, wanted = (gradients(conv.double(), x, like) for conv in (own, torchs))
    torch.testing.assert_close(ours, wanted)
