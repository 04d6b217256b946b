"""Operators of torch without a public name: all are named, all are there, and none is needed."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import napari_tokensparse
from napari_tokensparse.model.layers import convolution, layout
from napari_tokensparse.model.layers.operators import PRIVATE, operator

SOURCE = Path(napari_tokensparse.__file__).parent
# What torch.onnx's ``custom_translation_table`` is keyed by, as its documentation has it.
TRANSLATED = {"torch.ops.aten.sort.stable", "torch.ops.aten.log_sigmoid.default"}
# Without a text of its own, and public all the same: torch's page on autocast has it.
PUBLIC = {"torch.is_autocast_enabled"}
# The arguments that our calls rely on, in this order.
ARGUMENTS = {
    "batch_norm_update_stats": "input running_mean running_var momentum",
    "mkldnn_convolution": "self weight bias padding stride dilation groups",
    "convolution_backward": "grad_output input weight bias_sizes stride padding dilation "
    "transposed output_padding groups output_mask",
    "native_batch_norm_backward": "grad_out input weight running_mean running_var save_mean "
    "save_invstd train eps output_mask",
}
# The same, of oneDNN's own.
PACKED = {
    "_linear_pointwise": "X W B attr scalars algorithm",
    "_reorder_linear_weight": "self batch_size",
}


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def trees() -> Iterator[ast.AST]:
    for path in SOURCE.rglob("*.py"):
        yield ast.parse(path.read_text(encoding="utf-8"))


def is_private(name: str) -> bool:
    """Whether a name of torch is not meant for others: underscored, or a builtin without a text."""
    value: Any = torch
    for part in name.split(".")[1:]:
        value = getattr(value, part, None)
    if re.search(r"\._(?!_)", name) or name.startswith("torch.ops."):
        return True
    return type(value).__name__ == "builtin_function_or_method" and not value.__doc__


def test_every_private_operator_that_is_called_is_listed() -> None:
    chains = {dotted(node) for tree in trees() for node in ast.walk(tree)}
    direct = {name for name in chains if name.startswith("torch.") and is_private(name)}
    whole = {name for name in direct if not any(o.startswith(f"{name}.") for o in direct)}
    assert whole - PUBLIC == TRANSLATED
    texts = {
        node.value
        for tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    named = {text for text in texts if re.fullmatch(r"torch\.[\w.]+", text)}
    assert {name for name in named if is_private(name)} == set(PRIVATE)


def test_this_torch_has_them_all_with_the_arguments_they_are_called_with() -> None:
    assert all(operator(name) is not None for name in PRIVATE)
    known = {*ARGUMENTS, *PACKED, "_is_mkldnn_bf16_supported"}
    assert {name.rsplit(".", 1)[1] for name in PRIVATE} == known
    for room, listed in ((torch.ops.aten, ARGUMENTS), (torch.ops.mkldnn, PACKED)):
        for name, arguments in listed.items():
            schema = getattr(room, name).default._schema
            assert " ".join(argument.name for argument in schema.arguments) == arguments


def test_one_that_is_not_there_is_none() -> None:
    assert operator("torch.ops.aten.no_such_operator") is None
    assert operator("torch.no_such_room.operator") is None


@pytest.mark.parametrize(
    "layer", [nn.Conv3d(3, 5, 3, padding=1), nn.Conv3d(3, 5, 3, stride=2), nn.InstanceNorm3d(3)]
)
def test_without_them_layers_are_torchs_own(
    layer: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder, x = nn.Sequential(layer), torch.linspace(-1, 1, 3 * 6**3).view(1, 3, 6, 6, 6)
    expected = layer(x)
    layout.keep_layout(holder)
    monkeypatch.setattr(convolution, "_HAS_ONEDNN", False)
    monkeypatch.setattr(layout, "_IS_PLAIN", True)
    for module, name in ((convolution, "_CONVOLVE"), (layout, "_STATS")):
        monkeypatch.setattr(module, name, None)  # calling it would fail
    given = x.clone().requires_grad_()
    out = holder(given)
    torch.testing.assert_close(out, expected)
    out.square().sum().backward()
    assert given.grad is not None
