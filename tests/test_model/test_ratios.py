import math

import pytest
import torch

from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.ratios import (
    DROP,
    FREE,
    KEEP,
    Importance,
    Share,
    describe_keep_ratio,
    grid_size,
    keep_ratios,
    live_counts,
    pinned,
    rule_of,
)
from napari_tokensparse.model.scd import SCD


@pytest.mark.parametrize(
    ("tokens", "ratio", "counts"),
    [
        (1728, 1 - 0.9, (1728, 172, 17, 1)),
        (4096, 0.25, (4096, 1024, 256, 64)),
        (216, 1 - 0.9, (216, 21, 2, 0)),
        (64, 1.0, (64, 64, 64, 64)),
        (0, 0.5, (0, 0, 0, 0)),
    ],
)
def test_ratios_compound_over_the_stages(
    tokens: int, ratio: float, counts: tuple[int, ...]
) -> None:
    assert live_counts(tokens, (ratio,) * 3) == counts


def test_the_unrounded_ratio_is_what_counts() -> None:
    assert live_counts(1000, (1 - 0.9,)) == (1000, 99)
    assert live_counts(1000, (0.1,)) == (1000, 100)


def test_each_stage_can_have_its_own_ratio() -> None:
    assert live_counts(100, (0.5, 1.0, 0.1)) == (100, 50, 50, 5)
    assert live_counts(100, ()) == (100,)


def test_one_number_is_meant_for_every_stage() -> None:
    assert keep_ratios(0.5, 3) == (0.5, 0.5, 0.5)
    assert keep_ratios(1, 2) == (1.0, 1.0)
    assert keep_ratios([0.9, 0.5], 2) == (0.9, 0.5)
    assert keep_ratios(1 - 0.9, 1) == (1 - 0.9,)


@pytest.mark.parametrize(
    ("ratio", "line"),
    [
        (1.4, "keep ratio 1.4: must be in (0, 1]"),
        (0.0, "keep ratio 0: must be in (0, 1]"),
        (-0.5, "keep ratio -0.5: must be in (0, 1]"),
        (math.nan, "keep ratio nan: must be in (0, 1]"),
        ((0.5, 2.0, 0.5), "keep ratio 2: must be in (0, 1]"),
        ((0.5, 0.25), "keep ratio (0.5, 0.25): give one number, or one per stage (3)"),
        ((), "keep ratio (): give one number, or one per stage (3)"),
    ],
)
def test_a_refused_ratio_is_named_with_what_to_do(
    ratio: float | tuple[float, ...], line: str
) -> None:
    with pytest.raises(ValueError) as refused:
        keep_ratios(ratio, 3)
    assert str(refused.value) == line


@pytest.mark.parametrize(
    ("ratios", "text"),
    [
        ((0.5, 0.5, 0.5), "50 % per stage → 12.5 % of tokens reach the end"),
        ((1 - 0.9,) * 3, "10 % per stage → 0.1 % of tokens reach the end"),
        ((0.5, 0.25), "50 / 25 % per stage → 12.5 % of tokens reach the end"),
        ((0.5, 1.0, 0.5), "50 / 100 / 50 % per stage → 25 % of tokens reach the end"),
        ((1.0, 1.0), "No pruning: every token reaches the end"),
        ((), "No pruning: every token reaches the end"),
    ],
)
def test_a_person_reads_what_the_ratios_come_to(ratios: tuple[float, ...], text: str) -> None:
    assert describe_keep_ratio(ratios) == text


def test_the_token_grid_is_the_window_in_patches() -> None:
    assert grid_size((64, 80, 96), 8) == (8, 10, 12)
    assert grid_size((64, 80, 96), 16) == (4, 5, 6)


SCORES = torch.tensor([[0.9, 0.2, 0.6, 0.4]]).log()


@pytest.fixture(scope="module")
def model() -> SCD:
    torch.manual_seed(0)
    return SCD(preset("nano", out_channels=2)).eval()


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(1))


def pins(model: SCD, keep: list[int], drop: list[int]) -> torch.Tensor:
    each = torch.full((1, math.prod(model.config.grid)), FREE, dtype=torch.int8)
    each[0, keep], each[0, drop] = KEEP, DROP
    return each


@pytest.mark.parametrize(("least", "count"), [(0.0, 4), (0.3, 3), (0.6, 2), (0.61, 1), (1.0, 1)])
def test_a_stage_keeps_what_is_important_enough_and_never_nothing(least: float, count: int) -> None:
    assert Importance(least).count(0, SCORES) == count


def test_all_windows_keep_as_many_as_the_one_that_needs_most() -> None:
    assert Importance(0.5).count(0, torch.cat([SCORES, SCORES.flip(1) - 1.0])) == 2


@pytest.mark.parametrize("least", [-0.1, 1.1, math.nan])
def test_an_importance_that_cannot_be_is_refused(least: float) -> None:
    with pytest.raises(ValueError, match=r"importance .*: must be in \[0, 1\]"):
        Importance(least)


def test_keep_ratios_are_a_rule_and_a_rule_stays_one() -> None:
    assert rule_of(0.5, 2) == Share((0.5, 0.5))
    assert rule_of(Importance(0.5), 2) == Importance(0.5)
    with pytest.raises(ValueError, match="keep ratio 2"):
        rule_of(2.0, 1)


def test_pins_stand_above_the_rule_and_take_nobodys_place() -> None:
    marks = torch.tensor([[DROP, KEEP, FREE, KEEP]], dtype=torch.int8)
    ranking, count = pinned(Share((0.25,)), 0, SCORES, marks)
    assert set(ranking[0].topk(count).indices.tolist()) == {1, 2, 3}  # the rule keeps one
    marks = torch.tensor([[KEEP, KEEP, FREE, FREE]], dtype=torch.int8)
    ranking, count = pinned(Share((0.25,)), 0, SCORES, marks)  # the one is pinned
    assert set(ranking[0].topk(count).indices.tolist()) == {0, 1}
    assert pinned(Share((0.1,)), 0, SCORES, marks)[1] == 2  # the rule keeps none
    marks = torch.tensor([[DROP, KEEP, FREE, KEEP]], dtype=torch.int8)
    assert pinned(Share((1.0,)), 0, SCORES, marks)[1] == 3
    assert pinned(Importance(0.5), 0, SCORES, marks)[1] == 3


def test_the_network_keeps_more_where_more_is_important(model: SCD, image: torch.Tensor) -> None:
    with torch.inference_mode():
        scores = model(image, 1.0).trace.scores[0].exp()
        middle = float(scores.median())
        trace = model(image, Importance(middle)).trace
        everything = model(image, Importance(0.0))
        assert torch.equal(everything.logits, model(image, 1.0).logits)
    kept_first = scores.numel() - trace.pruned[0].shape[1]
    assert kept_first == int((scores >= middle).sum())
    assert 0 < kept_first < scores.numel()


def test_a_pinned_token_is_kept_and_a_dropped_one_goes_first(
    model: SCD, image: torch.Tensor
) -> None:
    with torch.inference_mode():
        free = model(image, 0.3).trace
        lost, held = free.pruned[0][0, :3].tolist(), free.kept[0, :2].tolist()
        trace = model(image, 0.3, pins=pins(model, keep=lost, drop=held)).trace
        dropped = model(image, 1.0, pins=pins(model, keep=[], drop=held)).trace
    assert set(lost) <= set(trace.kept[0].tolist())
    assert set(held) <= set(trace.pruned[0][0].tolist())
    assert dropped.pruned[0][0].tolist() == sorted(held)
    assert torch.equal(trace.scores[0], free.scores[0])  # what is shown is what the model thinks
