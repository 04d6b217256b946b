"""The ONNX graph of a network that crops its windows: the box is found in the graph, per window.

torch exports the network for a box of any size; what finds the box and counts the tokens that each
stage keeps goes before it, and what lays the logits into the window goes after it. So a whole
window goes in and comes out, as with any other network.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from napari_tokensparse.compute.backends.base import with_parts
from napari_tokensparse.compute.backends.exporting import plain_layer
from napari_tokensparse.model.decoders.protocols import GatedDecoder
from napari_tokensparse.model.encoder import Pass, SparseTokens, TokenTrace
from napari_tokensparse.model.layers.layout import LayoutKeepingNorm
from napari_tokensparse.model.layers.stage import Live
from napari_tokensparse.model.scd import as_map

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from napari_tokensparse.model.encoder import EncoderStart
    from napari_tokensparse.model.scd import SCD

_INT32, _INT64, _DOUBLE = 6, 7, 11  # ONNX's numbers of types


def cropping_graph(
    model: SCD,
    ratios: tuple[float, ...],
    outputs: Sequence[str],
    translations: Mapping[Any, Callable[..., Any]],
) -> Any:
    """Return the ONNX model of a network whose config has a ``crop_value``.

    Parameters
    ----------
    model
        On the CPU, in evaluation mode.
    ratios
        Keep ratio of each stage.
    outputs
        Their names, ``logits`` first.
    translations
        What torch's exporter cannot translate by itself.
    """
    from onnx import parser

    made = _boxed(model, ["box_logits", *outputs[1:]], translations)
    version = next(each.version for each in made.opset_import if not each.domain)
    head = f'<ir_version: {made.ir_version}, opset_import: ["": {version}]>\n'
    texts = _before(model, ratios), _after(model)
    before, after = (parser.parse_model(head + text) for text in texts)
    nodes = [*before.graph.node, *made.graph.node, *after.graph.node]
    del made.graph.node[:], made.graph.input[:], made.graph.output[0]
    made.graph.node.extend(nodes)
    made.graph.input.extend(before.graph.input)
    made.graph.output.insert(0, after.graph.output[0])
    return made


class _Boxed(nn.Module):
    """A network on a box of any size; how many tokens are kept is told by the sizes of inputs."""

    def __init__(self, model: SCD) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, first: Tensor, *places: Tensor) -> tuple[Tensor, ...]:
        """Segment a box.

        Parameters
        ----------
        image
            ``(1, C, h, w, d)`` of the box.
        first
            ``(3,)``: its first token in the window.
        places
            For each stage ``0 .. k - 1`` and ``k .. n - 1`` of its n tokens, of which k stay.
        """
        model = self.model
        grid = [n // model.config.patch_size for n in image.shape[2:]]
        ids = self._ids(grid, first)
        sparse, trace = self._pruned(model.encoder.begin(image, Pass(), ids), places)
        tokens = model.completion(sparse, trace, ids)
        # As many as before; said so, for torch cannot tell that what is kept and pruned adds up.
        tokens = tokens.index_select(1, torch.arange(ids.shape[0]))
        given: dict[str, Any] = {}
        if sparse.skips:
            given["skip_maps"] = [as_map(skip, grid) for skip in sparse.skips]
        if sparse.gate is not None and isinstance(model.decoder, GatedDecoder):
            given["gate"] = as_map(sparse.gate[..., None], grid)
        logits = model.decoder(as_map(tokens, grid), image, **given)
        return (logits, *trace.scores, *trace.pruned, trace.kept)

    def _ids(self, grid: Sequence[int], first: Tensor) -> Tensor:
        _, width, depth = self.model.config.grid
        h, w, d = (first[axis] + torch.arange(n) for axis, n in enumerate(grid))
        return ((h[:, None, None] * width + w[:, None]) * depth + d).flatten()

    def _pruned(
        self, start: EncoderStart, places: Sequence[Tensor]
    ) -> tuple[SparseTokens, TokenTrace]:
        """Do what the encoder's ``finish`` does, with numbers of tokens that are not known yet."""
        encoder: Any = self.model.encoder
        x, ids, first = start.tokens, start.ids, start.scores
        outputs = []
        for number, (stay, go) in enumerate(zip(places[::2], places[1::2], strict=True)):
            cls, live = x[:, :1], Live(x[:, 1:], ids)
            begun = None if number else first
            scores: Tensor = encoder.score(number, live, cls) if begun is None else begun
            order = scores.argsort(dim=1, descending=True, stable=True)
            kept, gone = (order.index_select(1, some).sort(dim=1).values for some in (stay, go))
            outputs.append(encoder.stages[number].split(live, scores, kept, gone))
            ids = outputs[-1].live.ids
            x = torch.cat([cls, outputs[-1].live.tokens], dim=1)
            for index in encoder.legs[number + 1]:
                x = encoder.blocks[index](x)
        gate = outputs[0].mask if outputs else None
        sparse = SparseTokens(
            tuple(each.pruned for each in outputs), encoder.norm(x), start.skips, gate
        )
        pruned = tuple(each.pruned_ids for each in outputs)
        return sparse, TokenTrace(tuple(each.scores for each in outputs), pruned, ids)


