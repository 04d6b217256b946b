"""Write docs/reliability.md from the figures that the deep tests and tools left.

tox -e deep && tox -e fuzz && python tools/reliability_page.py

Every figure on the page comes from a JSON file in docs/reliability. A section is a function that
takes these by name and returns its rows; one whose figures are not there is left out. To add one,
write it and list it in ``SECTIONS``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DOCS = Path(__file__).parents[1] / "docs"
Figures = dict[str, Any]


class Row(NamedTuple):
    """One line of the table: what was tried, how often, and what had to come of it."""

    tried: str
    times: int
    must: str


def hostile(figures: Figures) -> list[Row]:
    """Count the tests on hostile files, by what they try."""
    must = "refused in one line, or never looked at; no code runs, no file appears"
    counts: Mapping[str, int] = figures.get("hostile", {}).get("tests", {})
    return [Row(tried, times, must) for tried, times in sorted(counts.items())]


def fuzzer(figures: Figures) -> list[Row]:
    """Count the executions of the coverage-guided fuzzer."""
    said = figures.get("fuzz")
    if said is None:
        return []
    tried = (
        f"changed model folders, checkpoints, configs and lists, guided by coverage for "
        f"{said['minutes']:g} minutes"
    )
    must = f"values or one line, within 10 s and 4 GB: {said['crashes']} crashes"
    return [Row(tried, said["executions"], must)]


def corpus(figures: Figures) -> list[Row]:
    """Count the broken and odd inputs of all seeds, by family."""
    runs = [said["cases"] for name, said in figures.items() if name.startswith("corpus-")]
    must = "one line that names the file and the fix, or labels on the file's own grid"
    families = dict.fromkeys(family for run in runs for family in run)
    return [Row(f, sum(run.get(f, 0) for run in runs), must) for f in families]


def geometry(figures: Figures) -> list[Row]:
    """Count the examples drawn for windows, stitching and geometry."""
    counts: Mapping[str, int] = figures.get("geometry", {}).get("examples", {})
    return [Row(tried, times, "holds for each") for tried, times in counts.items()]


SECTIONS: dict[str, Callable[[Figures], list[Row]]] = {
    "Hostile files": hostile,
    "Fuzzing of model folders and configs": fuzzer,
    "Bad input": corpus,
    "Windows, stitching and geometry": geometry,
}

_HEAD = """\
# Reliability

Made by `tools/reliability_page.py` from what `tox -e deep` and `tox -e fuzz` left in
`docs/reliability`; do not edit. A small share of each runs with every `tox`.
"""


def write_page(figures: Path, page: Path) -> None:
    """Write the page of the figures in a folder."""
    said = {
        path.stem: json.loads(path.read_text("utf-8")) for path in sorted(figures.glob("*.json"))
    }
    parts = [_HEAD]
    for title, section in SECTIONS.items():
        rows = section(said)
        if rows:
            parts.append(f"## {title}\n\n{_table(rows)}")
    page.write_text("\n".join(parts), encoding="utf-8")


def _table(rows: list[Row]) -> str:
    lines = [f"| {row.tried} | {row.times:,} | {row.must} |" for row in rows]
    total = f"| in all | {sum(row.times for row in rows):,} | |"
    return "\n".join(["| tried | times | what must come |", "|---|---:|---|", *lines, total]) + "\n"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figures", type=Path, default=DOCS / "reliability")
    parser.add_argument("-o", "--output", type=Path, default=DOCS / "reliability.md")
    options = parser.parse_args()
    write_page(options.figures, options.output)


if __name__ == "__main__":
    main()
