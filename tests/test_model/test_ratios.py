import math

import pytest

from napari_tokensparse.model.ratios import (
    describe_keep_ratio,
    grid_size,
    keep_ratios,
    live_counts,
)


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
