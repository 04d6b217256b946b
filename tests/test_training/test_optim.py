import math

import pytest
import torch

from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.training.optim import (
    learning_rate,
    lr_scale,
    make_optimizer,
    set_learning_rate,
)
from napari_tokensparse.training.trainconfig import TrainConfig


def rates(config: TrainConfig) -> list[float]:
    assert config.steps is not None
    return [learning_rate(config, n, n / config.steps) for n in range(config.steps)]


def test_the_step_size_warms_up_and_falls_as_half_a_cosine() -> None:
    config = TrainConfig(steps=12, lr=2.0, warmup_steps=4)
    falling = [1 + math.cos(math.pi * n / 8) for n in range(8)]
    assert rates(config) == pytest.approx([0.5, 1.0, 1.5, 2.0, *falling])
    assert learning_rate(config, 12, 1.0) == 0.0


def test_a_constant_step_size_cools_down_over_its_last_share() -> None:
    config = TrainConfig(steps=10, lr=1.0, warmup_steps=2, schedule="constant", cooldown=0.4)
    assert rates(config) == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])


def test_a_run_by_the_clock_follows_the_share_of_its_minutes() -> None:
    config = TrainConfig(max_minutes=1, lr=1.0, warmup_steps=0)
    assert [learning_rate(config, 5, s) for s in (0.0, 0.5, 1.0)] == pytest.approx([1, 0.5, 0])


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("encoder.patch_embed.weight", 0.75**13),
        ("encoder.pos_embed", 0.75**13),
        ("encoder.cls_token", 0.75**13),
        ("encoder.blocks.0.mlp.fc1.weight", 0.75**12),
        ("encoder.blocks.11.norm1.bias", 0.75),
        ("encoder.stages.0.predictor.embed.weight", 1.0),
        ("encoder.norm.weight", 1.0),
        ("completion.blocks.0.mlp.fc1.weight", 1.0),
        ("decoder.out.weight", 1.0),
    ],
)
def test_layer_decay_is_the_papers(name: str, scale: float) -> None:
    assert lr_scale(name, 12, 0.75) == pytest.approx(scale)


def test_every_parameter_is_in_one_group_with_its_decay_and_scale() -> None:
    model = SCD(preset("nano"))
    config = TrainConfig(steps=1, lr=0.1, layer_decay=0.5, weight_decay=0.02)
    optimizer = make_optimizer(model, config)
    set_learning_rate(optimizer, 0.1)
    of = {id(p): g for g in optimizer.param_groups for p in g["params"]}
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        group = of[id(parameter)]
        plain = parameter.ndim < 2
        assert group["weight_decay"] == (0.0 if plain else 0.02), name
        assert group["lr"] == pytest.approx(0.1 * lr_scale(name, 12, 0.5)), name
        assert group["betas"] == (0.9, 0.95)


def test_steps_are_those_of_adamw_written_out() -> None:
    config = TrainConfig(steps=1, lr=0.1, weight_decay=0.02, betas=(0.8, 0.9))
    model = SCD(preset("nano"))
    optimizer = make_optimizer(model, config)
    set_learning_rate(optimizer, config.lr)
    weight = model.encoder.blocks[0].mlp.fc1.weight
    wanted, first, second = weight.detach().double(), 0.0, 0.0
    for n in (1, 2):
        weight.grad = torch.randn_like(weight)
        grad = weight.grad.double()
        first, second = 0.8 * first + 0.2 * grad, 0.9 * second + 0.1 * grad**2
        step = first / (1 - 0.8**n) / (second / (1 - 0.9**n)).sqrt()
        wanted = wanted - 0.1 * 0.02 * wanted - 0.1 * step
        optimizer.step()
    torch.testing.assert_close(weight.detach().double(), wanted, rtol=1e-5, atol=1e-6)
