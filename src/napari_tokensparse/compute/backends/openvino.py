"""OpenVINO on a CPU: it decodes, and torch encodes.

The decoder is where OpenVINO gains: products of matrices are as fast by torch. It has nothing to do
with keep ratios, so one graph does for all of them, and the choice of tokens stays torch's own. A
graph is of one size: a network that crops its windows needs one for every box.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import nn

from napari_tokensparse.compute.backends.base import (
    OPENVINO,
    PLAIN,
    Backend,
    state_of,
    with_parts,
)
from napari_tokensparse.compute.backends.exporting import takes_gate
from napari_tokensparse.compute.backends.graphs import (
    EXACT,
    Form,
    Graph,
    GraphError,
    compiled_graph,
    decode,
    hinted_graph,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_tokensparse.model.crop import Grid
    from napari_tokensparse.model.scd import SCD

BOXES = 4
"""Sizes of boxes for which a backend converts a decoder; in others torch decodes: one takes as long
to convert as hundreds take to be decoded."""


class _Made(NamedTuple):
    """Graphs of a model by form and size of the box, and the state of its weights and of torch."""

    state: tuple[int, ...] | None
    graphs: dict[str, dict[Grid, Graph]]


_made: WeakKeyDictionary[SCD, _Made] = WeakKeyDictionary()


def openvino_backend(model: SCD) -> Backend:
    """Run a model on the CPU with OpenVINO, or plainly where that cannot be.

    That is so when OpenVINO cannot convert the decoder, one of the user's own perhaps, or gives
    other logits than torch; the backend's note says so. A network that crops its windows is
    converted when the first box of a size comes; what then went wrong is found out later.
    """
    return graph_backend(OPENVINO, model, EXACT)


def graph_backend(name: str, model: SCD, form: Form) -> Backend:
    """Run a model's decoder by graphs of a form, as `openvino_backend` does.

    What is to be said of such a graph's agreement is among the late notes.
    """
    graphs = _graphs_of(model, form)
    twin = _with_graphs(model, graphs, form)
    if model.config.crop_value is None:
        try:
            twin.decoder.find(model, model.config.grid)
        except GraphError as error:
            return Backend(PLAIN, model, (_said(error),))
    return Backend(name, twin, late_notes=twin.decoder.notes)


def hinted_network(model: SCD) -> SCD:
    """Return a network whose decoder runs by OpenVINO's own hint to take bfloat16.

    To compare with: its logits are not checked, and it is of whole windows alone.
    """
    graphs = {model.config.grid: hinted_graph(model, model.config.grid)}
    return _with_graphs(model, graphs, EXACT)


def _with_graphs(model: SCD, graphs: dict[Grid, Graph], form: Form) -> SCD:
    plain, twin = (with_parts(model, lambda part: part) for _ in range(2))
    twin.decoder = (_GatedDecoder if takes_gate(model) else _PlainDecoder)(plain, graphs, form)
    return twin


def _said(error: GraphError) -> str:
    return f"OpenVINO cannot decode here, so torch does ({error})"


def _graphs_of(model: SCD, form: Form) -> dict[Grid, Graph]:
    """Return a model's graphs, without a look at the weights, if these are still the same."""
    state, made = state_of(model), _made.get(model)
    if made is None or made.state is None or made.state != state:
        made = _made[model] = _Made(state, {})
    return made.graphs.setdefault(form.name, {})


class _Decoder(nn.Module):
    """Decode window by window with compiled graphs; for one thread at a time.

    Parameters
    ----------
    model
        Whose decoder it stands for.
    graphs
        Of the model, by the size of the box; filled as sizes come.
    form
        Of the graphs.
    """

    def __init__(self, model: SCD, graphs: dict[Grid, Graph], form: Form) -> None:
        super().__init__()
        self.notes: list[str] = []
        self._models = (model,)  # so that it is no part of this module
        self._graphs, self._form = graphs, form
        self._requests: dict[Grid, Any] = {}

    def _decoded(
        self, token_map: Tensor, image: Tensor, others: Sequence[Tensor], named: dict[str, Any]
    ) -> Tensor:
        (model,) = self._models
        h, w, d = token_map.shape[2:]
        request = self._request(model, (h, w, d))
        if request is None:
            plain: Tensor = model.decoder(token_map, image, **named)
            return plain
        tokens, *rest = (x.flatten(2).transpose(1, 2) for x in (token_map, *others))
        logits = torch.empty(len(image), *image.shape[2:], model.config.out_channels)
        for each in zip(*(torch.split(x, 1) for x in (tokens, image, *rest, logits)), strict=True):
            decode(request, each[:-1], each[-1])
        return logits.movedim(-1, 1)

    def _request(self, model: SCD, grid: Grid) -> Any:
        """Return what runs the graph of a box; None where torch decodes."""
        if grid not in self._requests and len(self._requests) < BOXES:
            try:
                self._requests[grid] = self.find(model, grid).compiled.create_infer_request()
            except GraphError as error:
                self._requests[grid] = None
                self._note(_said(error))
        return self._requests.get(grid)

    def find(self, model: SCD, grid: Grid) -> Graph:
        """Return the graph of a box, made if need be; raises a `GraphError` where none can be."""
        if grid not in self._graphs:
            self._graphs[grid] = compiled_graph(model, grid, self._form)
        graph = self._graphs[grid]
        if graph.agreement is not None:
            self._note(
                f"the decoder computes in {self._form.name}, which gives the label of float32 at "
                f"{100 * graph.agreement:.1f} % of the voxels of the sample"
            )
        return graph

    def _note(self, said: str) -> None:
        if said not in self.notes:
            self.notes.append(said)


class _PlainDecoder(_Decoder):
    """Decodes tokens, the image and, for the dense baseline, skips."""

    def forward(self, token_map: Tensor, image: Tensor, skip_maps: Sequence[Tensor] = ()) -> Tensor:
        """Decode the map ``(B, E, gh, gw, gd)`` and image to logits, channels last in memory."""
        named = {"skip_maps": skip_maps} if skip_maps else {}
        return self._decoded(token_map, image, skip_maps, named)


class _GatedDecoder(_Decoder):
    """Decodes tokens and the image where the first stage kept a token."""

    gated = True

    def forward(self, token_map: Tensor, image: Tensor, gate: Tensor) -> Tensor:
        """Decode the map, the image and the gate ``(B, 1, gh, gw, gd)``."""
        return self._decoded(token_map, image, (gate,), {"gate": gate})
