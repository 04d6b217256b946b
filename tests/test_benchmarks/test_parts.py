import pytest
import torch
from torch import Tensor, nn

from napari_tokensparse.benchmarks import parts
from napari_tokensparse.benchmarks.parts import SCD_PARTS, PartTimer
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0

    def perf_counter(self) -> int:
        return self.now


class Slow(nn.Module):
    """Takes its time before its child."""

    def __init__(self, clock: Clock, seconds: int, child: nn.Module | None = None) -> None:
        super().__init__()
        self.clock, self.seconds, self.child = clock, seconds, child

    def forward(self, x: Tensor) -> Tensor:
        self.clock.now += self.seconds
        return x if self.child is None else self.child(x)


class SlowNorm(nn.LayerNorm):
    """Takes 1000 s."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(1)
        self.clock = clock

    def forward(self, x: Tensor) -> Tensor:
        self.clock.now += 1000
        return super().forward(x)


def test_a_parts_time_is_its_own_without_that_of_a_norm_or_part_within(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(parts, "time", clock)
    within = Slow(clock, 20, Slow(clock, 300))
    model = nn.Sequential(Slow(clock, 1, SlowNorm(clock)), within, Slow(clock, 50_000))
    with PartTimer(model, {"first": "0", "second": "1", "inner": r"1\.child"}) as timer:
        clock.now += 7
        model(torch.zeros(1))
        model(torch.zeros(1))
    assert timer.seconds == {
        "first": 2,
        "second": 40,
        "inner": 600,
        "norms": 2000,
        "other": 100_007,
    }


def test_no_hook_is_left_behind() -> None:
    model = nn.Sequential(nn.Identity())
    with PartTimer(model, {"all": "0"}) as timer:
        pass
    before = dict(timer.seconds)
    model(torch.zeros(1))
    assert timer.seconds == before


def test_every_part_of_a_network_is_found() -> None:
    model = SCD(preset("nano")).eval()
    with torch.inference_mode(), PartTimer(model, SCD_PARTS) as timer:
        model(torch.zeros(1, 1, 32, 32, 32))
    assert all(seconds > 0 for seconds in timer.seconds.values()), timer.seconds
