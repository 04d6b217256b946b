import pytest
import torch

from napari_tokensparse.compute import precision
from napari_tokensparse.compute.precision import bfloat16_gain, mixed_precision


def test_the_gain_is_measured_where_there_are_instructions_for_it() -> None:
    supported = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert (bfloat16_gain() > 0.0) == supported


@pytest.mark.parametrize(("gain", "chosen"), [(0.0, "no"), (1.1, "no"), (1.3, "bf16")])
def test_auto_takes_bfloat16_on_a_cpu_only_where_it_is_faster(
    monkeypatch: pytest.MonkeyPatch, gain: float, chosen: str
) -> None:
    monkeypatch.setattr(precision, "bfloat16_gain", lambda: gain)
    assert mixed_precision("cpu", "auto") == chosen
    assert mixed_precision("mps", "auto") == "no"
    assert mixed_precision("cpu", "float32") == "no"
    assert mixed_precision("cpu", "bfloat16") == "bf16"
