import json
import math
import os
import random
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from napari_tokensparse.model.ratios import Importance
from napari_tokensparse.model.scd import SCD, SCDOutput
from napari_tokensparse.training.elastic import patch_shares, token_targets
from napari_tokensparse.training.events import (
    CheckpointSaved,
    Event,
    StepDone,
    Validated,
    Validating,
)
from napari_tokensparse.training.folder import BEST_FILE, STATE_FILE
from napari_tokensparse.training.loop import TrainError, TrainSetup, train
from napari_tokensparse.training.state import averaged_weights, best_weights, counters
from napari_tokensparse.training.trainconfig import TrainConfig

SCRIPT = Path(__file__).with_name("train_spheres.py")
made = runpy.run_path(str(SCRIPT))
Spheres, network = made["Spheres"], made["network"]
# float32 whatever the processor: losses are compared to more digits than bfloat16 has.
CONFIG = TrainConfig(
    steps=6,
    lr=1e-3,
    warmup_steps=2,
    checkpoint_every=3,
    ema_decay=0.5,
    seed=7,
    precision="float32",
)


def changed(**fields: Any) -> TrainConfig:
    return TrainConfig(**{**CONFIG.model_dump(), **fields})


def run(
    folder: Path, config: TrainConfig = CONFIG, model: SCD | None = None, **setting: Any
) -> tuple[SCD, list[Event]]:
    chosen = network() if model is None else model
    return chosen, list(train(chosen, config, TrainSetup(Spheres(), folder, **setting)))


def losses(events: list[Event]) -> list[float]:
    return [event.loss for event in events if isinstance(event, StepDone)]


