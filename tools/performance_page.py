"""Write docs/performance.md from reports of ``tokensparse bench --json``.

python tools/performance_page.py one.json two.json --choices btcv.json step.json

Several reports of one machine, for example a section each, may be given; every figure on the page
comes from them, and from what ``tools/measure_choices.py --json`` found; ``--start`` takes what
``tools/measure_start.py --json`` did.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_tokensparse.benchmarks.report import TOTAL, Report, Row, by_dense, read_report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

PAGE = Path(__file__).parents[1] / "docs/performance.md"

# One line per optimisation that is kept; what it gained is in the tables, or was measured once.
KEPT: tuple[str, ...] = (
    "Pruned tokens leave by index, and so do their gradients: the tables of one window and of "
    "training show how far time follows the multiply-accumulates that are saved.",
    "Fused attention, channels-last weights, a norm that keeps that layout, convolutions of one "
    "voxel and transposed ones as products of matrices, oneDNN for small maps too: the table "
    "below, first columns. The norm's moments are taken in rows of many voxels and put together: "
    "exact in a large map, and measured once, with 8 channels five times as fast as a voxel at a "
    "time (3.2 ms instead of 16.0 for 96 x 96 x 96); a window of btcv takes a fourteenth less, one "
    "of btcv-lite a tenth, its training step an eighth.",
    "In training the gradients of 3 x 3 x 3 kernels are products of matrices "
    "(`model/layers/convolution.py`), where oneDNN copies the map for every place of the kernel: "
    "measured once on one thread, a step of the bundled model takes an eighth less, one with 4 or "
    "8 channels a quarter; on two threads as long as before. AdamW goes over the weights once: the "
    "columns of steps below.",
    "The process keeps the memory that a network frees (`compute/allocation.py`): table below. It "
    "gains in windows and steps that follow one another, but not where they are small; a run of "
    "one window, which it made slower by a quarter (0.72 s instead of 0.58 from the sample brain "
    "in memory to its labels), is without.",
    "OpenVINO decodes where it is installed: *openvino* by *plain* above. What it needs of a model "
    "is made once and found again in the next run: 1 ms instead of 50. Linear layers stay torch's: "
    "neither oneDNN's packed weights nor OpenVINO's are faster on this kind of processor.",
    "Only voxels between unlike voxels are interpolated, and only in channels that can win there; "
    "small windows are run several at once; what is background is looked for once: table below.",
    "Finished rows are labelled and forgotten (a ring of one window's rows): *peak MB* of whole "
    "volumes above, beside MONAI's inferer.",
    "Preprocessing works on one copy of the volume where its transforms allow: measured once, a "
    "peak of 472 MB instead of 2,097 for 512 x 512 x 100 voxels of int16.",
    "Logits leave the decoder with channels last, as stitching reads them: measured once, a tenth "
    "less time for stitching.",
)

Rows = tuple[Row, ...]

_METHOD = """\
# Performance

Made by `tools/performance_page.py` from `tokensparse bench --json`; do not edit.