def _boxed(
    model: SCD, outputs: Sequence[str], translations: Mapping[Any, Callable[..., Any]]
) -> Any:
    """Export the network for a box of any size."""
    config, patch = model.config, model.config.patch_size
    sides = [torch.export.Dim(f"side_{n}", min=1, max=2**16) for n in range(3)]
    shapes: list[Any] = [{2 + n: patch * side for n, side in enumerate(sides)}, None]
    grid = (3, 4, 5)  # any, of three sizes
    image = torch.zeros(1, config.in_channels, *(patch * n for n in grid))
    places: list[Tensor] = []
    live = math.prod(grid)
    for _ in range(config.stages):
        keep = live - live // 4
        places += [torch.arange(keep), torch.arange(keep, live)]
        live = keep
    inputs = (image, torch.zeros(3, dtype=torch.int64), *places)
    exported = torch.export.export(
        _Boxed(with_parts(model, _layer_for_any_size)).eval().requires_grad_(False),
        inputs,
        dynamic_shapes=(*shapes, tuple({0: torch.export.Dim.DYNAMIC} for _ in places)),
        strict=False,
        prefer_deferred_runtime_asserts_over_guards=True,
    )
    program = torch.onnx.export(
        exported,
        dynamo=True,
        verbose=False,
        input_names=["box_image", "box_first", *_names_of_places(config.stages)],
        output_names=list(outputs),
        custom_translation_table=dict(translations),
    )
    assert program is not None
    return program.model_proto


def _layer_for_any_size(layer: nn.Module) -> nn.Module | None:
    """Return torch's own layer; the norm by blocks is of one size."""
    if isinstance(layer, LayoutKeepingNorm):
        return nn.InstanceNorm3d(layer.num_features, eps=layer.eps)
    return plain_layer(layer)


def _names_of_places(stages: int) -> list[str]:
    return [f"{kind}_{n}" for n in range(1, stages + 1) for kind in ("box_stay", "box_go")]