def same(one: Any, other: Any) -> bool:
    """Compare nested state, bit for bit; seconds are no two times the same."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            same(one[k], other[k]) for k in one if k != "seconds"
        )
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def saved(folder: Path) -> dict[str, Any]:
    return dict(torch.load(folder / STATE_FILE, weights_only=True))


def test_steps_and_checkpoints_are_told_in_order(tmp_path: Path) -> None:
    _, events = run(tmp_path / "new" / "run", changed(checkpoint_every=4))
    in_order = [(type(event), event.step) for event in events]  # type: ignore[union-attr]
    assert in_order == [
        *[(StepDone, n) for n in (1, 2, 3, 4)],
        (CheckpointSaved, 4),
        (StepDone, 5),
        (StepDone, 6),
        (CheckpointSaved, 6),
    ]
    assert events[-1] == CheckpointSaved(6, tmp_path / "new" / "run" / STATE_FILE)
    assert [p.name for p in (tmp_path / "new" / "run").iterdir()] == [STATE_FILE]
    steps = [event for event in events if isinstance(event, StepDone)]
    assert all(event.seconds > 0 for event in steps)
    assert [event.share for event in steps] == pytest.approx([n / 6 for n in range(1, 7)])
    assert counters(tmp_path / "new" / "run").reason == "steps"


def test_three_steps_and_three_after_a_resume_are_six_steps_bit_for_bit(tmp_path: Path) -> None:
    whole, all_events = run(tmp_path / "whole")
    stopped = train(network(), CONFIG, TrainSetup(Spheres(), tmp_path / "parts"))
    before = [next(stopped) for _ in range(4)]
    assert before[-1] == CheckpointSaved(3, tmp_path / "parts" / STATE_FILE)
    next(stopped)  # a fourth step, lost because no checkpoint follows
    stopped.close()  # type: ignore[attr-defined]

    torch.manual_seed(99)  # nothing may depend on the global state
    resumed, after = run(tmp_path / "parts", model=SCD(whole.config))
    assert losses([*before, *after]) == losses(all_events)
    assert same(whole.state_dict(), resumed.state_dict())
    assert same(saved(tmp_path / "whole"), saved(tmp_path / "parts"))


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    run(tmp_path)
    model, events = run(tmp_path)
    assert events == []
    assert same(model.state_dict(), saved(tmp_path)["model"])


def test_an_elastic_run_with_every_option_resumes_bit_for_bit(tmp_path: Path) -> None:
    config = changed(sandwich=0.5, distillation=0.7, score_weight=0.3, pin_share=0.6)
    config = config.model_copy(update={"importance_share": 0.5})
    model = network(relaxation="threshold")
    _, all_events = run(tmp_path / "whole", config, model)
    parts = network(relaxation="threshold")
    _, before = run(tmp_path / "parts", config.model_copy(update={"steps": 3}), parts)
    _, after = run(tmp_path / "parts", config, SCD(model.config))
    assert losses([*before, *after]) == losses(all_events)
    assert same(saved(tmp_path / "whole"), saved(tmp_path / "parts"))


def test_a_sandwich_is_the_mean_of_its_three_passes(tmp_path: Path) -> None:
    config = changed(steps=1, keep_range=(0.1, 1.0), sandwich=1.0, distillation=0.0)
    _, (step, _) = run(tmp_path / "sandwich", config)
    assert isinstance(step, StepDone) and 0.1 < step.keep_ratio < 1.0
    plain, each = {"drop_path": 0.0, "perturbation": "none"}, []
    for ratio in (1.0, step.keep_ratio, 0.1):
        alone = changed(steps=1, keep_range=(ratio, ratio))
        each += losses(run(tmp_path / f"{ratio}", alone, network(**plain))[1])
    without_noise = losses(run(tmp_path / "plain", config, network(**plain))[1])
    assert without_noise == pytest.approx([sum(each) / 3], abs=1e-6)


def test_pinned_tokens_reach_the_end_of_a_step(tmp_path: Path) -> None:
    passes: list[tuple[torch.Tensor, SCDOutput]] = []
    model = network(perturbation="gumbel", relaxation="threshold")

    def keep(_: object, __: object, given: dict[str, torch.Tensor], out: SCDOutput) -> None:
        passes.append((given["pins"], out))

    model.register_forward_hook(keep, with_kwargs=True)
    config = changed(steps=6, keep_range=(0.1, 0.2), pin_share=1.0)
    _, events = run(tmp_path, config, model)
    assert all(math.isfinite(loss) for loss in losses(events)) and passes
    for pins, out in passes:
        wanted = pins[0].nonzero()[:, 0].tolist()
        assert wanted and set(wanted) <= set(out.trace.kept[0].tolist())
        assert len(out.trace.kept[0]) < pins.shape[1]


def test_a_share_of_the_passes_keeps_what_is_important(tmp_path: Path) -> None:
    rules: list[object] = []
    model = network()
    model.register_forward_pre_hook(lambda _, given: rules.append(given[1]))
    run(tmp_path, changed(steps=12, sandwich=1.0, importance_share=0.5), model)
    by_importance = [rule for rule in rules if isinstance(rule, Importance)]
    ratios = [rule for rule in rules if isinstance(rule, float)]
    assert len(by_importance) + len(ratios) == len(rules)
    assert len(by_importance) > 5 < len(ratios)
    assert all(0.01 <= rule.least <= 0.2 for rule in by_importance)
    assert len({rule.least for rule in by_importance}) == len(by_importance)
    assert 3 * ratios.count(changed().keep_range[1]) == len(rules)  # each teacher prunes least


def test_supervised_scores_find_the_ball(tmp_path: Path) -> None:
    config = TrainConfig(steps=30, lr=5e-3, warmup_steps=4, checkpoint_every=30, score_weight=1.0)
    model, _ = run(tmp_path, config, network(perturbation="none"))
    image, target = Spheres().windows(99, 0)[0]
    content, _ = token_targets(target[None], 8, 2)
    importance = model.eval()(image[None]).trace.scores[0].exp()
    assert importance[content > 0.3].min() > importance[content == 0].max()


def test_workers_see_the_same_windows(tmp_path: Path) -> None:
    config = changed(steps=3, batch_size=2)
    _, alone = run(tmp_path / "alone", config)
    _, helped = run(tmp_path / "helped", config.model_copy(update={"workers": 1}))
    assert losses(alone) == losses(helped)


def test_windows_run_one_by_one_or_together_give_the_same_gradients(tmp_path: Path) -> None:
    config = changed(steps=3, batch_size=2)
    _, single = run(tmp_path / "one", config)
    _, joint = run(tmp_path / "four", config.model_copy(update={"micro_batch": 4}))
    assert losses(single) == pytest.approx(losses(joint), abs=1e-5)


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    _, one = run(tmp_path / "one", changed(steps=2))
    _, other = run(tmp_path / "other", changed(steps=2, seed=8))
    assert losses(one) != losses(other)


def test_the_loss_falls(tmp_path: Path) -> None:
    config = TrainConfig(
        steps=24, lr=5e-3, warmup_steps=4, keep_range=(0.5, 1.0), checkpoint_every=24
    )
    fall = losses(run(tmp_path, config)[1])
    assert sum(fall[-4:]) / 4 < 0.8 * sum(fall[:4]) / 4


def command(folder: Path, **fields: Any) -> list[str]:
    chosen = {**CONFIG.model_dump(include={"lr", "warmup_steps", "ema_decay", "seed"}), **fields}
    return [str(SCRIPT), str(folder), *(f"{name}={value}" for name, value in chosen.items())]


def kill_again_and_again(folder: Path, kills: list[tuple[int, float]], **fields: Any) -> int:
    """Kill a run so many events and seconds after its start; count kills in its middle."""
    line = [sys.executable, *command(folder, **fields)]
    # As many threads as here, whatever earlier tests left: their number decides the last digits.
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    in_the_middle = 0
    for events, seconds in kills:
        with subprocess.Popen(line, stdout=subprocess.PIPE, env=env) as process:
            assert process.stdout is not None
            for _ in zip(range(events), process.stdout, strict=False):
                pass
            time.sleep(seconds)
            in_the_middle += process.poll() is None
            process.send_signal(signal.SIGKILL)
    return in_the_middle


def check_kills(tmp_path: Path, count: int, steps: int) -> None:
    fields = {"steps": steps, "checkpoint_every": 1}
    config = changed(**fields)
    run(tmp_path / "whole", config)
    step = counters(tmp_path / "whole").seconds / steps
    moments = random.Random(count)
    # Two events a step: on average a run is killed after half of what is its share of the steps.
    most = 2 * steps // (count + 1)
    kills = [(moments.randint(2, most), moments.uniform(0, step)) for _ in range(count)]
    assert kill_again_and_again(tmp_path / "killed", kills, **fields) > 0
    run(tmp_path / "killed", config)
    assert saved(tmp_path / "killed")["counters"]["step"] == steps
    assert same(saved(tmp_path / "whole"), saved(tmp_path / "killed"))


def test_a_run_killed_at_random_equals_one_that_was_not(tmp_path: Path) -> None:
    check_kills(tmp_path, 1, steps=12)


@pytest.mark.deep
def test_a_run_killed_twenty_times_at_random_equals_one_that_was_not(tmp_path: Path) -> None:
    check_kills(tmp_path, 20, steps=120)


def losses_in(output: str) -> list[float]:
    events = [json.loads(line) for line in output.splitlines()]
    return [event["loss"] for event in events if event["event"] == "StepDone"]


@pytest.mark.deep
def test_two_processes_give_the_losses_of_one_with_twice_the_batch(tmp_path: Path) -> None:
    fields = {"steps": 20, "batch_size": 2, "checkpoint_every": 20}
    _, events = run(tmp_path / "one", changed(**fields))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    two = subprocess.run(
        [sys.executable, *launcher, *command(tmp_path / "two", **fields)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
    )
    expected, shared = losses(events), losses_in(two.stdout)
    assert len(expected) == 20
    assert shared == pytest.approx(expected, abs=1e-4)


@pytest.mark.deep
def test_a_batch_that_processes_cannot_share_is_refused(tmp_path: Path) -> None:
    result = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2"),
            *command(tmp_path, steps=1, batch_size=3),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
    )
    assert result.returncode != 0
    assert "batch_size 3: 2 processes share the volumes of a step evenly" in result.stderr


def test_a_failure_while_writing_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="Windows cannot limit the size of a file")
    config = changed(checkpoint_every=2)
    events = train(network(), config, TrainSetup(Spheres(), tmp_path))
    for _ in range(5):
        last = next(events)
    assert isinstance(last, StepDone) and last.step == 4
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
    assert good["counters"]["step"] == 2
    assert same(saved(tmp_path), good)
    assert [p.name for p in tmp_path.iterdir()] == [STATE_FILE]

    resumed, _ = run(tmp_path, config)
    whole, _ = run(tmp_path / "whole", config)
    assert same(resumed.state_dict(), whole.state_dict())


def test_a_checkpoint_of_another_network_is_refused_and_kept(tmp_path: Path) -> None:
    run(tmp_path, changed(steps=1))
    before = (tmp_path / STATE_FILE).read_bytes()
    with pytest.raises(TrainError, match="belongs to another network"):
        run(tmp_path, model=network(embed_dim=48))
    assert (tmp_path / STATE_FILE).read_bytes() == before


class Poisoned(Spheres):  # type: ignore[misc,valid-type]
    """Spheres with NaN in the volumes of some indices."""

    def __init__(self, bad: range | set[int]) -> None:
        self.bad = bad

    def windows(self, seed: int, index: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        pairs = super().windows(seed, index)
        if index in self.bad:
            pairs[0][0][0, 5, 5, 5] = math.nan
        return list(pairs)


def test_a_step_that_is_not_finite_is_skipped_and_counted(tmp_path: Path) -> None:
    model = network()
    weights = []
    for event in train(model, CONFIG, TrainSetup(Poisoned({2, 4}), tmp_path)):
        if isinstance(event, StepDone):
            weights.append((event.skipped, model.encoder.pos_embed.detach().clone()))
    assert [skipped for skipped, _ in weights] == [0, 0, 1, 1, 2, 2]
    unchanged = [torch.equal(a, b) for (_, a), (_, b) in pairwise(weights)]
    assert unchanged == [False, True, False, True, False]
    assert all(torch.isfinite(v).all() for v in averaged_weights(tmp_path).values())


def test_ten_steps_in_a_row_that_are_not_finite_end_the_run_and_keep_the_state(
    tmp_path: Path,
) -> None:
    good = network()
    run(tmp_path / "good", changed(steps=3), good)
    events: list[Event] = []
    running = train(
        network(),
        changed(steps=50, checkpoint_every=50),
        TrainSetup(Poisoned(range(3, 99)), tmp_path),
    )
    with pytest.raises(TrainError, match=r"step 13: 10 steps in a row were not finite"):
        events.extend(running)
    state = saved(tmp_path)
    assert state["counters"]["step"] == 13
    assert state["counters"]["skipped"] == 10
    assert all(torch.isfinite(v).all() for v in state["model"].values())


class Greedy(Spheres):
    """Asks for a pebibyte at the fourth volume."""

    def windows(self, seed: int, index: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        if index == 3:
            np.empty(2**50, np.uint8)
        return super().windows(seed, index)


def test_memory_that_runs_out_is_said_in_a_line_and_loses_nothing(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"step 3: memory ran out on cpu; .* micro_batch than 1"):
        list(train(network(), CONFIG, TrainSetup(Greedy(), tmp_path)))
    assert saved(tmp_path)["counters"]["step"] == 3


class Scores(NamedTuple):
    """What the loop reads of a case's scores."""

    case: str
    dice: dict[str, float]
    hd95_mm: dict[str, float]


