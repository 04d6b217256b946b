"""bfloat16 on a CPU: products of matrices and convolutions, and nothing else.

Norms, the residual stream, scores, what is pruned, logits and stitching stay float32; so the same
tokens are pruned but where two scores are too close to call. Weights are converted once for a
model, and those of linear layers packed: with few tokens left, oneDNN would take a quarter of the
time to lay them out, at every call.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn import functional as F

from napari_tokensparse.compute.backends.base import Backend, state_of, with_parts
from napari_tokensparse.compute.precision import attention_gain, has_bfloat16
from napari_tokensparse.model.layers.blocks import Attention
from napari_tokensparse.model.layers.layout import LayoutKeepingNorm, moments
from napari_tokensparse.model.layers.operators import operator
from napari_tokensparse.model.layers.stage import Stage

if TYPE_CHECKING:
    from torch import Tensor

    from napari_tokensparse.model.scd import SCD

BFLOAT16 = "bfloat16"
_HALF = torch.bfloat16
_CONVOLUTIONS = (nn.Conv3d, nn.ConvTranspose3d)
_LOGITS = ("linear", "out", "detail.out")  # what decoders call the layers that give them
_PACK = operator("torch.ops.mkldnn._reorder_linear_weight")
_MULTIPLY = operator("torch.ops.mkldnn._linear_pointwise")


class _Made(NamedTuple):
    """A converted network, and the state of the model's weights and of torch then."""

    state: tuple[int, ...] | None
    network: SCD


_made: WeakKeyDictionary[SCD, _Made] = WeakKeyDictionary()


def bfloat16_backend(model: SCD) -> Backend:
    """Run a model on the CPU in bfloat16, whatever that gains.

    A decoder of the user's own stays as it is.
    """
    state, made = state_of(model), _made.get(model)
    if made is None or state is None or made.state != state:
        made = _made[model] = _Made(state, _converted(model))
    return Backend(BFLOAT16, made.network)


@torch.no_grad()
def _converted(model: SCD) -> SCD:
    attention = _HALF if attention_gain() > 1 else torch.float32

    def part(layer: nn.Module) -> nn.Module | None:
        if isinstance(layer, (Stage, nn.LayerNorm)):
            return layer
        if isinstance(layer, Attention):
            attending: Any = with_parts(layer, part)
            attending.qkv = _Linear(layer.qkv, attention)
            return cast("nn.Module", attending)
        if isinstance(layer, nn.Linear):
            return _Linear(layer)
        if isinstance(layer, _CONVOLUTIONS):
            return _Convolution(layer)
        if isinstance(layer, LayoutKeepingNorm):
            return _Norm(layer.num_features, eps=layer.eps)
        return _Exact(layer) if isinstance(layer, nn.InstanceNorm3d) else None

    twin = with_parts(model, part)
    completion: Any = model.completion
    if isinstance(getattr(completion, "out_linear", None), nn.Linear):
        # So that decoders, those of the user's own too, are given float32.
        twin.completion.out_linear = _Linear(completion.out_linear, torch.float32)
    twin.decoder = model.decoder
    if model.config.decoder != "custom":
        twin.decoder = with_parts(model.decoder, part)
        layers, twins = dict(model.decoder.named_modules()), dict(twin.decoder.named_modules())
        for name in _LOGITS:
            if name in layers:
                owner, _, last = name.rpartition(".")
                setattr(twins[owner], last, _Exact(layers[name]))
    return twin.eval()


class _Linear(nn.Module):
    """A linear layer of bfloat16.

    Parameters
    ----------
    layer
        The layer.
    given
        Type of what it gives.
    """

    def __init__(self, layer: nn.Linear, given: torch.dtype = _HALF) -> None:
        super().__init__()
        self._given = given
        self._weight = layer.weight.detach().to(_HALF)
        self._bias = None if layer.bias is None else layer.bias.detach().to(_HALF)
        self._packed = has_bfloat16() and None not in (_PACK, _MULTIPLY)
        if self._packed:
            self._weight = _PACK(self._weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., E)`` to ``(..., E')``."""
        x = x.to(_HALF)
        if self._packed:
            y: Tensor = _MULTIPLY(x.contiguous(), self._weight, self._bias, "none", [], "")
        else:
            y = F.linear(x, self._weight, self._bias)
        return y.to(self._given)


class _Convolution(nn.Module):
    """A convolution, also one that is done as a product of matrices, of bfloat16.

    Parameters
    ----------
    layer
        The layer; its weights lie channels-last.
    """

    def __init__(self, layer: nn.Conv3d | nn.ConvTranspose3d) -> None:
        super().__init__()
        self._layer = copy.copy(layer)
        self._layer._parameters = {
            name: None if each is None else nn.Parameter(each.detach().to(_HALF), False)
            for name, each in layer._parameters.items()
        }

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(B, C, h, w, d)``."""
        y: Tensor = self._layer(x.to(_HALF))
        return y


class _Norm(nn.InstanceNorm3d):
    """Instance norm of bfloat16 maps: moments and arithmetic in float32, plane by plane."""

    def forward(self, x: Tensor) -> Tensor:
        """Give each channel of ``(B, C, h, w, d)`` mean 0 and variance 1."""
        each = [self._normed(window) for window in torch.split(x, 1)]
        return torch.cat(each) if len(each) > 1 else each[0]

    def _normed(self, x: Tensor) -> Tensor:
        planes = [
            moments(plane.float()) for plane in torch.split(x, 1, dim=2)
        ]  # each fits into a cache
        means, variances = (torch.stack(each) for each in zip(*planes, strict=True))
        mean = means.mean(dim=0)
        variance = (variances + (means - mean).square()).mean(dim=0)
        return F.batch_norm(x, mean, variance, eps=self.eps)


class _Exact(nn.Module):
    """A layer that is given float32, and stays what it is.

    Parameters
    ----------
    layer
        The layer.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self._layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer."""
        y: Tensor = self._layer(x.float())
        return y
