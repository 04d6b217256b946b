"""Linear layers whose weights oneDNN has laid out once, for the processor at hand.

torch hands a product of matrices to MKL, which on some processors is slower than oneDNN on one
thread, and faster on several.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from napari_tokensparse.engine.backends.base import M, with_parts
from napari_tokensparse.model.blocks import Mlp

if TYPE_CHECKING:
    from torch import Tensor

_ONEDNN: Any = torch.ops.mkldnn


def can_pack() -> bool:
    """Whether this torch has the layers, which its own compiler makes of a frozen network."""
    wanted = ("_linear_pointwise", "_reorder_linear_weight")
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has_onednn and all(hasattr(_ONEDNN, name) for name in wanted)


def packed(module: M) -> M:
    """Copy a float32 module on the CPU for inference, with every Linear within it packed.

    The copy does not follow when the module's weights change.
    """
    return with_parts(module, _packed)


class _PackedLinear(nn.Module):
    """A Linear, and the exact GELU after it if asked."""

    def __init__(self, layer: nn.Linear, gelu: bool = False) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self._laid_out = _ONEDNN._reorder_linear_weight(layer.weight.detach())
        self._after = "gelu" if gelu else "none"

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., E)`` to ``(..., E')``."""
        y: Tensor = _ONEDNN._linear_pointwise(
            x.contiguous(), self._laid_out, self.bias, self._after, [], "none"
        )
        return y


def _packed(part: nn.Module) -> nn.Module | None:
    if isinstance(part, Mlp):
        return nn.Sequential(_PackedLinear(part.fc1, gelu=True), _PackedLinear(part.fc2))
    return _PackedLinear(part) if type(part) is nn.Linear else None
