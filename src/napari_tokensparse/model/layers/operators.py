"""torch's operators without a public name: which are called, and whether this torch has them.

They may go or change with any torch. Whoever calls one asks here first, and where it is lacking
leaves the work to torch's own layer, which is slower on a CPU and gives the same.
"""

from __future__ import annotations

from typing import Any

import torch

PRIVATE = (
    "torch.batch_norm_update_stats",
    "torch.mkldnn_convolution",
    "torch.ops.aten.convolution_backward",
    "torch.ops.aten.native_batch_norm_backward",
    "torch.ops.mkldnn._is_mkldnn_bf16_supported",
    "torch.ops.mkldnn._linear_pointwise",
    "torch.ops.mkldnn._reorder_linear_weight",
)
"""All of them, but for those that ``torch.onnx`` is given translations of."""


def operator(name: str) -> Any:
    """Return one of `PRIVATE`; None where this torch lacks it.

    Examples
    --------
    >>> operator("torch.mkldnn_convolution") is None
    False
    """
    part_of: Any = torch
    for part in name.split(".")[1:]:
        part_of = getattr(part_of, part, None)
    return part_of
