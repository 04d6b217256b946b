from typing import Any

import pytest
import torch

from napari_tokensparse.model.layers.predictor import (
    AttentionPredictor,
    MlpPredictor,
    make_predictor,
)
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD

NAMES: Any = ["mlp", "attention"]


def inputs(tokens: int = 7, batch: int = 2, **how: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(batch, tokens, 24, **how), torch.randn(batch, 1, 24, **how)


def test_a_config_names_its_predictor() -> None:
    assert isinstance(make_predictor("mlp", 24), MlpPredictor)
    assert isinstance(make_predictor("attention", 24), AttentionPredictor)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tokens", [0, 1, 7])
def test_every_live_token_has_a_log_sigmoid_score(name: Any, tokens: int) -> None:
    scores = make_predictor(name, 24)(*inputs(tokens))
    assert scores.shape == (2, tokens)
    assert scores.dtype == torch.float32
    assert torch.all((scores.exp() > 0) & (scores.exp() < 1))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [0.0, 1e4])
def test_scores_and_gradients_are_finite_for_extreme_tokens(name: Any, size: float) -> None:
    predictor = make_predictor(name, 24)
    tokens, cls = inputs()
    scores = predictor(size * tokens, size * cls)
    scores.sum().backward()
    assert torch.isfinite(scores).all()
    assert all(torch.isfinite(p.grad).all() for p in predictor.parameters() if p.grad is not None)
    assert all(p.grad is not None for p in predictor.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_the_entries_of_a_batch_are_scored_apart(name: Any) -> None:
    predictor, (tokens, cls) = make_predictor(name, 24), inputs()
    together = predictor(tokens, cls)
    for row in range(2):
        alone = predictor(tokens[row : row + 1], cls[row : row + 1])[0]
        assert alone.detach().numpy() == pytest.approx(together[row].detach().numpy(), abs=1e-6)


def test_the_attention_predictor_scores_a_token_by_its_product_with_cls() -> None:
    predictor, (tokens, cls) = AttentionPredictor(24).requires_grad_(False), inputs()
    predictor.scale.fill_(0.25)
    weight, bias = predictor.linear.weight, predictor.linear.bias
    assert weight.shape == (4, 24)
    for row in range(2):
        query = weight @ cls[row, 0] + bias
        for n in range(7):
            product = 0.25 * torch.dot(weight @ tokens[row, n] + bias, query)
            score = predictor(tokens, cls)[row, n]
            assert score.item() == pytest.approx(torch.sigmoid(product).log().item(), abs=1e-5)


def test_the_attention_predictor_looks_at_no_other_token() -> None:
    predictor, (tokens, cls) = AttentionPredictor(24), inputs()
    before = predictor(tokens, cls)
    tokens[:, 3] += 1.0
    gap = (predictor(tokens, cls) - before).abs()
    assert torch.all(gap[:, [0, 1, 2, 4, 5, 6]] == 0)
    assert torch.all(gap[:, 3] > 0)


@pytest.mark.parametrize("name", NAMES)
def test_a_shared_predictor_is_the_first_stages_and_scores_at_every_stage(name: Any) -> None:
    own = SCD(preset("nano", predictor=name)).eval()
    shared = SCD(preset("nano", predictor=name, share_predictor=True)).eval()
    weights = own.state_dict()
    for key in list(weights):  # what the shared one lacks
        if key not in shared.state_dict():
            assert key.startswith(("encoder.stages.1.predictor", "encoder.stages.2.predictor"))
            weights[key] = weights[
                key.replace("stages.1", "stages.0").replace("stages.2", "stages.0")
            ]
    own.load_state_dict(weights)
    shared.load_state_dict({k: v for k, v in weights.items() if k in shared.state_dict()})
    image = torch.randn(1, 1, 32, 32, 32)
    with torch.inference_mode():
        one, other = own(image), shared(image)
    assert torch.equal(one.logits, other.logits)
    for a, b in zip(one.trace.scores, other.trace.scores, strict=True):
        assert torch.equal(a, b)
