"""The page on performance is made of reports alone."""

import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from napari_tokensparse.benchmarks.report import Report, Row

TOOL = Path(__file__).parents[2] / "tools/performance_page.py"
MACHINE = {
    **{"cpu": "Some CPU", "cores": 2, "threads": 1, "os": "Linux 6", "instructions": "AVX2"},
    **{"memory_gb": 24.0, "python": "3.11", "torch": "2.9", "monai": "1.6", "tokensparse": "1"},
}

WINDOW = Row("inference", "total", "btcv", "scd", "plain", 0.1, 2.0, 0.1, 100.0, 0.5)
DENSE = replace(WINDOW, variant="dense", keep_ratio=1.0, seconds=5.0, gmacs=200.0, efficiency=0.4)
LITE = replace(WINDOW, preset="btcv-lite", keep_ratio=0.25, seconds=1.0, gmacs=50.0)
STEP = replace(WINDOW, section="training", seconds=4.0, peak_mb=300.0)
SAMPLE = Row("volume", "total", "brain-structures", "scd", seconds=10.0, shape=(5, 6, 7), windows=4)
NOISE = replace(SAMPLE, preset="nano", seconds=4.0, peak_mb=50.0, windows=8)
FULL = Row("preview", "full", "brain-structures", "scd", "plain", 0.5, 2.0, gmacs=20.0)
HALF = replace(WINDOW, section="bfloat16", backend="bfloat16", seconds=1.0, agreement=0.99)
ROWS = (
    *(WINDOW, replace(WINDOW, part="decoder", seconds=0.75), LITE, DENSE),
    *(STEP, replace(STEP, variant="dense", keep_ratio=1.0, seconds=8.0, peak_mb=400.0)),
    *(SAMPLE, replace(SAMPLE, part="network", seconds=8.0), NOISE),
    replace(NOISE, variant="monai-inferer", seconds=6.0, peak_mb=200.0, agreement=0.99999),
    replace(NOISE, shape=(9, 9, 9), seconds=9.0, windows=12),
    *(FULL, replace(FULL, part="update", seconds=1.0, gmacs=15.0)),
    replace(HALF, backend="plain", seconds=2.0, agreement=1.0),
    HALF,
    Row("macs", "total", "btcv", "scd", keep_ratio=0.1, gmacs=100.0),
)


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make the page of two reports of one machine; its lines."""
    first = tmp_path / "first.json"
    first.write_text(Report(MACHINE, 100.0, ROWS[:4]).to_json())
    second = tmp_path / "second.json"
    second.write_text(Report(MACHINE, 90.0, ROWS[4:]).to_json())
    choices = tmp_path / "choices.json"
    undone = {"as it is": {"seconds": 2.0, "times": 1.0}, "norm": {"seconds": 3.0, "times": 1.5}}
    choices.write_text(
        json.dumps({"preset": "btcv", "training": False, "volume": False, "undone": undone})
    )
    start = tmp_path / "start.json"
    start.write_text(json.dumps({"a window": 0.456}))
    output = tmp_path / "performance.md"
    arguments = [first, second, "--choices", choices, "--start", start, "-o", output]
    monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, arguments)])
    runpy.run_path(str(TOOL), run_name="__main__")
    return output.read_text(encoding="utf-8").splitlines()


def test_the_machine_is_told_once_and_the_rate_of_each_report(page: list[str]) -> None:
    assert [line for line in page if line.startswith("## ")] == [
        "## Some CPU, 2 cores, 1 threads",
        "## What is kept, and what it gained",
        "## What was tried and left out",
    ]
    rates = [line for line in page if line.startswith("Matrix product beside")]
    assert [line.split()[-2] for line in rates] == ["100.0", "90.0"]


@pytest.mark.parametrize(
    "line",
    [
        # seconds, spread, GMACs, efficiency; MAC ratio 2.0, time ratio 2.5, one by the other 1.25
        "| btcv | scd | plain | 0.1 | 2.000 | 0.100 | 100.0 | 0.50 | 2.00 | 2.50 | 1.25 |",
        "| btcv-lite | scd | plain | 0.25 | 1.000 | 0.100 | 50.0 | 0.50 | 4.00 | 5.00 | 1.25 |",
        "| btcv | dense | plain | 1 | 5.000 | 0.100 | 200.0 | 0.40 | 1.00 | 1.00 | 1.00 |",
        "| btcv | scd | plain | 0.1 | 2.000 | 0.750 |",  # parts
        "| a window | 0.46 |",
        "| btcv | scd | plain | 0.1 | 0.250 | 300 | 0.75 |",  # steps a second, MB, by dense
        "| brain-structures | scd | – | 5 × 6 × 7 | 4 | 10.0 | – | 0.40 | 20% | – | – |",
        "| nano | monai-inferer | – | 5 × 6 × 7 | 8 | 6.0 | – | 1.33 | – | 200 | 0.999990 |",
        "| – | 5 × 6 × 7 | 1.50 | 0.25 | 1.00 |",  # MONAI's time, our memory, growth
        "| – | 9 × 9 × 9 | – | – | 1.50 |",
        "| 0.5 | 2.000 | 1.000 | 0.500 | 0.750 |",
        "| norm | 1.50 |",
        "| btcv | scd | bfloat16 | 0.1 | 1.000 | 0.100 | 100.0 | 0.50 | 2.00 | 0.9900 |",
    ],
)
def test_the_figures_of_the_reports_are_in_its_tables(page: list[str], line: str) -> None:
    assert line in page


def written(output: Path, monkeypatch: pytest.MonkeyPatch, *reports: Path) -> str:
    """Write a page of these reports alone."""
    monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, reports), "-o", str(output)])
    runpy.run_path(str(TOOL), run_name="__main__")
    return output.read_text(encoding="utf-8")


def test_what_the_page_says_of_other_machines_and_of_choices_stays(
    page: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.json"
    other.write_text(Report({**MACHINE, "cpu": "Other CPU"}, 50.0, ROWS[:1]).to_json())
    text = written(tmp_path / "performance.md", monkeypatch, other)
    assert "## Some CPU, 2 cores, 1 threads\n" in text
    assert "## Other CPU, 2 cores, 1 threads\n" in text
    assert set(page) < set(text.splitlines())
    assert written(tmp_path / "performance.md", monkeypatch, other) == text


def test_windows_are_set_beside_those_of_the_authors_code_by_their_efficiency(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = tmp_path / "ours.json", tmp_path / "theirs.json"
    ours.write_text(Report(MACHINE, 100.0, ROWS[:6]).to_json())  # of steps, too: they do not count
    authors = replace(WINDOW, variant="authors", efficiency=0.25)
    rows = (authors, replace(authors, variant="authors-dense", keep_ratio=1.0, efficiency=0.8))
    theirs.write_text(Report({"cpu": "AVX2", "cores": 4}, 10.0, rows).to_json())
    lines = written(tmp_path / "new.md", monkeypatch, theirs, ours).splitlines()
    first = lines.index("| the authors' code, SCD | 4 cores, AVX2 | 0.1 | 0.25 | 1.00 |")
    machine = "Some CPU, 2 cores, 1 threads"
    assert lines[first + 1 : first + 4] == [
        f"| ours, scd, plain | {machine} | 0.1 | 0.50 | 2.00 |",
        "| the authors' code, dense | 4 cores, AVX2 | 1 | 0.80 | 1.00 |",
        f"| ours, dense, plain | {machine} | 1 | 0.40 | 0.50 |",
    ]
