from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_tokensparse.datasets.dataset import Case
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.scoring.evaluate import evaluating, score_case
from napari_tokensparse.segmenting.infer import SegmentError, segment
from napari_tokensparse.volumes.volume import Volume


@pytest.fixture
def model(write_nano: Callable[..., Path]) -> SCD:
    return load_model(write_nano())


def scan(spacing: float = 2.0) -> Volume:
    array = np.random.default_rng(0).normal(size=(1, 32, 32, 32)).astype(np.float32)
    return Volume(array, np.diag([spacing, spacing, spacing, 1.0]), "scan")


def test_a_case_that_says_what_the_model_says_scores_perfectly(model: SCD) -> None:
    image = scan()
    labels = segment(image, model, 0.5).labels
    scores = score_case(Case("a", image, Volume(labels[None], image.affine, "a")), model, 0.5)
    assert scores.dice == {"seven": 1.0}
    assert scores.hd95_mm == {"seven": 0.0}
    assert scores.keep_ratio == (0.5, 0.5, 0.5)
    assert np.array_equal(scores.labels, labels)


def test_what_is_to_know_of_image_label_and_model_stays_with_the_scores(model: SCD) -> None:
    image = replace(scan(), notes=("qform and sform differ by up to 3.1 mm; the sform was used",))
    label = np.full((1, 32, 32, 32), 7.00003, np.float32)
    case = Case("a", image, Volume(label, image.affine, "l", notes=(*image.notes, "old")))
    assert model.info is not None
    picky = SCD(model.config, model.info.model_copy(update={"foreground_ml": (9000.0, 9999.0)}))
    scores = score_case(case, picky.eval(), hd95=False)
    first, second, third, concern = scores.notes
    assert first == image.notes[0]
    assert second == "its label: old"
    assert third.startswith("its label: its labels are up to 3e-05 from whole numbers")
    assert concern.startswith("scan: 262 ml of it are not 0, and nano is made for 9,000 to")


def test_what_is_unlabelled_is_not_compared(model: SCD) -> None:
    image = scan()
    labels = segment(image, model).labels
    label = np.where(labels == 7, 7, 1).astype(np.uint8)
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
    scored = [(s.case, s.keep_ratio[0]) for s in evaluating(cases, model, [1.0, 0.25], hd95=False)]
    assert scored == [("a", 1.0), ("a", 0.25), ("b", 1.0), ("b", 0.25)]


def test_a_model_that_does_not_fit_is_refused(model: SCD) -> None:
    image = Volume(np.zeros((2, 32, 32, 32), np.float32), np.eye(4), "two")
    label = Volume(np.ones((1, 32, 32, 32), np.uint8), np.eye(4), "a")
    with pytest.raises(SegmentError, match="2 channels"):
        score_case(Case("a", image, label), model)


def test_a_label_on_another_grid_is_refused(model: SCD) -> None:
    label = Volume(np.ones((1, 32, 32, 1), np.uint8), np.eye(4), "flat")
    with pytest.raises(SegmentError) as refused:
        score_case(Case("a", scan(), label), model)
    assert str(refused.value) == (
        "flat: shape (32, 32, 1): must be its image's (32, 32, 32); resample it"
    )


def test_overlapping_regions_are_scored_against_the_label_values_that_make_them_up(
    make_model: Callable[..., SCD],
) -> None:
    regions = ((1, 2, 3), (2, 3), (3,))
    model = make_model(values=(2, 1, 4), exclusive=False, regions=regions)
    image = scan()
    masks = segment(image, model).regions
    assert masks is not None
    assert (masks.sum(axis=0) > 1).mean() > 0.05
    label = np.random.default_rng(1).integers(0, 4, image.shape).astype(np.uint8)
    scores = score_case(Case("a", image, Volume(label[None], image.affine, "a")), model)
    assert list(scores.dice) == list(scores.hd95_mm) == ["part 2", "part 1", "part 4"]
    for mask, values, dice in zip(masks, regions, scores.dice.values(), strict=True):
        true = np.isin(label, values)
        assert dice == pytest.approx(2 * (mask & true).sum() / (mask.sum() + true.sum()))
        assert 0.1 < dice < 0.9


def test_regions_of_unknown_label_values_cannot_be_scored(make_model: Callable[..., SCD]) -> None:
    image = scan()
    label = Volume(np.ones((1, 32, 32, 32), np.uint8), image.affine, "a")
    with pytest.raises(SegmentError, match=r"model nano: does not say which label values make up"):
        score_case(Case("a", image, label), make_model(values=(2, 1), exclusive=False))
