"""What the Train widget shows, without a window."""

import math
from pathlib import Path

import pytest

from napari_tokensparse.training.events import (
    CaseRead,
    CheckpointSaved,
    Chosen,
    Finished,
    StepDone,
    Validated,
    to_json,
)
from napari_tokensparse.widgets.train.runlog import Curves, RunLog, finished_text


def step(number, share=0.0, skipped=0):
    return StepDone(number, 1.0 / number, 0.1 * number, 0.5, 1.0, skipped, share)


def validated(number, **dice):
    mean = sum(dice.values()) / len(dice)
    return Validated(number, dice, {}, mean, number == 2, True, "case", None)


def test_curves_grow_with_the_steps():
    curves = Curves()
    for number in (1, 2, 4):
        curves.add(step(number))
    assert curves.steps == [1, 2, 4]
    assert curves.loss == [1.0, 0.5, 0.25]
    assert curves.lr == pytest.approx([0.1, 0.2, 0.4])


def test_a_class_that_a_validation_leaves_out_has_a_gap():
    curves = Curves()
    curves.add(validated(2, tube=0.5))
    curves.add(validated(4, ball=0.25))
    curves.add(validated(6, tube=0.75, ball=0.5))
    assert curves.validated == [2, 4, 6]
    assert curves.dice["tube"] == pytest.approx([0.5, math.nan, 0.75], nan_ok=True)
    assert curves.dice["ball"] == pytest.approx([math.nan, 0.25, 0.5], nan_ok=True)


def test_a_run_that_goes_back_to_its_checkpoint_replaces_what_came_after():
    curves = Curves()
    for event in (step(1), step(2), validated(2, tube=0.5), step(3), validated(3, tube=0.1)):
        curves.add(event)
    curves.add(step(3))
    assert curves.steps == [1, 2, 3]
    assert (curves.validated, curves.dice) == ([2], {"tube": [0.5]})
    curves.add(validated(3, tube=0.75))
    assert curves.dice == {"tube": [0.5, 0.75]}


def test_the_curves_of_a_resumed_run_come_from_its_file_of_events(tmp_path):
    lines = [to_json(event) for event in (step(1), validated(1, tube=0.5), step(2))]
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join([*lines, lines[0][:20]]))  # cut short by a kill
    log = RunLog()
    log.recall(file)
    assert (log.curves.steps, log.curves.validated) == ([1, 2], [1])
    assert log.share is None
    RunLog().recall(tmp_path / "none.jsonl")  # a first run has none


def test_the_time_left_follows_from_what_this_run_has_done():
    now = 100.0
    log = RunLog(lambda: now)
    log.receive(step(50, share=0.5))  # resumed halfway
    assert log.seconds_left is None
    assert log.status == "Step 50: loss 0.020, 50% done"
    now = 110.0
    log.receive(step(60, share=0.6))
    assert log.seconds_left == pytest.approx(40.0)
    assert log.status == "Step 60: loss 0.017, 60% done, about 40 s left"


def test_bad_cases_and_the_reasons_of_the_recipe_stand_in_the_report():
    log = RunLog()
    log.receive(CaseRead(1, 2, "a", ("is empty: label it",)))
    log.receive(CaseRead(2, 2, "b", ()))
    assert log.status == "Checked case 2 of 2: b"
    log.receive(Chosen("auto", ("spacing 1 mm: the median",), 4))
    assert log.report == ["a: is empty: label it", "spacing 1 mm: the median"]


def test_steps_without_effect_are_counted_and_the_last_validation_stays():
    log = RunLog()
    log.receive(step(1))
    log.receive(validated(2, tube=0.5))
    log.receive(CheckpointSaved(2, Path("state.pt")))
    log.receive(step(3, skipped=1))
    assert log.status.splitlines() == [
        "Step 3: loss 0.333, 0% done (1 without effect: loss or gradient not finite)",
        "Mean Dice 0.500 on held-out cases after step 2, the best so far",
    ]


def test_the_end_says_where_the_model_is(write_nano, monkeypatch, tmp_path):
    folder = write_nano("mine")
    text = finished_text(Finished(9, folder, 0.5, "stopped"), held_out=True)
    assert text.splitlines() == [
        "Ended after step 9: stopped.",
        f"The model is in {folder}; choose it in Segment.",
        "Its mean Dice is 0.500 on held-out cases.",
        "After a restart of napari, choose that folder with Browse.",
        "Resume goes on from the checkpoint.",
    ]
    monkeypatch.setenv("TOKENSPARSE_MODELS", str(tmp_path))
    log = RunLog()
    log.receive(validated(2, tube=0.5))
    log.receive(Finished(9, folder, None, "steps"))
    assert log.finished == Finished(9, folder, None, "steps")
    assert log.status.splitlines() == [
        "Ended after step 9: all steps done.",
        f"The model is in {folder}; choose it in Segment.",
    ]


def test_a_run_without_a_model_names_none(tmp_path):
    text = finished_text(Finished(1, tmp_path, None, "stopped"), held_out=True)
    assert "model" not in text


def test_the_end_of_a_resumed_run_says_that_its_dice_is_that_of_training_cases(
    write_nano, tmp_path
):
    file = tmp_path / "events.jsonl"
    seen = Validated(2, {"tube": 0.5}, {}, 0.5, True, False, "case", None)
    file.write_text(to_json(seen) + "\n")
    log = RunLog()
    log.recall(file)
    log.receive(Finished(9, write_nano("mine"), 0.5, "steps"))
    assert "Its mean Dice is 0.500 on the training cases (none is held out)." in log.status
