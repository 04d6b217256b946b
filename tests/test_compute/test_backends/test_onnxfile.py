"""ONNX files, run by onnxruntime beside torch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from napari_tokensparse.compute.backends.onnxfile import OnnxError, export_onnx
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# What is imported to write a graph takes seconds: one process does it.
pytestmark = pytest.mark.xdist_group("onnx")

MOST = 1e-3


def compare(model: SCD, file: Path, ratio: float | tuple[float, ...], seed: int) -> dict[str, Any]:
    """Run a window both ways, and require the same ids, scores and logits."""
    image = torch.randn(
        1, model.config.in_channels, *model.config.window,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    return compare_on(image, model, file, ratio)


def compare_on(
    image: torch.Tensor, model: SCD, file: Path, ratio: float | tuple[float, ...]
) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(None, {"image": image.numpy()}), strict=True))
    with torch.inference_mode():
        out = model(image, ratio)
    np.testing.assert_array_equal(outputs["kept"], out.trace.kept)
    for n, (ids, scores) in enumerate(zip(out.trace.pruned, out.trace.scores, strict=True), 1):
        np.testing.assert_array_equal(outputs[f"pruned_{n}"], ids)
        np.testing.assert_allclose(outputs[f"score_{n}"], scores, atol=MOST)
    np.testing.assert_allclose(outputs["logits"], out.logits, atol=MOST, rtol=0)
    assert out.logits.std() > 100 * MOST
    return outputs


def spread_scores(model: SCD) -> SCD:
    """Let the scores of random weights lie further apart than two roundings."""
    for stage in model.encoder.stages:
        for layer in stage.predictor.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.data *= 3
    return model


def test_onnxruntime_prunes_the_same_tokens_and_gives_the_same_logits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = preset("nano", depth=3, prune_after=(0, 1, 2), out_channels=3)
    model = spread_scores(SCD(config)).eval()
    ratios = (0.75, 0.5, 0.25)
    file = export_onnx(model, tmp_path / "model.onnx", ratios)
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    first, second = (compare(model, file, ratios, seed) for seed in (1, 2))
    assert [first[f"pruned_{n}"].shape[1] for n in (1, 2, 3)] == [16, 24, 18]
    assert not np.array_equal(first["kept"], second["kept"])  # the ids are chosen in the graph
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["tokensparse.keep_ratio"]) == list(ratios)


@pytest.mark.deep
@pytest.mark.parametrize("decoder", ["gated-pyramid", "coarse-to-fine"])
def test_a_graph_crops_every_window_to_what_it_holds(
    tmp_path: Path, make_cropping: Callable[..., SCD], decoder: str
) -> None:
    model = spread_scores(make_cropping(depth=2, prune_after=0, decoder=decoder))
    file = export_onnx(model, tmp_path / "model.onnx", (0.75, 0.3))
    lengths = []
    for first, end in (
        ((9, 5, 0), (22, 15, 12)),
        ((0, 0, 0), (8, 24, 5)),
        ((0, 0, 0), (32, 24, 16)),
    ):
        image = torch.zeros(1, 1, 32, 24, 16)
        where = tuple(slice(a, b) for a, b in zip(first, end, strict=True))
        image[0, 0][where] = 3 + torch.randn([b - a for a, b in zip(first, end, strict=True)])
        outputs = compare_on(image, model, file, (0.75, 0.3))
        assert outputs["logits"].shape == (1, 4, 32, 24, 16)
        lengths.append(outputs["score_1"].shape[1])
    assert lengths == [36, 24, 192]
    compare_on(torch.zeros(1, 1, 32, 24, 16), model, file, (0.75, 0.3))  # looked at whole
    said = onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map
    assert json.loads(said["tokensparse.keep_ratio"]) == [0.75, 0.3]
    assert json.loads(said["tokensparse.crop_value"]) == 0.0


@pytest.mark.deep
def test_a_graph_that_prunes_nothing_crops_too(
    tmp_path: Path, make_cropping: Callable[..., SCD]
) -> None:
    model = spread_scores(make_cropping(depth=5))
    unpruned = export_onnx(model, tmp_path / "all.onnx", 1.0)
    image = torch.zeros(1, 1, 32, 24, 16)
    image[..., 4:20, 4:20, 4:12] = torch.randn(16, 16, 8)
    compare_on(image, model, unpruned, 1.0)


class Odd(nn.Module):
    """A decoder that no graph can hold."""

    def forward(self, token_map: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        return image * float(token_map.sum().item() > 0) if image.sum() > 0 else image


def test_what_cannot_be_exported_says_so_in_one_line(tmp_path: Path) -> None:
    model = SCD(preset("nano"))
    with pytest.raises(OnnxError, match="is in training mode"):
        export_onnx(model, tmp_path / "m.onnx")
    with pytest.raises(OnnxError, match=r"m\.pt: must end in \.onnx"):
        export_onnx(model.eval(), tmp_path / "m.pt")
    with pytest.raises(OnnxError, match="no such folder; create it first"):
        export_onnx(model, tmp_path / "none" / "m.onnx")
    small = {"depth": 1, "prune_after": (0,), "keep_ratio": (0.5,)}
    odd = SCD(preset("nano", decoder="custom", **small), decoder=Odd()).eval()
    with pytest.raises(OnnxError) as refused:
        export_onnx(odd, tmp_path / "m.onnx")
    assert str(refused.value).startswith("the network cannot be written as ONNX (")
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.deep
@pytest.mark.parametrize("name", ["nano", "brain-structures"])
def test_the_presets_are_exported_whole(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    bundled = name == "brain-structures"
    model = load_model(name) if bundled else spread_scores(SCD(preset(name))).eval()
    file = export_onnx(model, tmp_path / "model.onnx", 0.5)
    compare(model, file, 0.5, seed=1)