class Judge:
    """A validator whose scores are given beforehand."""

    held_out = True

    def __init__(self, dice: list[float]) -> None:
        self.dice = dice
        self.calls: list[tuple[int, bool]] = []

    def __len__(self) -> int:
        return 2

    def score(self, model: SCD, number: int) -> Scores:
        self.calls.append((number, model.training))
        value = self.dice[(len(self.calls) - 1) // 2]
        absent = math.nan if number else value
        scores = {"ball": value, "ring": absent}
        return Scores(f"case {number}", scores, {"ball": 2.0 * number})

    def preview(self, scores: Scores) -> Path | None:
        return Path(scores.case)


def validations(events: list[Event]) -> Iterator[Validated]:
    return (event for event in events if isinstance(event, Validated))


def test_the_best_weights_are_kept_beside_the_last(tmp_path: Path) -> None:
    judge = Judge([0.2, 0.6, 0.4])
    model, events = run(tmp_path, changed(validate_every=2), validator=judge)
    first, second, third = validations(events)
    assert [(v.step, v.best) for v in (first, second, third)] == [(2, True), (4, True), (6, False)]
    assert second.dice == {"ball": pytest.approx(0.6), "ring": pytest.approx(0.6)}
    assert second.hd95_mm == {"ball": 1.0}  # the mean of 0 and 2
    assert (second.mean_dice, second.case, second.preview) == (0.6, "case 0", Path("case 0"))
    assert judge.calls == [(0, False), (1, False)] * 3
    assert model.training
    assert (tmp_path / BEST_FILE).exists()
    assert not same(best_weights(tmp_path), averaged_weights(tmp_path))
    assert counters(tmp_path).best_dice == pytest.approx(0.6)


def test_without_a_validation_the_last_weights_are_the_best(tmp_path: Path) -> None:
    run(tmp_path, changed(steps=1))
    assert same(best_weights(tmp_path), averaged_weights(tmp_path))


def test_a_run_that_no_longer_gains_stops_early(tmp_path: Path) -> None:
    judge = Judge([0.5, 0.4, 0.3, 0.9])
    _, events = run(tmp_path, changed(steps=20, validate_every=1, patience=2), validator=judge)
    assert [v.step for v in validations(events)] == [1, 2, 3]
    assert isinstance(events[-1], CheckpointSaved)
    assert counters(tmp_path).reason == "early stopping"


def test_a_stop_keeps_a_checkpoint_and_the_run_can_go_on(tmp_path: Path) -> None:
    asked = iter([False, True])
    _, events = run(tmp_path, stop=lambda: next(asked))
    assert [type(e) for e in events] == [StepDone, StepDone, CheckpointSaved]
    assert counters(tmp_path).reason == "stopped"
    resumed, _ = run(tmp_path)
    whole, _ = run(tmp_path / "whole")
    assert same(resumed.state_dict(), whole.state_dict())


def test_minutes_end_a_run_and_bring_the_step_size_to_zero(tmp_path: Path) -> None:
    config = TrainConfig(max_minutes=8 / 60, lr=1e-3, warmup_steps=0, validate_every=10_000)
    seconds = count(0.0)
    _, events = run(tmp_path, config, clock=lambda: next(seconds))
    steps = [event for event in events if isinstance(event, StepDone)]
    assert [event.seconds for event in steps] == [1.0] * 8
    assert [event.share for event in steps] == pytest.approx(np.arange(1, 9) / 8)
    expected = 0.5e-3 * (1 + np.cos(np.pi * np.arange(8) / 8))
    assert [event.lr for event in steps] == pytest.approx(expected)
    assert counters(tmp_path).reason == "minutes"


def test_the_averaged_weights_follow_the_weights_slowly(tmp_path: Path) -> None:
    config = TrainConfig(steps=4, lr=1e-2, warmup_steps=0, checkpoint_every=4, ema_decay=0.25)
    model = network()
    weights = []
    for event in train(model, config, TrainSetup(Spheres(), tmp_path)):
        if isinstance(event, StepDone):
            weights.append(model.encoder.pos_embed.detach().clone())
    expected = weights[0]
    for number, later in enumerate(weights[1:], start=1):
        decay = min(0.25, (1 + number) / (10 + number))  # little at first
        expected = decay * expected + (1 - decay) * later
    assert (1 + 1) / (10 + 1) < 0.25 < (1 + 3) / (10 + 3)
    averaged = averaged_weights(tmp_path)
    assert torch.allclose(averaged["encoder.pos_embed"], expected, atol=1e-7)
    assert not torch.equal(averaged["encoder.pos_embed"], weights[-1])
    assert averaged.keys() == model.state_dict().keys()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_mixed_precision_on_cuda_follows_the_cpu(tmp_path: Path) -> None:
    _, exact = run(tmp_path / "cpu")
    _, mixed = run(tmp_path / "cuda", device="cuda")
    assert losses(mixed) == pytest.approx(losses(exact), rel=0.05)
    _, half = run(tmp_path / "half", changed(steps=3), device="cuda")
    _, resumed = run(tmp_path / "half", device="cuda")
    assert losses([*half, *resumed]) == pytest.approx(losses(mixed), rel=0.05)


class Cropped:
    """Balls of `Spheres` amid exact emptiness, their targets as shares of two classes."""

    def windows(self, seed: int, index: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        pairs = []
        for image, target in Spheres().windows(seed, index):
            image[:, :, :8] = image[:, 24:] = 0.0
            shares = torch.stack([target == 0, target == 1])
            shares[0, :, :8] = shares[0, 24:] = True
            shares[1, :, :8] = shares[1, 24:] = False
            pairs.append((image, shares.half()))
        return pairs


CROPPED: dict[str, Any] = {
    "patch_size": 4,
    "depth": 4,
    "prune_after": (-1, 1),
    "keep_ratio": (0.5, 0.5),
    "forgotten_stages": 1,
    "completion_positions": False,
    "decoder": "gated-pyramid",
    "crop_value": 0.0,
    "drop_path": 0.0,
    "perturbation": "none",
}


def test_a_cropped_network_learns_shares_with_a_token_head_that_is_thrown_away(
    tmp_path: Path,
) -> None:
    config = changed(
        steps=24, lr=5e-3, warmup_steps=4, checkpoint_every=24, token_weight=0.5, score_weight=0.2
    )
    model = network(**CROPPED)
    events = list(train(model, config, TrainSetup(Cropped(), tmp_path)))
    actual = losses(events)
    assert np.mean(actual[-6:]) < 0.8 * np.mean(actual[:6])
    assert model.token_head is not None
    kept = averaged_weights(tmp_path)
    assert kept.keys() == network(**CROPPED).state_dict().keys()
    # The head was trained too.
    image, target = Cropped().windows(99, 0)[0]
    with torch.inference_mode():
        out = model.eval()(image[None], 1.0)
    shares, _ = patch_shares(target[None], 4, 2)
    assert out.box is not None and out.token_logits is not None
    wanted = shares[0, 1, out.box.ids(torch.device("cpu"))]
    said = out.token_logits[0].softmax(dim=1)[:, 1]
    assert said[wanted > 0.5].mean() > said[wanted == 0].mean() + 0.1


def test_a_checkpoint_is_written_after_so_many_minutes(tmp_path: Path) -> None:
    ticks = count(0.0)
    config = changed(steps=6, checkpoint_every=100, checkpoint_minutes=0.05)
    events = list(
        train(
            network(),
            config,
            TrainSetup(Spheres(), tmp_path, clock=lambda: next(ticks)),
        )
    )
    # A step takes one tick of a second of this clock: three seconds are three steps.
    assert [e.step for e in events if isinstance(e, CheckpointSaved)] == [3, 6]


def test_a_validation_takes_place_after_so_many_minutes_and_is_announced(tmp_path: Path) -> None:
    ticks = count(0.0)
    config = changed(steps=12, validate_every=100, validate_minutes=0.05)
    _, events = run(tmp_path, config, validator=Judge([0.1] * 9), clock=lambda: next(ticks))
    # A step takes one tick of a second, a validation too: three seconds are three steps.
    announced = [event.step for event in events if isinstance(event, Validating)]
    assert announced == [v.step for v in validations(events)] == [3, 6, 9, 12]
    at = events.index(Validating(3, 2))
    assert isinstance(events[at + 1], Validated)


def test_validations_take_at_most_a_quarter_of_the_time(tmp_path: Path) -> None:
    seconds = [0.0]

    class Slow(Judge):
        def score(self, model: SCD, number: int) -> Scores:
            seconds[0] += 2.0
            return super().score(model, number)

    def clock() -> float:
        seconds[0] += 0.5
        return seconds[0]

    config = changed(steps=40, validate_every=100, validate_minutes=0.05)
    _, events = run(tmp_path, config, validator=Slow([0.1] * 9), clock=clock)
    # A step takes 0.5 s, a validation of two cases 4.5 s: 27 steps are three times as long.
    assert [v.step for v in validations(events)] == [6, 6 + 27, 40]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_bfloat16_trains_as_float32_does_within_its_digits(tmp_path: Path, precision: str) -> None:
    config = changed(steps=4, precision=precision)
    model = network(**CROPPED)
    actual = losses(list(train(model, config, TrainSetup(Cropped(), tmp_path))))
    exact = losses(
        list(train(network(**CROPPED), changed(steps=4), TrainSetup(Cropped(), tmp_path / "exact")))
    )
    assert actual == pytest.approx(exact, rel=0.02)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert (actual == exact) == (precision == "float32")


def test_making_the_windows_counts_as_time_of_the_run(tmp_path: Path) -> None:
    now = 0.0

    class Slow(Spheres):
        def windows(self, seed: int, index: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
            nonlocal now
            now += 30.0
            made: list[tuple[torch.Tensor, torch.Tensor]] = super().windows(seed, index)
            return made

    config = TrainConfig(max_minutes=2.0, validate_every=10_000, precision="float32")
    setting = TrainSetup(Slow(), tmp_path, clock=lambda: now)
    steps = [e for e in train(network(), config, setting) if isinstance(e, StepDone)]
    assert [event.seconds for event in steps] == [30.0] * 4
