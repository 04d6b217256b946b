from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_tokensparse.data.dataset import Case
from napari_tokensparse.data.volume import Volume
from napari_tokensparse.engine.evaluate import evaluating, score_case
from napari_tokensparse.engine.infer import SegmentError, segment
from napari_tokensparse.engine.metrics import hd95_per_class
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.scd import SCD


@pytest.fixture
def model(write_nano: Callable[..., Path]) -> SCD:
    return load_model(write_nano())


def scan(spacing: float = 2.0) -> Volume:
    array = np.random.default_rng(0).normal(size=(1, 32, 32, 32)).astype(np.float32)
    return Volume(array, np.diag([spacing, spacing, spacing, 1.0]), "scan")


def test_a_case_that_says_what_the_model_says_scores_perfectly(model: SCD) -> None:
    image = scan()
    found = segment(image, model, 0.5).labels
    scores = score_case(Case("a", image, Volume(found[None], image.affine, "a")), model, 0.5)
    assert scores.dice == {"seven": 1.0}
    assert scores.hd95_mm == {"seven": 0.0}
    assert scores.keep_ratio == (0.5, 0.5, 0.5)
    assert np.array_equal(scores.labels, found)


def test_what_is_unlabelled_is_not_compared(model: SCD) -> None:
    image = scan()
    found = segment(image, model).labels
    label = np.where(found == 7, 7, 1).astype(np.uint8)
    label[:16] = 0
    case = Case("a", image, Volume(label[None], image.affine, "a"))
    assert score_case(case, model, unlabelled=0).dice["seven"] == 1.0
    assert score_case(case, model).dice["seven"] < 1.0


def test_a_class_that_is_not_there_has_no_score(model: SCD) -> None:
    image = scan()
    empty = Volume(np.zeros((1, 32, 32, 32), np.uint8), image.affine, "a")
    scores = score_case(Case("a", image, empty), model)
    assert np.isnan(scores.dice["seven"]) and np.isnan(scores.hd95_mm["seven"])


def test_every_case_is_scored_at_every_keep_ratio(model: SCD) -> None:
    image = scan()
    label = Volume(np.full((1, 32, 32, 32), 7, np.uint8), image.affine, "a")
    cases = [Case(name, image, label) for name in "ab"]
    found = [(s.case, s.keep_ratio[0]) for s in evaluating(cases, model, [1.0, 0.25], hd95=False)]
    assert found == [("a", 1.0), ("a", 0.25), ("b", 1.0), ("b", 0.25)]


def test_a_model_that_does_not_fit_is_refused(model: SCD) -> None:
    image = Volume(np.zeros((2, 32, 32, 32), np.float32), np.eye(4), "two")
    label = Volume(np.ones((1, 32, 32, 32), np.uint8), np.eye(4), "a")
    with pytest.raises(SegmentError, match="2 channels"):
        score_case(Case("a", image, label), model)


def test_hd95_is_in_mm_along_each_axis() -> None:
    truth = np.zeros((20, 20, 20), np.uint8)
    truth[5:10, 5:10, 5:10] = 3
    moved = [np.roll(truth, 4, axis=axis) for axis in range(3)]
    spacing = (1.0, 2.0, 3.0)
    found = [hd95_per_class(m, truth, [3], spacing)[0] for m in moved]
    assert found == pytest.approx([4.0, 8.0, 12.0])
    assert np.isnan(hd95_per_class(truth, truth, [2], spacing)[0])
    with pytest.raises(ValueError, match="truth has shape"):
        hd95_per_class(truth, truth[1:], [3], spacing)
