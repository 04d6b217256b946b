"""How a run is shown."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from napari_tokensparse.commands.train_display import RunDisplay
from napari_tokensparse.training.events import CaseRead, Chosen, StepDone, Validated

if TYPE_CHECKING:
    from napari_tokensparse.training.events import Event

STEPS = [StepDone(n, 1 / n, 1e-3, 0.5, 0.1, skipped=n // 3, share=n / 10) for n in range(1, 5)]
VALIDATED = Validated(2, {"tube": 0.75}, {}, 0.75, True, True, "a", Path("preview.nii.gz"))


def shown(*events: Event, terminal: bool = False, list_bad: bool = False) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=120, color_system=None)
    with RunDisplay(console, list_bad) as display:
        for event in events:
            display.show(event)
    return file.getvalue()


def test_a_log_gets_whole_lines_and_of_the_steps_only_one_now_and_then() -> None:
    reasons = ("spacing 1 × 1 × 2.5 mm: the median of the data set [mm], " + "so " * 60 + "on",)
    lines = shown(
        CaseRead(1, 1, "a", ()), Chosen("auto", reasons, 4), *STEPS[:2], VALIDATED, *STEPS[2:]
    ).splitlines()
    assert lines == [
        "Read 1 case",
        f"Recipe auto: {reasons[0]}",
        "step 1: loss 1.000, 10 % done",
        "step 2: mean Dice 0.750 on held-out cases (tube 0.750)",
    ]


def test_a_terminal_gets_a_bar_with_loss_dice_share_and_time_left() -> None:
    text = shown(*STEPS[:2], VALIDATED, *STEPS[2:], terminal=True)
    last = [line for line in text.replace("\r", "\n").splitlines() if "step 4" in line][-1]
    assert "step 4: loss 0.250, Dice 0.750, 1 skipped as not finite" in last
    assert "40%" in last
    assert "0:00:0" in last
    assert "% done" not in text


def test_bad_cases_are_counted_and_listed_only_where_they_are_left_out() -> None:
    events = (CaseRead(1, 2, "a", ("label.nii: is empty",)), CaseRead(2, 2, "b", ()))
    assert shown(*events) == "Read 2 cases, 1 of them bad\n"
    assert shown(*events, list_bad=True).splitlines() == [
        "Left out a: label.nii: is empty",
        "Read 2 cases, 1 of them bad",
    ]


def test_what_is_to_know_of_cases_is_said_once_when_all_are_read() -> None:
    events = [CaseRead(n, 3, name, (), ("cut",) * (name != "b")) for n, name in enumerate("abc", 1)]
    assert shown(*events).splitlines() == ["Read 3 cases", "Note: a, c: cut"]
