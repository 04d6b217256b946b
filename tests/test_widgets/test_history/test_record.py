"""How far the labels of two runs agree, and which two are compared."""

from __future__ import annotations

from datetime import datetime
from uuid import uuid4

import numpy as np
import pytest

from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.segmenting.options import Options
from napari_tokensparse.widgets.history.record import Run, mean_dice, reference_of
from napari_tokensparse.widgets.packed import Packed

IMAGE = (uuid4(), "scan")
INFO = ModelInfo(
    name="nano",
    channels=("image",),
    classes=(LabelClass(value=7, name="seven", color=(255, 0, 0)),),
    preprocessing=(),
)


def run(number: int, ratio: float, region: str | None = None, image: object = IMAGE) -> Run:
    """Make a run of no image."""
    packed = Packed.of(np.zeros((2, 3, 4), np.uint8))
    options, at = Options(model="nano", keep_ratio=(ratio, ratio)), datetime(2026, 1, 2)
    return Run(number, at, image, INFO, options, 1.5, region, packed, packed, {}, None, None, None)


def test_mean_dice_is_that_of_each_class_that_occurs() -> None:
    one = np.array([[1, 1, 1, 5], [0, 0, 5, 5]], np.uint8)
    other = np.array([[1, 1, 0, 5], [0, 1, 5, 0]], np.uint8)
    # class 1: 2 of 3 and 3 voxels; class 5: 2 of 3 and 2; class 9 occurs nowhere
    assert mean_dice(one, other, [1, 5, 9]) == pytest.approx((2 * 2 / 6 + 2 * 2 / 5) / 2)
    assert mean_dice(one, one, [1, 5]) == 1.0
    assert mean_dice(one, np.zeros_like(one), [1, 5]) == 0.0
    assert mean_dice(np.zeros_like(one), np.zeros_like(one), [1, 5]) is None


def test_mean_dice_is_the_same_in_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    one, other = random.integers(0, 4, (2, 7, 8, 9)).astype(np.uint8)
    at_once = mean_dice(one, other, [1, 2, 3])
    monkeypatch.setattr("napari_tokensparse.widgets.history.record._AT_ONCE", 50)
    assert mean_dice(one, other, [1, 2, 3]) == at_once


def test_a_run_is_compared_with_keep_ratio_1_else_with_the_one_before() -> None:
    first, second, full = run(1, 0.5), run(2, 0.25), run(3, 1.0)
    assert reference_of(first, [first]) is None
    assert reference_of(second, [first, second]) is first
    assert reference_of(first, [first, second, full]) is full
    assert reference_of(full, [first, second, full]) is second


def test_runs_of_another_image_or_region_are_not_compared() -> None:
    first = run(1, 1.0)
    for other in (run(2, 0.5, "0:1,0:1,0:1"), run(2, 0.5, image=(uuid4(), "scan"))):
        assert reference_of(other, [first, other]) is None


def test_keep_ratios_are_said_once_where_they_are_the_same() -> None:
    assert run(1, 0.25).keep == "0.25" and run(1, 1.0).keep == "1"
