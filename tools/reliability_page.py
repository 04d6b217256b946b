"""Write docs/reliability.md from the figures that the deep tests and tools left.

tox -e deep && tox -e fuzz && python tools/estimate_figures.py --figures docs/reliability
python tools/reliability_page.py

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

    attempted: str
    times: int
    must: str


def hostile(figures: Figures) -> list[Row]:
    """Count the tests on hostile files, by what they try."""
    must = "refused in one line, or never looked at; no code runs, no file appears"
    counts: Mapping[str, int] = figures.get("hostile", {}).get("tests", {})
    return [Row(attempted, times, must) for attempted, times in sorted(counts.items())]


def fuzzer(figures: Figures) -> list[Row]:
    """Count the executions of the coverage-guided fuzzer."""
    said = figures.get("fuzz")
    if said is None:
        return []
    attempted = (
        f"changed model folders, checkpoints, configs and lists, guided by coverage for "
        f"{said['minutes']:g} minutes"
    )
    must = f"values or one line, within 10 s and 4 GB: {said['crashes']} crashes"
    return [Row(attempted, said["executions"], must)]


def corpus(figures: Figures) -> list[Row]:
    """Count the broken and odd inputs of all seeds, by family."""
    runs = [said["cases"] for name, said in figures.items() if name.startswith("corpus-")]
    must = "one line that names the file and the fix, or labels on the file's own grid"
    families = dict.fromkeys(family for run in runs for family in run)
    return [Row(f, sum(run.get(f, 0) for run in runs), must) for f in families]


def geometry(figures: Figures) -> list[Row]:
    """Count the examples drawn for windows, stitching and geometry."""
    counts: Mapping[str, int] = figures.get("geometry", {}).get("examples", {})
    return [Row(attempted, times, "holds for each") for attempted, times in counts.items()]


def faults(figures: Figures) -> list[Row]:
    """Count the faults of machine and person: memory, disk, signals, cancelled runs."""
    rows = []
    if said := figures.get("shortage"):
        must = "fewer windows at once, then the disk, said; or one line; the next run is as ever"
        rows.append(Row("memory that runs out at each window in turn", said["windows"], must))
    if said := figures.get("limits"):
        must = (
            f"labels, or one line ({said['refused']} times); without the limit the next run is as "
            "ever"
        )
        rows.append(Row("real limits of memory (`ulimit -v`)", said["limits"], must))
    if said := figures.get("disks"):
        must = "one line; the old files to the byte, and no others"
        what = f"disks that are full somewhere in a file, of {len(said['disks'])} kinds of files"
        rows.append(Row(what, sum(said["disks"].values()), must))
    if said := figures.get("signals"):
        must = "whole files or none; at most one line"
        for name, times in said["signals"].items():
            rows.append(Row(f"{name} at a random moment of a run", times, must))
    if said := figures.get("cycles"):
        must = (
            f"no thread, layer or worker left; memory grew by {said['mb_per_cycle']:.2g} MB a time"
        )
        rows.append(Row("segment, cancel, segment in one viewer", said["cycles"], must))
    return rows


def estimate_rows(figures: Figures) -> list[Row]:
    """Say how near estimates of runs came."""
    runs = figures.get("estimate", {}).get("runs", [])
    if not runs:
        return []
    rows = []
    for key, what in (("seconds", "time"), ("mb", "peak memory")):
        ratios = [run[key][0] / run[key][1] for run in runs]
        near = sum(abs(ratio - 1) < NEAR + 1e-9 for ratio in ratios)
        must = (
            f"within {NEAR:.0%} of what came: {near} of {len(runs)} "
            f"({min(ratios):.2f} to {max(ratios):.2f} of it)"
        )
        rows.append(Row(f"estimates of {what} before a run", len(runs), must))
    return rows


def honesty(figures: Figures) -> list[Row]:
    """Say how far apart the paths of the engine are."""
    said = figures.get("honesty")
    if said is None:
        return []
    times = said["keep_ratios"]
    must = f"labels alike on 99.99 % of the sample's voxels or more: {said['alike']:.4%} or more"
    rows = [
        Row("the fast path beside the plain one, at each keep ratio of the slider", times, must)
    ]
    for name, most in said["logits"].items():
        must = f"logits within 1e-4 for the same tokens: {most:.1e} at most"
        rows.append(Row(f"{name}, at each keep ratio", times, must))
    return rows


def estimates(figures: Figures) -> str:
    """Tabulate what each run was estimated to take, and what it took."""
    head = "| run | windows | seconds | MB at the peak |\n|---|---:|---:|---:|\n"
    lines = [
        f"| {run['setting']} | "
        + " | ".join(f"{run[key][0]:g} / {run[key][1]:g}" for key in ("windows", "seconds", "mb"))
        + " |\n"
        for run in figures["estimate"]["runs"]
    ]
    return f"{_ESTIMATES}\n{head}{''.join(lines)}"


SECTIONS: dict[str, Callable[[Figures], list[Row]]] = {
    "Bad input": corpus,
    "Fuzzing of model folders and configs": fuzzer,
    "Windows, stitching and geometry": geometry,
    "Hostile files": hostile,
    "Faults": faults,
    "Before a run": estimate_rows,
    "The same labels whatever runs": honesty,
}
DETAILS: dict[str, Callable[[Figures], str]] = {"Before a run": estimates}
NEAR = 0.3
"""How near an estimate should come, as a share of what came."""

_HEAD = """\
# Reliability

Made by `tools/reliability_page.py` from what `tox -e deep`, `tox -e fuzz` and
`tools/estimate_figures.py` left in `docs/reliability`; do not edit. A small share of each runs
with every `tox`.
"""
_ESTIMATES = """\
Estimated / came, each in a process that had run nothing before; seconds of the processor, on one
thread, from rates that were measured once for each model on the same machine.
"""
_ALWAYS = """\
## With every `tox`

| what | held by |
|---|---|
| closing the viewer, removing or renaming the image, deleting or changing the model in the middle \
of a run: a line, no crash | `tests/test_widgets/test_segment/test_faults.py` |
| memory that runs out on a GPU: as on a CPU, and what torch keeps there is given back | \
`tests/test_compute/test_shortage.py` |
| a run that does not fit is not begun without asking | `tests/test_commands/test_estimate.py`, \
`tests/test_widgets/test_segment/test_estimate.py` |
| the same input, model, options and threads give the same bytes; a receipt's run is identical | \
`tests/test_segmenting/test_honesty.py`, `tests/test_commands/test_repeat.py` |
| of equal scores the lowest grid index is kept | `tests/test_model/test_tokens.py` |
| no call in another thread touches a widget or a layer | `tests/test_widgets/test_threads.py` |
| a checkpoint that fills a real disk leaves the last one | `tests/test_faults.py` |
| downloads are over https and have their recorded hash | `tests/test_catalogue/test_download.py` |
| a warning is an error; those of others that cannot be helped stand in `pyproject.toml`, each \
with its reason | every test |
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
        if rows and title in DETAILS:
            parts.append(DETAILS[title](said))
    parts.append(_ALWAYS)
    page.write_text("\n".join(parts), encoding="utf-8")


def _table(rows: list[Row]) -> str:
    lines = [f"| {row.attempted} | {row.times:,} | {row.must} |" for row in rows]
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
