"""Convolution of volumes by oneDNN where torch would take something slower on a CPU.

The parameters are torch's own, and so are the results up to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from napari_tokensparse.model.layers.operators import operator

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_SMALL = 20_480
_LEAST_WEIGHTS = 128  # of a place of the kernel, for which products of matrices are worth it
_AT_ONCE = 2**18  # numbers of a map that are laid out for a product of matrices
_CONVOLVE = operator("torch.mkldnn_convolution")
_BACKWARD = operator("torch.ops.aten.convolution_backward")
_HAS_ONEDNN: bool = (
    torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    and None not in (_CONVOLVE, _BACKWARD)
)


class CpuConv(nn.Conv3d):
    """Convolution that a CPU does fast also for a small map, and so its gradients.

    torch hands a batch of one to oneDNN only where C · h · w > 20,480, and else to a loop several
    times as slow. The gradient of the weights is slow in oneDNN itself: for a kernel of 3 x 3 x 3
    it is done here.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(B, C, h, w, d)``."""
        if not _is_for_onednn(x):
            return super().forward(x)
        small = len(x) == 1 and x[..., 0].numel() <= _SMALL
        if torch.is_grad_enabled() and self._is_for_products(small):
            same = cast("Callable[..., Tensor]", _SameConvolution.apply)
            return same(x, self.weight, self.bias)
        if small:
            how = (list(self.stride), self.padding, list(self.dilation))
            other = cast("Callable[..., Tensor]", _OtherConvolution.apply)
            return other(x, self.weight, self.bias, *how)
        return super().forward(x)

    def _is_for_products(self, small: bool) -> bool:
        """Whether this is the usual one, 3 x 3 x 3 padded by 1, and its gradients are faster here.

        Those of a small map always are: oneDNN is only had for two of it.
        """
        how = {*self.stride, *self.padding, *self.dilation}
        enough = self.in_channels * self.out_channels >= _LEAST_WEIGHTS
        return self.kernel_size == (3, 3, 3) and how == {1} and (enough or small)


class _SameConvolution(torch.autograd.Function):
    """Convolution with 3 x 3 x 3 and a padding of 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _same(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            _same(grad, weight.flip(2, 3, 4).transpose(0, 1)) if of_x else None,
            sum(map(weight_gradient, x, grad), weight.new_zeros(())) if of_weight else None,
            grad.sum(dim=(0, 2, 3, 4)) if of_bias else None,
        )


def _same(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    one = (1, 1, 1)
    same: Tensor = _CONVOLVE(x, weight, bias, one, one, one, 1)
    return same


def weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """Give the gradient of a 3 x 3 x 3 kernel, by products of matrices.

    A row holds the channels of three neighbours along d, and a column those of the gradient in
    three planes: neither is copied for each of the 27 places of the kernel, as oneDNN does.

    Parameters
    ----------
    x
        Input ``(C, h, w, d)``.
    grad
        Gradient ``(C', h, w, d)`` of the output; the padding was 1.

    Returns
    -------
    Tensor
        ``(C', C, 3, 3, 3)``.
    """
    c, h, w, d = x.shape
    plane, out = w * d, len(grad)
    planes = grad.new_zeros(h + 2, out, plane)
    planes[1:-1] = grad.flatten(2).transpose(0, 1)
    three = planes.as_strided((h, 3 * out, plane), (out * plane, plane, 1))
    gradient = x.new_zeros(3, 3 * out, 3 * c)  # (w, h * C', d * C)
    at_once = max(1, _AT_ONCE // (3 * c * plane))
    for first in range(0, h, at_once):
        rows = F.pad(x[:, first : first + at_once].movedim(0, -1), (0, 0, 1, 1, 1, 1))
        n = len(rows)  # (n, w + 2, d + 2, C)
        rows = rows.as_strided((n, w + 2, d, 3 * c), rows.stride()).reshape(n, -1, 3 * c)
        for shift, part in enumerate(gradient):
            moved = rows[:, shift * d : shift * d + plane]
            part += torch.bmm(three[first : first + n], moved).sum(dim=0)
    return gradient.view(3, 3, out, 3, c).flip(1).permute(2, 4, 1, 0, 3)


class _OtherConvolution(torch.autograd.Function):
    """Any convolution of a batch of one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *how: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.how, ctx.bias = how, bias is not None
        stride, padding, dilation = how
        out: Tensor = _CONVOLVE(x, weight, bias, padding, stride, dilation, 1)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, dilation = ctx.how
        # torch's only way to oneDNN's gradients is a batch of more than one.
        pair = [torch.cat([each, torch.zeros_like(each)]) for each in (grads[0], x)]
        mask = [*ctx.needs_input_grad[:2], ctx.bias and ctx.needs_input_grad[2]]
        sizes = [len(weight)] if ctx.bias else None
        of_x, of_weight, of_bias = _BACKWARD(
            *pair, weight, sizes, stride, padding, dilation, False, [0, 0, 0], 1, mask
        )
        return None if of_x is None else of_x[:1], of_weight, of_bias, None, None, None


def _is_for_onednn(x: Tensor) -> bool:
    if torch.compiler.is_compiling() or type(x) is not torch.Tensor:
        return False
    if torch.is_autocast_enabled("cpu"):  # torch's own casts, and oneDNN takes any bfloat16 map
        return False
    return x.device.type == "cpu" and x.dtype == torch.float32 and _HAS_ONEDNN
