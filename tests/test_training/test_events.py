from pathlib import Path

import pytest

from napari_tokensparse.training.events import (
    CaseRead,
    CheckpointSaved,
    Chosen,
    Event,
    Finished,
    StepDone,
    Validated,
    Validating,
    from_json,
    to_json,
)


@pytest.mark.parametrize(
    "event",
    [
        CaseRead(1, 3, "ä", ("empty",)),
        Chosen("auto", ("spacing 1 mm", "window 64"), 12),
        StepDone(7, 0.25, 1e-3, 0.5, 1.5, 2, 0.7),
        Validating(7, 3),
        Validated(7, {"liver": 0.5}, {}, 0.5, True, False, "case", Path("/a/preview.nii.gz")),
        Validated(7, {}, {"liver": 2.0}, 0.0, False, True, "case", None),
        CheckpointSaved(7, Path("/a/state.pt")),
        Finished(7, Path("/a"), None, "stopped"),
    ],
)
def test_an_event_survives_its_line(event: Event) -> None:
    line = to_json(event)
    assert "\n" not in line
    assert from_json(line) == event


@pytest.mark.parametrize("line", ["", "{", "[]", "7", '{"event": "Nothing"}', '{"step": 1}'])
def test_what_is_no_event_is_named(line: str) -> None:
    with pytest.raises(ValueError, match="is no event of a training run"):
        from_json(line)
