"""OpenVINO on a CPU: it decodes, and torch encodes.

The decoder is where OpenVINO gains: products of matrices are as fast by torch. It has nothing to do
with keep ratios, so one graph does for all of them, and the choice of tokens stays torch's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import nn

from napari_tokensparse.compute.backends.base import OPENVINO, PLAIN, Backend, with_parts
from napari_tokensparse.compute.backends.graphs import GraphError, compiled_graph, decode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_tokensparse.model.scd import SCD


class _Made(NamedTuple):
    """The graph of a model, and the state of its weights and of torch when it was made."""

    state: tuple[int, ...] | None
    graph: Any


_made: WeakKeyDictionary[SCD, _Made] = WeakKeyDictionary()


def openvino_backend(model: SCD) -> Backend:
    """Run a model on the CPU with OpenVINO, or plainly where that cannot be.

    That is so when OpenVINO cannot convert the decoder, one of the user's own perhaps, or gives
    other logits than torch; the backend's note says so.
    """
    try:
        graph = _graph_of(model)
    except GraphError as error:
        return Backend(PLAIN, model, (f"OpenVINO cannot decode here, so torch does ({error})",))
    twin = with_parts(model, lambda part: part)
    twin.decoder = _OpenVinoDecoder(graph, model)
    return Backend(OPENVINO, twin)


def _graph_of(model: SCD) -> Any:
    """Make the graph, or find it, without a look at the weights, if they are still the same."""
    state, made = _state(model), _made.get(model)
    if made is None or made.state is None or made.state != state:
        made = _made[model] = _Made(state, compiled_graph(model))
    return made.graph


def _state(model: SCD) -> tuple[int, ...] | None:
    """Return what changes with the weights; None of weights on which torch does not count."""
    weights = (*model.parameters(), *model.buffers())
    if any(each.is_inference() for each in weights):
        return None
    marks = (mark for each in weights for mark in (id(each), each._version))
    return (torch.get_num_threads(), *marks)


class _OpenVinoDecoder(nn.Module):
    """Decode window by window with a compiled graph; for one thread at a time."""

    def __init__(self, graph: Any, model: SCD) -> None:
        super().__init__()
        self._request = graph.create_infer_request()
        self._size = (*model.config.window, model.config.out_channels)

    def forward(self, token_map: Tensor, image: Tensor, skip_maps: Sequence[Tensor] = ()) -> Tensor:
        """Decode the map ``(B, E, gh, gw, gd)`` and image to logits, channels last in memory."""
        tokens, *skips = (x.flatten(2).transpose(1, 2) for x in (token_map, *skip_maps))
        inputs = (tokens, image, *skips)
        logits = torch.empty(len(image), *self._size)
        for each in zip(*(torch.split(x, 1) for x in (*inputs, logits)), strict=True):
            decode(self._request, each[:-1], each[-1])
        return logits.movedim(-1, 1)
