"""The examples run as they are."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = {
    "custom_decoder.py": "logits (2, 3, 32, 32, 32) of 8 tokens kept to the end",
    "forward_pass.py": "stage 2: 2560 tokens scored, 1920 pruned",
    "segment_volume.py": "keep ratio 0.25: tokens {'processed': 2912, 'pruned at 1': 2184",
    "train_from_layers.py": "wrote ball: steps",
    "train_msd.py": "image-2 at keep ratio 0.5: box",
}
SHORTER = {"train_from_layers.py": ["20"], "train_msd.py": ["0.02"]}
"""Arguments with which an example does the same in less time."""
GUI = {"segment_in_napari.py"}


def test_every_example_is_run_here() -> None:
    assert {p.name for p in EXAMPLES.glob("*.py")} == {*SCRIPTS, *GUI}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs_and_prints_what_it_says(
    run_python: Callable[..., Any], name: str, tmp_path: Path
) -> None:
    run = run_python(EXAMPLES / name, *SHORTER.get(name, []), cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert SCRIPTS[name] in run.stdout


@pytest.mark.gui
def test_the_napari_example_opens_the_sample_with_the_widget(
    make_napari_viewer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = make_napari_viewer()
    monkeypatch.setattr("napari.Viewer", lambda: viewer)
    names = runpy.run_path(str(EXAMPLES / "segment_in_napari.py"))
    assert [x.name for x in viewer.layers] == ["mni_icbm152_t1_1mm"]
    assert names["widget"].keep_ratio.value() == 0.25
    assert names["widget"].button.text() == "Segment"
