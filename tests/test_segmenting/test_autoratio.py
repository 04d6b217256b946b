"""The smallest keep ratio that leaves a window's labels as they are is found."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from napari_tokensparse.model.ratios import DROP
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.segmenting.agreement import agreement
from napari_tokensparse.segmenting.autoratio import IMPORTANCES, searching
from napari_tokensparse.segmenting.preview import PreviewSession
from napari_tokensparse.volumes.volume import Volume


@pytest.fixture
def session(make_model: Callable[..., SCD]) -> PreviewSession:
    noise = np.random.default_rng(0).normal(100, 20, (1, 40, 36, 33)).astype(np.float32)
    return PreviewSession(Volume(noise, np.eye(4), "noise"), make_model())


def test_agreement_is_of_what_either_labels() -> None:
    one, other = np.array([0, 0, 1, 1, 2]), np.array([0, 3, 1, 2, 2])
    assert agreement(one, other) == agreement(other, one) == 0.5
    assert agreement(one, one) == agreement(0 * one, 0 * one) == 1.0


def test_an_update_says_how_far_it_agrees_once_the_window_was_run_without_pruning(
    session: PreviewSession,
) -> None:
    assert session.update(0.5).agreement is None
    reference = session.reference()
    pruned = session.update(0.5)
    assert pruned.agreement == agreement(pruned.labels, reference) < 1.0
    assert session.update(1.0).agreement == 1.0
    session.move_to((39, 35, 32))
    assert session.update(0.5).agreement is None  # another window


@pytest.mark.parametrize("share", [0.6, 0.9, 1.0])
def test_the_first_ratio_that_agrees_ends_the_search(session: PreviewSession, share: float) -> None:
    trials = list(searching(session, share))
    assert trials[-1].agreement >= share
    assert all(trial.agreement < share for trial in trials[:-1])
    assert all(b.value - a.value == pytest.approx(0.05) for a, b in pairwise(trials))
    for trial in (trials[0], trials[-1]):
        assert trial.agreement == session.update(trial.value).agreement


def test_ratios_that_leave_no_token_are_passed_over(session: PreviewSession) -> None:
    first = next(searching(session, 0.5))
    assert session.tokens == 64
    assert first.value == 0.25  # 64, 16, 4, 1; at 0.2 it is 64, 12, 2, 0


@pytest.mark.parametrize("share", [0.6, 1.0])
def test_the_largest_importance_that_agrees_ends_the_search(
    session: PreviewSession, share: float
) -> None:
    trials = list(searching(session, share, by_importance=True))
    assert [trial.value for trial in trials] == list(IMPORTANCES[: len(trials)])
    assert trials[-1].agreement >= share
    assert all(trial.agreement < share for trial in trials[:-1])
    kept = [trial.preview.live[-1] for trial in trials]
    assert kept == sorted(kept)
    assert trials[-1].preview.importance == trials[-1].value


def test_pins_count_and_what_they_drop_may_leave_nothing_that_agrees(
    session: PreviewSession,
) -> None:
    pins = np.zeros(session.places.grid, np.int8)
    pins[:2] = DROP
    trials = list(searching(session, 1.0, pins=pins))
    assert trials[-1].value == 1.0
    assert trials[-1].agreement < 1.0
