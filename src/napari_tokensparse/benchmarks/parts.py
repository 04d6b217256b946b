"""Where the time of a forward pass goes: hooks on the modules that do the parts."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.utils.hooks import RemovableHandle

NORMS, OTHER = "norms", "other"
SCD_PARTS = {
    "patch embedding": r"encoder\.patch_embed",
    "blocks": r"encoder\.blocks\.\d+",
    "pruning": r"encoder\.stages\.\d+(\.predictor)?",
    "completion": r"completion",
    "decoder": r"decoder(\.skips\.0)?",
}
"""Parts of an SCD network, and the names of the modules that do them."""
UNETR_PARTS = {
    "patch embedding": r"vit\.patch_embedding",
    "blocks": r"vit\.blocks\.\d+",
    "decoder": r"(encoder|decoder)\d|out",
}
"""The same of MONAI's UNETR."""
_NORM_LAYERS = (nn.LayerNorm, nn.InstanceNorm3d, nn.BatchNorm3d, nn.GroupNorm)


class PartTimer:
    """Times the parts of a network's forward passes while it is entered.

    ``seconds`` holds each part's own time: that of a norm within a block counts as ``norms`` alone,
    and what no part does as ``other``, so that together they are the whole.

    Parameters
    ----------
    model
        The network.
    parts
        Names of parts, and patterns of the modules that do them.
    """

    def __init__(self, model: nn.Module, parts: Mapping[str, str]) -> None:
        self._model, self._parts = model, parts
        self._handles: list[RemovableHandle] = []
        self._open = [OTHER]
        self.seconds = dict.fromkeys((*parts, NORMS, OTHER), 0.0)

    def __enter__(self) -> PartTimer:
        for name, module in self._model.named_modules():
            part = self._part(name, module)
            if part is not None:
                self._watch(module, part)
        self._marked = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self._charge()
        for handle in self._handles:
            handle.remove()

    def _part(self, name: str, module: nn.Module) -> str | None:
        if isinstance(module, _NORM_LAYERS):
            return NORMS
        return next((p for p, where in self._parts.items() if re.fullmatch(where, name)), None)

    def _watch(self, module: nn.Module, part: str) -> None:
        def begin(*_: object) -> None:
            self._charge()
            self._open.append(part)

        def end(*_: object) -> None:
            self._charge()
            self._open.pop()

        self._handles.append(module.register_forward_pre_hook(begin))
        self._handles.append(module.register_forward_hook(end))

    def _charge(self) -> None:
        """Give the time since the last mark to the part that is at work."""
        now = time.perf_counter()
        self.seconds[self._open[-1]] += now - self._marked
        self._marked = now