def _before(model: SCD, ratios: Sequence[float]) -> str:
    """Write down what finds the box of a window, cuts it out and counts its tokens."""
    config, patch = model.config, model.config.patch_size
    (h, w, d), (gh, gw, gd) = config.window, config.grid
    lines = [
        f"box_empty = Constant <value = float {{{config.crop_value!r}}}> ()",
        "box_same = Equal (image, box_empty)",
        "box_other = Not (box_same)",
        f"box_held = Cast <to = {_INT32}> (box_other)",
        _numbers("box_channels", 0, 1),
        "box_voxels = ReduceMax <keepdims = 0> (box_held, box_channels)",
        _numbers("box_split", gh, patch, gw, patch, gd, patch),
        "box_patches = Reshape (box_voxels, box_split)",
        _numbers("box_inner", 1, 3, 5),
        "box_tokens = ReduceMax <keepdims = 0> (box_patches, box_inner)",
        "box_any = ReduceMax <keepdims = 0> (box_tokens)",
        "box_one32 = Constant <value = int32 {1}> ()",
        "box_nothing = Sub (box_one32, box_any)",  # then it is looked at whole
        "box_seen = Max (box_tokens, box_nothing)",
        _numbers("box_along", 1),
    ]
    for axis in range(3):
        lines += [
            _numbers(f"box_others_{axis}", *(n for n in range(3) if n != axis)),
            f"box_axis_{axis} = ReduceMax <keepdims = 0> (box_seen, box_others_{axis})",
            f"box_places_{axis} = NonZero (box_axis_{axis})",
            f"box_first_{axis} = ReduceMin <keepdims = 0> (box_places_{axis}, box_along)",
            f"box_last_{axis} = ReduceMax <keepdims = 0> (box_places_{axis}, box_along)",
        ]
    lines += [
        "box_first = Concat <axis = 0> (box_first_0, box_first_1, box_first_2)",
        "box_last = Concat <axis = 0> (box_last_0, box_last_1, box_last_2)",
        "box_zero = Constant <value = int64 {0}> ()",
        "box_one = Constant <value = int64 {1}> ()",
        "box_end = Add (box_last, box_one)",
        f"box_patch = Constant <value = int64 {{{patch}}}> ()",
        "box_starts = Mul (box_first, box_patch)",
        "box_ends = Mul (box_end, box_patch)",
        _numbers("box_space", 2, 3, 4),
        "box_image = Slice (image, box_starts, box_ends, box_space)",
        "box_size = Sub (box_end, box_first)",
        "box_live_0 = ReduceProd <keepdims = 0> (box_size)",
    ]
    for n, ratio in enumerate(ratios, start=1):
        lines += [
            f"box_exact_{n} = Cast <to = {_DOUBLE}> (box_live_{n - 1})",
            f"box_ratio_{n} = Constant <value = double {{{ratio!r}}}> ()",
            f"box_share_{n} = Mul (box_exact_{n}, box_ratio_{n})",
            f"box_live_{n} = Cast <to = {_INT64}> (box_share_{n})",
            f"box_stay_{n} = Range (box_zero, box_live_{n}, box_one)",
            f"box_go_{n} = Range (box_live_{n}, box_live_{n - 1}, box_one)",
        ]
    given = f"float[1, {config.in_channels}, {h}, {w}, {d}] image"
    return f"before ({given}) => (int64[3] box_first) {{\n" + "\n".join(lines) + "\n}"


def _after(model: SCD) -> str:
    """Write down what lays the logits of a box into the window."""
    config = model.config
    classes, (h, w, d) = config.out_channels, config.window
    around = ", ".join(map(repr, model.around.tolist()))
    lines = [
        "box_extent = Shape <start = 2> (box_logits)",
        "box_until = Add (box_starts, box_extent)",
        _numbers("box_window", h, w, d),
        "box_behind = Sub (box_window, box_until)",
        _numbers("box_none", 0, 0),
        "box_pads = Concat <axis = 0> (box_none, box_starts, box_none, box_behind)",
        f"box_around = Constant <value = float[1, {classes}, 1, 1, 1] {{{around}}}> ()",
        "box_above = Sub (box_logits, box_around)",
        "box_padded = Pad (box_above, box_pads)",
        "logits = Add (box_padded, box_around)",
    ]
    given = f"float[1, {classes}, h, w, d] box_logits, int64[3] box_starts"
    whole = f"float[1, {classes}, {h}, {w}, {d}] logits"
    return f"after ({given}) => ({whole}) {{\n" + "\n".join(lines) + "\n}"


def _numbers(name: str, *values: int) -> str:
    listed = ", ".join(map(str, values))
    return f"{name} = Constant <value = int64[{len(values)}] {{{listed}}}> ()"
