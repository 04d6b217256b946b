"""MONAI's layers over again, in the way that is fast on a CPU; maps stay channels-last in memory.

The parameters are the layers' own, and so are the results up to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from napari_tokensparse.model.layers.convolution import CpuConv
from napari_tokensparse.model.layers.operators import operator

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

# torch's sums over voxels are slow where a voxel has few channels, and lose digits in long rows.
_LEAST_WIDTH = 512
_MOST_ROWS = 8192
_FEW_CHANNELS = 16
_STATS = operator("torch.batch_norm_update_stats")
_BACKWARD = operator("torch.ops.aten.native_batch_norm_backward")
_IS_PLAIN = None in (_STATS, _BACKWARD)  # in a torch to come


class LayoutKeepingNorm(nn.InstanceNorm3d):
    """Instance norm without scale and shift, whose result lies in memory as the map does.

    On a CPU torch's own turns a channels-last map round, and the next convolution turns it back.
    Here each window is a batch norm of a batch of one, which keeps the layout there and back.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Give each channel of ``(B, C, h, w, d)`` mean 0 and variance 1."""
        if _IS_PLAIN or x.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(x)
        x = x.float() if x.dtype.itemsize < 4 else x
        norm = cast("Callable[[Tensor, float], Tensor]", _WindowNorm.apply)
        each = [norm(window, self.eps) for window in torch.split(x, 1)]
        return torch.cat(each) if len(each) > 1 else each[0]


class _WindowNorm(torch.autograd.Function):
    """Batch norm of a batch of one, with moments that keep their digits in a large map."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        mean, variance = moments(x)
        ctx.save_for_backward(x, mean, torch.rsqrt(variance + eps))
        ctx.eps = eps
        return F.batch_norm(x, mean, variance, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, mean, inverse = ctx.saved_tensors
        if x.shape[1] < _FEW_CHANNELS:
            return _norm_gradient(grad, x, mean, inverse), None
        of_x, _, _ = _BACKWARD(
            grad, x, None, None, None, mean, inverse, True, ctx.eps, [True, False, False]
        )
        return of_x, None


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of each channel of ``(1, C, h, w, d)``.

    Those of each place in a row of many voxels are put together, which keeps their digits: torch
    adds all voxels of a channels-last map one after another, and 10⁶ of them lose three.
    """
    rows = _rows(x)
    statistics = _STATS(rows, None, None, 0.0)
    means, variances = (each.view(-1, x.shape[1]) for each in statistics)
    mean = means.mean(dim=0)
    return mean, (variances + (means - mean).square()).mean(dim=0)


def _norm_gradient(grad: Tensor, x: Tensor, mean: Tensor, inverse: Tensor) -> Tensor:
    """Take the gradient of a norm back to its input, all ``(1, C, h, w, d)``, in rows of voxels."""
    of_result, rows = _rows(grad), _rows(x)
    voxels = rows.shape[1] // x.shape[1]
    means, inverses = mean.repeat(voxels), inverse.repeat(voxels)
    ones, mask = torch.ones_like(means), [False, True, True]
    _, *sums = _BACKWARD(of_result, rows, ones, None, None, means, inverses, True, 0.0, mask)
    slope, shift = (each.view(voxels, -1).sum(dim=0) / x[0, 0].numel() for each in sums)
    factor = -inverse.square() * slope
    constant = -inverse * shift - factor * mean
    of_rows = torch.addcmul(constant.repeat(voxels), rows, factor.repeat(voxels))
    of_rows.addcmul_(of_result, inverses)
    return of_rows.view(1, *x.shape[2:], -1).movedim(-1, 1)


def _rows(x: Tensor) -> Tensor:
    """See ``(1, C, h, w, d)`` as rows of several voxels one after another, ``(rows, voxels C)``."""
    channels, count = x.shape[1], x[0, 0].numel()
    voxels = 1
    while count % (2 * voxels) == 0 and (
        voxels * channels < _LEAST_WIDTH or count // voxels > _MOST_ROWS
    ):
        voxels *= 2
    return x.movedim(1, -1).reshape(-1, voxels * channels)


class PointwiseConv(nn.Conv3d):
    """Convolution with a 1 x 1 x 1 kernel, as the product of matrices that it is."""

    def forward(self, x: Tensor) -> Tensor:
        """Mix the channels of ``(B, C, h, w, d)``."""
        h, w, d = self.stride
        return _linear(x[:, :, ::h, ::w, ::d], self.weight.flatten(1), self.bias).movedim(-1, 1)


class DoublingConv(nn.ConvTranspose3d):
    """Transposed convolution with kernel and stride 2: a product of matrices, then a shuffle."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Double every side of ``(B, C, h, w, d)``."""
        b, _, h, w, d = x.shape
        weight = self.weight.permute(2, 3, 4, 1, 0).flatten(0, 3)  # (8 * out, in)
        bias = None if self.bias is None else self.bias.repeat(8)
        cubes = _linear(x, weight, bias).view(b, h, w, d, 2, 2, 2, self.out_channels)
        doubled = cubes.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(b, 2 * h, 2 * w, 2 * d, -1)
        return doubled.movedim(-1, 1)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Map the channels of ``(B, C, h, w, d)`` to ``(B, h, w, d, C')``.

    Folded to 2-D first: torch folds more axes only for weights that require a gradient, and a
    network would not give the same digits with and without.
    """
    b, _, h, w, d = x.shape
    return F.linear(x.movedim(1, -1).flatten(0, 3), weight, bias).view(b, h, w, d, -1)


def channels_last(module: nn.Module) -> nn.Module:
    """Lay the weights of convolutions out channels-last; on a CPU they run about twice as fast."""
    laid: nn.Module = module.to(
        memory_format=torch.channels_last_3d  # type: ignore[call-overload]  # not in the stubs
    )
    return laid


def keep_layout(module: nn.Module) -> None:
    """Replace, within a module, what falls out of channels-last or is slow there."""
    for name, child in module.named_children():
        other = _other(child)
        if other is None:
            keep_layout(child)
        else:
            setattr(module, name, other)


def _other(layer: nn.Module) -> nn.Module | None:
    """Make the layer that does the same; None for one that may stay."""
    if isinstance(layer, nn.InstanceNorm3d) and not (layer.affine or layer.track_running_stats):
        return LayoutKeepingNorm(layer.num_features, eps=layer.eps)
    if type(layer) is nn.Conv3d and layer.groups == 1 and layer.padding_mode == "zeros":
        if layer.kernel_size == (1, 1, 1):
            return _with_weights_of(layer, PointwiseConv)
        if not isinstance(layer.padding, str):
            return _with_weights_of(layer, CpuConv)
    two = (2, 2, 2)
    if isinstance(layer, nn.ConvTranspose3d) and layer.kernel_size == layer.stride == two:
        return _with_weights_of(layer, DoublingConv)
    return None


def _with_weights_of(layer: nn.Conv3d | nn.ConvTranspose3d, kind: type[nn.Module]) -> nn.Module:
    other = kind(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        bias=layer.bias is not None,
        device="meta",  # draws no random weights
    )
    other.load_state_dict(layer.state_dict(keep_vars=True), assign=True)
    return other