What is compared takes turns, round by round, after a round that warms up: other work on the
machine slows all of it alike. Figures are medians, ± half the distance between the quartiles.
*Efficiency* is GMACs / (seconds × the rate of a product of two 2048 × 2048 float32 matrices),
measured in the same rounds: 1 is as fast as that product. Parts are timed in rounds of their own.
*dense* is the network without pruning and completion, with the same kernels; *monai-unetr* is
MONAI's `UNETR` as it is shipped, of the same window and widths, whose patch is 16 where the presets
have 8: it has an eighth of the tokens.
"""


def write_page(
    path: Path,
    reports: Sequence[Report],
    choices: Sequence[dict[str, Any]],
    start: dict[str, float] | None = None,
) -> None:
    """Write the page of these reports, measured choices and seconds until the plugin is there."""
    parts = [_METHOD]
    described: dict[str, object] = {}
    for report in reports:
        if report.machine != described:
            parts.append(_machine(report))
        described = report.machine
        rate = f"Matrix product beside what follows: {report.gemm_gmac_s:.1f} GMAC/s.\n"
        parts += [rate, *(f"{section}\n" for section in _sections(report))]
    if start:
        parts.append(_start(start))
    if choices or KEPT:
        parts.append(_kept(choices))
    path.write_text("\n".join(parts).rstrip() + "\n", encoding="utf-8")


def _machine(report: Report) -> str:
    said = report.machine
    return (
        f"## {said['cpu']}, {said['cores']} cores, {said['threads']} threads\n\n"
        f"{said['os']}, {said['instructions']}, {said['memory_gb']} GB, Python {said['python']}, "
        f"torch {said['torch']}, MONAI {said['monai']}, tokensparse {said['tokensparse']}.\n"
    )


def _sections(report: Report) -> Iterable[str]:
    for name, described in _SECTIONS.items():
        rows = report.section(name)
        if rows:
            yield described(rows)


def _inference(rows: Rows) -> str:
    parts = ["", "Seconds of the parts:", "", *_parts(rows)]
    return "\n".join(["### One window", "", *_against_dense(rows), *parts])


def _training(rows: Rows) -> str:
    heads = (
        "preset",
        "variant",
        "backend",
        "keep ratio",
        "samples/s",
        "peak MB",
        "memory by dense",
    )
    memory = []
    for row in _totals(rows):
        dense = next((r for r in _totals(rows) if _is_dense_of(r, row)), None)
        share = row.peak_mb / dense.peak_mb if dense and dense.peak_mb and row.peak_mb else None
        rate = 1 / row.seconds if row.seconds else None
        figures = (_said(rate, ".3f"), _said(row.peak_mb, ".0f"), _said(share, ".2f"))
        memory.append([*_named(row), _ratio(row), *figures])
    return "\n".join(
        [
            *("### Training: one optimisation step on one window", ""),
            *_against_dense(rows),
            *("", "Memory beyond weights and optimiser:", "", *_table(heads, memory)),
            *("", "Seconds of the parts:", "", *_parts(rows)),
        ]
    )


def _is_dense_of(dense: Row, row: Row) -> bool:
    return dense.variant == "dense" and by_dense((dense,), row)[0] is not None


def _against_dense(rows: Rows) -> list[str]:
    """Make the table of times; the target is a saving in time of 0.95 times that in MACs."""
    heads = (
        *("preset", "variant", "backend", "keep ratio", "s", "±", "GMACs", "efficiency"),
        *("dense MACs / its own", "dense time / its own", "time ratio / MAC ratio"),
    )
    lines = []
    for row in _totals(rows):
        time, macs = by_dense(rows, row)
        less = 1 / time if time else None
        fewer = 1 / macs if macs else None
        kept = less / fewer if less and fewer else None
        lines.append(
            [
                *(*_named(row), _ratio(row)),
                *(_said(row.seconds, ".3f"), _said(row.spread, ".3f"), _said(row.gmacs, ".1f")),
                *(_said(row.efficiency, ".2f"), _said(fewer, ".2f"), _said(less, ".2f")),
                _said(kept, ".2f"),
            ]
        )
    return _table(heads, lines)


def _volume(rows: Rows) -> str:
    heads = (
        *("preset", "variant", "backend", "voxels", "windows", "s", "±", "windows/s"),
        *("not the network", "peak MB", "same labels"),
    )
    lines = [
        [
            *(*_named(row), _shape(row), str(row.windows)),
            *(_said(row.seconds, ".1f"), _said(row.spread, ".1f")),
            _said(row.windows / row.seconds if row.windows and row.seconds else None, ".2f"),
            *(_said(_beside_network(rows, row), ".0%"), _said(row.peak_mb, ".0f")),
            _said(row.agreement, ".6f"),
        ]
        for row in _totals(rows)
    ]
    text = [
        *("### Whole volumes, from file to file", ""),
        "Noise is segmented by a network of 14 classes that does next to nothing, so that the",
        "engine is what is measured; *monai-inferer* is MONAI's `sliding_window_inference` with",
        "the same network, windows and overlap. Memory is the growth of a process of its own.",
        "The volumes are such that a window stands for as many voxels in each, within 5 %: where",
        "windows overlap more at the far edge of one volume than of another, their times differ.",
        *("", *_table(heads, lines), "", "Seconds of the parts:", ""),
        *_parts(rows, ("voxels", _shape)),
    ]
    against = _against_monai(rows)
    return "\n".join([*text, *(["", *against] if against else [])])


def _against_monai(rows: Rows) -> list[str]:
    heads = ("voxels", "MONAI's time / ours", "our memory / MONAI's", "s per window / smallest's")
    ours = [r for r in _totals(rows) if r.variant == "scd" and r.preset == "nano"]
    theirs = {r.shape: r for r in _totals(rows) if r.variant == "monai-inferer"}
    lines = []
    for row in ours:
        other = theirs.get(row.shape)
        faster = other.seconds / row.seconds if other and other.seconds and row.seconds else None
        memory = row.peak_mb / other.peak_mb if other and other.peak_mb and row.peak_mb else None
        growth = _per_window(row) / _per_window(ours[0])
        lines.append(
            [_shape(row), _said(faster, ".2f"), _said(memory, ".2f"), _said(growth, ".2f")]
        )
    return _table(heads, lines) if lines else []


def _beside_network(rows: Rows, total: Row) -> float | None:
    """Return the share of the time that the network does not take."""
    for row in rows:
        if row.part == "network" and row.key[:-1] == total.key[:-1]:
            return 1 - row.seconds / total.seconds if row.seconds and total.seconds else None
    return None


def _per_window(row: Row) -> float:
    return (row.seconds or 0.0) / (row.windows or 1)


def _preview(rows: Rows) -> str:
    heads = ("keep ratio", "full s", "update s", "share of time", "share of MACs")
    lines = []
    for full, update in zip(rows[::2], rows[1::2], strict=True):
        time = update.seconds / full.seconds if update.seconds and full.seconds else None
        macs = update.gmacs / full.gmacs if update.gmacs and full.gmacs else None
        lines.append(
            [
                *(_ratio(full), _said(full.seconds, ".3f"), _said(update.seconds, ".3f")),
                *(_said(time, ".3f"), _said(macs, ".3f")),
            ]
        )
    return "\n".join(["### Live preview of one window", "", *_table(heads, lines)])


def _macs(rows: Rows) -> str:
    return "\n".join(["### GMACs per window", "", *_parts(rows, figure=lambda r: r.gmacs)])


_SECTIONS: dict[str, Callable[[Rows], str]] = {
    "macs": _macs,
    "inference": _inference,
    "training": _training,
    "volume": _volume,
    "preview": _preview,
}


def _parts(
    rows: Rows,
    more: tuple[str, Callable[[Row], str]] | None = None,
    figure: Callable[[Row], float | None] = lambda row: row.seconds,
) -> list[str]:
    head, shown = more or ("keep ratio", _ratio)
    parts = list(dict.fromkeys(row.part for row in rows))
    lines = []
    for total in _totals(rows):
        same = {row.part: figure(row) for row in rows if row.key[:-1] == total.key[:-1]}
        if len(same) > 1:
            names = [*_named(total), shown(total)]
            lines.append([*names, *(_said(same.get(part), ".3f") for part in parts)])
    return _table(("preset", "variant", "backend", head, *parts), lines)


def _start(start: dict[str, float]) -> str:
    lines = [[name, _said(seconds, ".2f")] for name, seconds in start.items()]
    said = ["### Until it is there", "", "In fresh processes, before torch is imported."]
    return "\n".join([*said, "", *_table(("what", "s"), lines), ""])


def _kept(choices: Sequence[dict[str, Any]]) -> str:
    lines = ["## What is kept, and what it gained", "", *(f"- {line}" for line in KEPT)]
    if choices:
        runs = [_run_of(choice) for choice in choices]
        names = list(dict.fromkeys(name for choice in choices for name in choice["undone"]))
        table = [
            [name, *(_said(c["undone"].get(name, {}).get("times"), ".2f") for c in choices)]
            for name in names
        ]
        lines += ["", "How many times longer it takes without (`tools/measure_choices.py`):", ""]
        lines += _table(("choice", *runs), table)
    return "\n".join(lines)


def _run_of(choice: dict[str, Any]) -> str:
    if choice["volume"]:
        return "whole volume"
    return f"{choice['preset']}, {'step' if choice['training'] else 'window'}"


def _totals(rows: Rows) -> Rows:
    return tuple(row for row in rows if row.part == TOTAL)


def _named(row: Row) -> list[str]:
    return [row.preset or "", row.variant or "", row.backend or "–"]


def _ratio(row: Row) -> str:
    return _said(row.keep_ratio, "g")


def _shape(row: Row) -> str:
    return " × ".join(map(str, row.shape or ()))


def _said(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    rows = [heads, ["---"] * len(heads), *lines]
    return [f"| {' | '.join(row)} |" for row in rows]


def main() -> None:
    """Read the reports and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("reports", type=Path, nargs="+", metavar="REPORT.json")
    parser.add_argument("--choices", type=Path, nargs="*", default=[], metavar="CHOICES.json")
    parser.add_argument("--start", type=Path, metavar="START.json")
    parser.add_argument("-o", "--output", type=Path, default=PAGE)
    given = parser.parse_args()
    choices = [json.loads(path.read_text(encoding="utf-8")) for path in given.choices]
    start = json.loads(given.start.read_text(encoding="utf-8")) if given.start else None
    write_page(given.output, [read_report(path) for path in given.reports], choices, start)
    print(f"Wrote {given.output}")


if __name__ == "__main__":
    main()
