"""OpenVINO in whole numbers of 8 bits, on a CPU: it decodes, and torch encodes in float32.

So scores, and what is pruned, are those of float32. NNCF chooses which number stands for what by
what passes through the decoder on the window of `sample_window`, at several keep ratios; where a
model says nothing of its preprocessing, that is noise.
"""

from __future__ import annotations

import logging
import math
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import version
from io import StringIO
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from napari_tokensparse.compute.backends.base import INT8, Backend, with_parts
from napari_tokensparse.compute.backends.exporting import takes_gate
from napari_tokensparse.compute.backends.graphs import (
    Form,
    Graph,
    GraphError,
    compile_graph,
    decode,
    quiet,
    rate,
)
from napari_tokensparse.compute.backends.openvino import graph_backend
from napari_tokensparse.compute.backends.ov import import_nncf
from napari_tokensparse.compute.backends.trial import codes, sample_window
from napari_tokensparse.model.crop import TokenBox, content_box, whole_box

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from napari_tokensparse.model.crop import Grid
    from napari_tokensparse.model.scd import SCD

LEAST = 0.95
"""Share of the sample's voxels whose labels must be those of float32, of a trained model."""
_RATIOS = (1.0, 0.5, 0.25, 0.1)
_FORM = 1  # of the calibration: to be counted up when it is another one
Example = tuple["Tensor", ...]


def int8_backend(model: SCD) -> Backend:
    """Run a model on the CPU with a decoder of whole numbers, or plainly where that cannot be.

    That is so where `openvino_backend` does so, or where too few labels are those of float32.
    """
    return graph_backend(INT8, model, _QUANTISED)


def calibration(model: SCD, grid: Grid) -> tuple[list[Example], list[Tensor]]:
    """Run the sample, in a box of so many tokens about what it holds, at several keep ratios.

    Returns
    -------
    tuple of lists
        For each keep ratio the decoder's inputs, as `decode` takes them, and float32's logits
        ``(1, K, h, w, d)``.
    """
    window = sample_window(model)
    box = _box_about(content_box(window, model.config) or whole_box(model.config), grid)
    twin = with_parts(model, lambda part: part)
    twin.decoder = decoder = (_GatedListener if takes_gate(model) else _Listener)(model.decoder)
    with torch.inference_mode():
        ratios = _RATIOS if model.config.stages else (1.0,)
        logits = [twin(window, ratio, box=box).inside for ratio in ratios]
    return decoder.given, logits


def _quantised(model: SCD, grid: Grid, graph: Any, threads: int) -> tuple[Any, Graph]:
    """Quantise a graph, and compare its labels with those of float32."""
    given, wanted = calibration(model, grid)
    nncf = import_nncf()
    arrays = [dict(enumerate(x.numpy() for x in each)) for each in given]
    with quiet(), _no_report():
        whole = nncf.quantize(
            graph,
            nncf.Dataset(arrays),
            preset=nncf.QuantizationPreset.MIXED,  # maps are not positive alone
            subset_size=len(arrays),
        )
    made = compile_graph(whole, threads)
    agreement = _agreement(model, made, given, wanted)
    if not agreement >= LEAST and model.has_info:
        raise GraphError(
            f"int8 gives the label of float32 at {100 * agreement:.1f} % of the voxels of the "
            f"sample, less than {100 * LEAST:g} %"
        )
    rate(whole, agreement)
    return whole, Graph(made, agreement)


def _agreement(model: SCD, made: Any, given: list[Example], wanted: list[Tensor]) -> float:
    request, same = made.create_infer_request(), []
    for inputs, exact in zip(given, wanted, strict=True):
        logits = torch.empty(1, *exact.shape[2:], exact.shape[1])
        decode(request, inputs, logits)
        equal = codes(model, logits.movedim(-1, 1)) == codes(model, exact)
        same.append(float(equal.float().mean()))
    return math.fsum(same) / len(same)


def _box_about(held: TokenBox, grid: Grid) -> TokenBox:
    """Return the box of a size that lies within the window, and round a box as far as it can."""
    first = [
        min(max(0, (begin + end - size) // 2), whole - size)
        for begin, end, size, whole in zip(held.first, held.end, grid, held.grid, strict=True)
    ]
    h, w, d = first
    end = (h + grid[0], w + grid[1], d + grid[2])
    return TokenBox((h, w, d), end, held.grid, held.patch)


class _Listener(nn.Module):
    """Decodes, and keeps what it was given in the form that `decode` takes.

    Parameters
    ----------
    decoder
        What it stands for.
    """

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder, self.given = decoder, list[Example]()

    def forward(self, token_map: Tensor, image: Tensor, *skips: list[Tensor]) -> Tensor:
        """Decode tokens, the image and, for the dense baseline, skips."""
        self._keep(token_map, image, *(each for maps in skips for each in maps))
        logits: Tensor = self.decoder(token_map, image, *skips)
        return logits

    def _keep(self, token_map: Tensor, image: Tensor, *others: Tensor) -> None:
        tokens, *rest = (x.flatten(2).transpose(1, 2).clone() for x in (token_map, *others))
        self.given.append((tokens, image.clone(), *rest))


class _GatedListener(_Listener):
    gated = True

    def forward(self, token_map: Tensor, image: Tensor, gate: Tensor) -> Tensor:  # type: ignore[override]
        """Decode the map, the image and the gate."""
        self._keep(token_map, image, gate)
        logits: Tensor = self.decoder(token_map, image, gate=gate)
        return logits


@contextmanager
def _no_report() -> Iterator[None]:
    """Keep NNCF's progress from the user."""
    logger = logging.getLogger("nncf")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(StringIO()):  # its bars have no switch
            yield
    finally:
        logger.setLevel(before)


_QUANTISED = Form(INT8, _quantised, rated=True, versions=lambda: (_FORM, version("nncf")))
