"""The page on reliability is made of figures alone."""

import json
import runpy
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[1] / "tools/reliability_page.py"
FIGURES = {
    "hostile": {"tests": {"pickles": 30}},
    "fuzz": {"minutes": 10, "executions": 12345, "crashes": 0},
    "corpus-0": {"cases": {"gzip": 10, "header": 20}},
    "corpus-1": {"cases": {"gzip": 11, "header": 20}},
    "geometry": {"examples": {"identity": 2000}},
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
    assert sum(line.startswith("## ") for line in lines) == 4
    cells = {
        line.split("|")[1].strip(): line.split("|")[2].strip() for line in lines if "|" in line
    }
    assert (cells["pickles"], cells["gzip"], cells["header"]) == ("30", "21", "40")
    assert (cells["identity"], cells["in all"]) == ("2,000", "2,000")
    assert "12,345" in cells.values()
    assert any("0 crashes" in line for line in lines)


def test_a_section_without_figures_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = page_of(tmp_path, ["geometry"], monkeypatch)
    assert [line for line in lines if line.startswith("## ")] == [
        "## Windows, stitching and geometry"
    ]
