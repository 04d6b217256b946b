"""The page on reliability is made of figures alone."""

import json
import runpy
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools/reliability_page.py"
FIGURES = {
    "hostile": {"tests": {"pickles": 30}},
    "fuzz": {"minutes": 10, "executions": 12345, "crashes": 0},
    "corpus-0": {"cases": {"gzip": 10, "header": 20}},
    "corpus-1": {"cases": {"gzip": 11, "header": 20}},
    "geometry": {"examples": {"identity": 2000}},
    "shortage": {"windows": 36},
    "limits": {"limits": 40, "refused": 13},
    "disks": {"disks": {"nii": 20, "csv": 20}},
    "signals": {"signals": {"SIGINT": 21, "SIGTERM": 22}},
    "cycles": {"cycles": 200, "mb_per_cycle": 0.0162},
    "honesty": {"keep_ratios": 19, "alike": 0.999951, "logits": {"another layout": 2.5e-5}},
    "estimate": {
        "runs": [
            {"setting": "near", "windows": [8, 8], "seconds": [6.5, 5.0], "mb": [90, 100]},
            {"setting": "far", "windows": [1, 2], "seconds": [1.0, 2.0], "mb": [131, 100]},
        ]
    },
}


def page_of(folder: Path, names: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    for name in names:
        (folder / f"{name}.json").write_text(json.dumps(FIGURES[name]), encoding="utf-8")
    output = folder / "page.md"
    monkeypatch.setattr(sys, "argv", [str(TOOL), "--figures", str(folder), "-o", str(output)])
    runpy.run_path(str(TOOL), run_name="__main__")
    return output.read_text(encoding="utf-8").splitlines()


def test_the_figures_are_in_its_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = page_of(tmp_path, list(FIGURES), monkeypatch)
    assert sum(line.startswith("## ") for line in lines) == 8
    cells = {
        line.split("|")[1].strip(): line.split("|")[2].strip() for line in lines if "|" in line
    }
    assert (cells["pickles"], cells["gzip"], cells["header"]) == ("30", "21", "40")
    assert cells["identity"] == "2,000"
    assert "| in all | 38 | |" in lines  # of the last table: honesty
    assert "| in all | 2,000 | |" in lines
    assert "12,345" in cells.values()
    assert any("0 crashes" in line for line in lines)
    times = ("36", "40", "40", "21", "22", "200", "19", "19", "2", "2")
    assert set(times) <= set(cells.values())
    said = "\n".join(lines)
    for text in (
        "or one line (13 times)",
        "memory grew by 0.016 MB a time",
        "99.9951%",
        "for the same tokens: 2.5e-05 at most",
        "within 30% of what came: 1 of 2 (0.50 to 1.30 of it)",
        "within 30% of what came: 1 of 2 (0.90 to 1.31 of it)",
        "| near | 8 / 8 | 6.5 / 5 | 90 / 100 |",
    ):
        assert text in said


def test_a_section_without_figures_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = page_of(tmp_path, ["geometry"], monkeypatch)
    assert [line for line in lines if line.startswith("## ")] == [
        "## Windows, stitching and geometry",
        "## With every `tox`",
    ]
