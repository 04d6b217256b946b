import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_tokensparse.data.deformation import keyed_generator
from napari_tokensparse.engine.train import (
    STATE_FILE,
    CheckpointSaved,
    StepDone,
    TrainConfig,
    averaged_weights,
    keep_ratio_of,
    learning_rate,
    train,
)
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD

CONFIG = TrainConfig(steps=6, lr=1e-3, warmup_steps=2, checkpoint_every=3, ema_decay=0.5, seed=7)
EVEN = torch.ones(2)


@dataclass(frozen=True)
class Spheres:
    """A bright ball in noise at a place that the key decides."""

    def sample(self, seed: int, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = keyed_generator(seed, step)
        centre = 8 + 16 * torch.rand(3, 1, 1, 1, generator=generator)
        voxels = torch.stack(torch.meshgrid(*[torch.arange(32.0)] * 3, indexing="ij"))
        ball = (voxels - centre).square().sum(dim=0) < 49
        image = ball + 0.2 * torch.randn(32, 32, 32, generator=generator)
        return image[None], ball.long()


def network(**changes: Any) -> SCD:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return SCD(preset("nano", drop_path=0.2, **changes))


def run(
    folder: Path, config: TrainConfig = CONFIG, model: SCD | None = None
) -> tuple[SCD, list[StepDone | CheckpointSaved]]:
    chosen = network() if model is None else model
    return chosen, list(train(chosen, Spheres(), EVEN, config, folder))


def losses(events: list[StepDone | CheckpointSaved]) -> list[float]:
    return [event.loss for event in events if isinstance(event, StepDone)]


def same(one: Any, other: Any) -> bool:
    """Compare nested state, bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def saved(folder: Path) -> dict[str, Any]:
    return dict(torch.load(folder / STATE_FILE, weights_only=True))


def test_steps_and_checkpoints_are_told_in_order(tmp_path: Path) -> None:
    _, events = run(tmp_path / "new" / "run", CONFIG.model_copy(update={"checkpoint_every": 4}))
    told = [(type(event), event.step) for event in events]
    assert told == [
        *[(StepDone, n) for n in (1, 2, 3, 4)],
        (CheckpointSaved, 4),
        (StepDone, 5),
        (StepDone, 6),
        (CheckpointSaved, 6),
    ]
    last = events[-1]
    assert isinstance(last, CheckpointSaved)
    assert last.path == tmp_path / "new" / "run" / STATE_FILE
    assert [p.name for p in last.path.parent.iterdir()] == [STATE_FILE]
    assert all(event.seconds > 0 for event in events if isinstance(event, StepDone))


def test_three_steps_and_three_after_a_resume_are_six_steps_bit_for_bit(tmp_path: Path) -> None:
    whole, all_events = run(tmp_path / "whole")
    stopped = train(network(), Spheres(), EVEN, CONFIG, tmp_path / "parts")
    before = [next(stopped) for _ in range(4)]
    assert before[-1] == CheckpointSaved(3, tmp_path / "parts" / STATE_FILE)
    next(stopped)  # a fourth step, lost because no checkpoint follows
    stopped.close()  # type: ignore[attr-defined]

    torch.manual_seed(99)  # nothing may depend on the global state
    resumed, after = run(tmp_path / "parts", model=SCD(preset("nano", drop_path=0.2)))
    assert losses([*before, *after]) == losses(all_events)
    assert same(whole.state_dict(), resumed.state_dict())
    assert same(saved(tmp_path / "whole"), saved(tmp_path / "parts"))
    assert saved(tmp_path / "parts")["step"] == 6


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    run(tmp_path)
    model, events = run(tmp_path)
    assert events == []
    assert same(model.state_dict(), saved(tmp_path)["model"])


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    short = CONFIG.model_copy(update={"steps": 2})
    _, one = run(tmp_path / "one", short)
    _, other = run(tmp_path / "other", short.model_copy(update={"seed": 8}))
    assert losses(one) != losses(other)


def test_the_loss_falls(tmp_path: Path) -> None:
    config = TrainConfig(
        steps=24, lr=5e-3, warmup_steps=4, keep_range=(0.5, 1.0), checkpoint_every=24
    )
    fall = losses(run(tmp_path, config)[1])
    assert sum(fall[-4:]) / 4 < 0.8 * sum(fall[:4]) / 4


def test_a_failure_while_writing_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="Windows cannot limit the size of a file")
    config = CONFIG.model_copy(update={"checkpoint_every": 2})
    events = train(network(), Spheres(), EVEN, config, tmp_path)
    for _ in range(5):
        last = next(events)
    assert last == StepDone(4, last.loss, last.keep_ratio, last.seconds)  # type: ignore[union-attr]
    good = saved(tmp_path)
    # The kernel refuses every byte past the middle of the file, as a full disk would.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    half = (tmp_path / STATE_FILE).stat().st_size // 2
    resource.setrlimit(resource.RLIMIT_FSIZE, (half, limits[1]))
    try:
        with pytest.raises((OSError, RuntimeError)):
            next(events)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert good["step"] == 2
    assert same(saved(tmp_path), good)

    resumed, _ = run(tmp_path, config)
    whole, _ = run(tmp_path / "whole", config)
    assert same(resumed.state_dict(), whole.state_dict())


def test_the_step_size_warms_up_stays_and_cools_down() -> None:
    config = TrainConfig(steps=10, lr=1.0, warmup_steps=4, cooldown_steps=3)
    rates = [learning_rate(config, step) for step in range(10)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 2 / 3, 1 / 3])
    plain = TrainConfig(steps=3, lr=0.1, warmup_steps=0)
    assert [learning_rate(plain, step) for step in range(3)] == [0.1] * 3


def test_the_optimiser_uses_the_step_size_of_the_step(tmp_path: Path) -> None:
    config = TrainConfig(steps=4, lr=1e-3, warmup_steps=10, checkpoint_every=4)
    run(tmp_path, config)
    groups = saved(tmp_path)["optimizer"]["param_groups"]
    assert [group["lr"] for group in groups] == [pytest.approx(4e-4)] * 2
    assert [group["weight_decay"] for group in groups] == [0.05, 0.0]
    assert [tuple(group["betas"]) for group in groups] == [(0.9, 0.95)] * 2


def test_biases_and_norms_are_not_decayed(tmp_path: Path) -> None:
    model = network()
    run(tmp_path, CONFIG.model_copy(update={"steps": 1}), model)
    decayed, plain = saved(tmp_path)["optimizer"]["param_groups"]
    assert len(decayed["params"]) == sum(p.ndim > 1 for p in model.parameters())
    assert len(plain["params"]) == sum(p.ndim == 1 for p in model.parameters())


def test_keep_ratios_are_drawn_evenly_on_a_log_scale_within_the_range() -> None:
    config = CONFIG.model_copy(update={"keep_range": (0.05, 0.8)})
    drawn = [keep_ratio_of(config, keyed_generator(0, step)) for step in range(2000)]
    assert 0.05 <= min(drawn) < 0.055
    assert 0.75 < max(drawn) <= 0.8
    middle = math.sqrt(0.05 * 0.8)
    assert sum(r < middle for r in drawn) / 2000 == pytest.approx(0.5, abs=0.04)
    fixed = CONFIG.model_copy(update={"keep_range": (0.5, 0.5)})
    assert keep_ratio_of(fixed, keyed_generator(0, 0)) == pytest.approx(0.5)


def test_every_step_is_run_at_the_keep_ratio_it_tells(tmp_path: Path) -> None:
    _, events = run(tmp_path)
    told = [event.keep_ratio for event in events if isinstance(event, StepDone)]
    assert len(set(told)) == 6
    expected = [keep_ratio_of(CONFIG, keyed_generator(CONFIG.seed, step)) for step in range(6)]
    assert told == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("lr", 0.0),
        ("ema_decay", 1.0),
        ("checkpoint_every", 0),
        ("keep_range", (0.0, 1.0)),
        ("keep_range", (0.5, 1.5)),
        ("keep_range", (0.8, 0.2)),
        ("warmup_steps", -1),
        ("cooldown_steps", -1),
        ("batch", 2),
    ],
)
def test_a_config_that_cannot_be_trained_with_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        TrainConfig(**{"steps": 5, field: value})


def test_the_averaged_weights_follow_the_weights_slowly(tmp_path: Path) -> None:
    config = TrainConfig(steps=3, lr=1e-2, warmup_steps=0, checkpoint_every=3, ema_decay=0.9)
    model = network()
    weights = []
    for event in train(model, Spheres(), EVEN, config, tmp_path):
        if isinstance(event, StepDone):
            weights.append(model.encoder.pos_embed.detach().clone())
    expected = weights[0]
    for later in weights[1:]:
        expected = 0.9 * expected + 0.1 * later
    averaged, step = averaged_weights(tmp_path)
    assert step == 3
    assert torch.allclose(averaged["encoder.pos_embed"], expected, atol=1e-7)
    assert not torch.equal(averaged["encoder.pos_embed"], weights[-1])
    assert averaged.keys() == model.state_dict().keys()
    network().load_state_dict(averaged)


def test_rare_classes_can_be_given_more_weight(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"steps": 1})
    even = losses(list(train(network(), Spheres(), EVEN, config, tmp_path / "even")))
    tilted = torch.tensor([0.1, 1.9])
    other = losses(list(train(network(), Spheres(), tilted, config, tmp_path / "tilted")))
    assert even != other
