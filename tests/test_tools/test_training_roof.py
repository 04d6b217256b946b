"""Where a training step's time goes: names of operations, and the roof that follows."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).parents[2] / "tools/training_roof.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("training_roof", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("aten::addmm", "products and convolutions"),
        ("aten::mkldnn_convolution", "products and convolutions"),
        ("aten::native_layer_norm_backward", "norms"),
        ("aten::copy_", "copies and layout"),
        ("aten::index_select", "gather and scatter"),
        ("aten::_fused_adamw_", "optimiser"),
        ("aten::gelu", "elementwise, sums and the rest"),
    ],
)
def test_operations_are_put_under_what_they_are(
    tool: ModuleType, operation: str, kind: str
) -> None:
    assert tool.kind_of(operation) == kind


def test_the_roof_is_what_products_at_the_dense_rate_would_leave(tool: ModuleType) -> None:
    products = "products and convolutions"
    dense = {"gmacs": 100.0, "seconds": {products: 8.0, "norms": 2.0}}
    pruned = {"gmacs": 50.0, "seconds": {products: 5.0, "norms": 1.0}}
    figures = tool.roof(pruned, dense)
    assert figures["time ratio / MAC ratio"] == pytest.approx(10 / 6 / 2)
    assert figures["roof"] == pytest.approx(10 / (4 + 1) / 2)


def test_a_step_is_measured_pruned_and_dense(tool: ModuleType) -> None:
    figures = tool.measured("nano", [0.5])
    (pruned,) = figures["pruned"]
    for case in (pruned, figures["dense"]):
        assert case["gmacs"] > 0 and case["seconds"]["products and convolutions"] > 0
    assert pruned["time ratio / MAC ratio"] > 0
    assert len(tool.shown(figures)) == 2 + 2
