"""What a backend is, and the copies of a network that backends are made of."""

from __future__ import annotations

import copy
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import nn

from napari_tokensparse.model.crop import content_box, whole_box

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from napari_tokensparse.model.crop import TokenBox
    from napari_tokensparse.model.ratios import Rule
    from napari_tokensparse.model.scd import SCD, SCDOutput

PLAIN, OPENVINO, INT8 = "plain", "openvino", "int8"
M = TypeVar("M", bound=nn.Module)


class BackendError(ValueError):
    """A backend that cannot be used here; one plain line says why."""


@dataclass(frozen=True, eq=False)
class Backend:
    """A network as it is run.

    Attributes
    ----------
    name
        Which backend it is.
    network
        The model, or a copy of it with the same weights whose parts are run otherwise.
    notes
        What could not be done as asked, one line each.
    autocast
        Half precision of all but the score predictors; None for float32.
    late_notes
        The same as notes, of what shows while windows are run.
    """

    name: str
    network: SCD
    notes: tuple[str, ...] = ()
    autocast: torch.dtype | None = None
    late_notes: list[str] = field(default_factory=list)

    def __call__(
        self,
        windows: Tensor,
        keep_ratio: float | Sequence[float] | Rule | None = None,
        *,
        token_scores: Tensor | None = None,
        skip_blocks: bool = False,
        box: TokenBox | None = None,
        pins: Tensor | None = None,
    ) -> SCDOutput:
        """Segment windows ``(B, C, h, w, d)``; parameters and result are those of `SCD`.

        The logits are float32; there are no gradients. The box is found here, if it is not given:
        it depends on values, which what is compiled cannot look at.
        """
        config = self.network.config
        if config.crop_value is not None:
            box = box or content_box(windows, config) or whole_box(config)
        with ExitStack() as around:
            around.enter_context(torch.inference_mode())
            if windows.is_cuda:
                around.enter_context(torch.backends.cudnn.flags(benchmark=True))
            if self.autocast is not None:
                around.enter_context(torch.autocast(windows.device.type, self.autocast))
            out: SCDOutput = self.network(
                windows,
                keep_ratio,
                token_scores=token_scores,
                skip_blocks=skip_blocks,
                box=box,
                pins=pins,
            )
        return replace(out, inside=out.inside.float())


def state_of(model: SCD) -> tuple[int, ...] | None:
    """Return what changes with the weights; None of weights on which torch does not count."""
    weights = (*model.parameters(), *model.buffers())
    if any(each.is_inference() for each in weights):
        return None
    marks = (mark for each in weights for mark in (id(each), each._version))
    return (torch.get_num_threads(), *marks)


def with_parts(module: M, other: Callable[[nn.Module], nn.Module | None]) -> M:
    """Copy a module without its weights, with some of its parts exchanged.

    Parameters
    ----------
    module
        Stays as it is; the copy has the same parameters, not equal ones.
    other
        Gives what takes a part's place; None for a part that is copied.
    """
    twin = copy.copy(module)
    twin._modules = {
        name: None if part is None else other(part) or with_parts(part, other)
        for name, part in module._modules.items()
    }
    return twin
