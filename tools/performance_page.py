"""Write docs/performance.md from reports of ``tokensparse bench --json``.

python tools/performance_page.py docs/performance/*.json --choices btcv.json step.json

Several reports of one machine, for example a section each, may be given; every figure on the page
comes from them, and from what ``tools/measure_choices.py --json`` found; ``--start`` takes what
``tools/measure_start.py --json`` did. What the page says of other machines stays, and so does the
table of choices if none is given. A report of the authors' code is told by its variants.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_tokensparse.benchmarks.report import (
    HINTED,
    TOTAL,
    Report,
    Row,
    by_dense,
    by_float32,
    by_full,
    by_monai,
    growth,
    read_report,
)

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
    "What training misses of the saving in MACs is not in products: measured once on one thread by "
    "`tools/training_roof.py`, a step of btcv at 0.1 takes 9.2 s of the processor, the dense one "
    "16.1, which is 0.89 of the saving in MACs (1.96). Products and convolutions run at the dense "
    "step's rate (6.6 s; 12.8 there); all else takes 2.6 s instead of 3.3, for most of it is the "
    "decoder's, which pruning does not touch. So 0.91 is the roof there, with such a decoder.",
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
    "bfloat16 on a CPU: `auto` asks the processor for the instructions, measures a convolution,"
    " and where that is a fifth faster tries the network itself, whose labels on a sample must "
    "be those of float32 at 99.9 % of the voxels. Products and convolutions gain the factors of"
    " the table of bfloat16 above, which on some processors lie below 1; on two Zen 4 cores "
    "measured once, products 2.3 times, convolutions twice. Its linear layers are packed: "
    "measured once on an Intel core, a quarter less time for 173 tokens, a tenth less for "
    "1,729.",
    "`tokensparse segment` imports of MONAI what a run takes, without the packages that MONAI "
    "only looks for, such as matplotlib and pandas: measured once on one thread, 0.5 s of "
    "processor time instead of 2.0.",
    "A command looks for no garbage while it imports, nor among what was imported when it ends: "
    "measured once with `segment` on the sample and one thread, 4.2 s of processor time from start "
    "to exit instead of 5.2; on two idle cores 3.4 s by the clock.",
    "int8 by `--backend int8`: NNCF quantises OpenVINO's decoder, calibrated on the sample at four "
    "keep ratios; the encoder stays float32, so that the same tokens are pruned. Dice of the "
    "bundled model on the sample, measured once: 76.5 instead of 76.4 at keep ratio 1, 76.8 "
    "instead of 76.7 at 0.5, 77.1 instead of 76.9 at 0.25; with sharpened borders 77.3 instead of "
    "77.6, 77.7 instead of 77.8, 77.9 instead of 77.8. Speed: the table of int8 above. "
    "A network that crops its windows needs a graph for every size of box, which takes 5 to 9 s of "
    "processor time once and half a second in each process, and saves a tenth of a second a "
    "window: it is for many windows of one size, and `auto` never takes it.",
    "A decoder can compute voxels in the kept tokens alone (`decoder: coarse-to-fine`): the table "
    "of windows that hold little. A token's logits are the same however many others are looked at.",
    "Sharpening goes along the voxels of a class, and the gain of the bias is put together of "
    "two tables: measured once on the sample and one thread, 0.57 s instead of 1.07, with the "
    "same labels.",
)

# One line per thing that was tried and is not in the code, with what was measured.
LEFT: tuple[str, ...] = (
    "Decoding the box of what is left alone: kept tokens lie scattered. Measured once with "
    "`ms-lesions` at keep ratio 0.25, their box is 88 % of what is looked at, and norms over it "
    "would have to be learned.",
    "Packed kernels of convolutions in bfloat16, on an Intel core: as long, or up to a fifth "
    "longer.",
    "Attention in bfloat16 there: 0.7 times as fast as in float32. Where it is measured to be "
    "faster it is taken.",
    "OpenVINO's own hint to take bfloat16: the table of bfloat16 above.",
    "int8 with the norms' sums in float32: 76 to 80 % of the labelled voxels of the sample keep "
    "their label instead of 96 to 98 %, and no faster.",
    "A margin of 3 instead of 4.6 nats for the classes that contend for a voxel in sharpening: "
    "a seventh less time for the run, but 1.9 % of the labelled voxels change.",
    "Faster libraries for gzip: reading the sample takes 0.03 s and writing its labels as long,"
    " of a run of seconds.",
)

Rows = tuple[Row, ...]
_AUTHORS, _AUTHORS_DENSE = "authors", "authors-dense"
"""Variants of a report of the authors' code."""
_ONE_WINDOW = "One window"
_KEPT, _UNDONE = "## What is kept", "How many times longer it takes without"

_METHOD = """\
# Performance

Made by `tools/performance_page.py` from `tokensparse bench --json`; do not edit.

What is compared takes turns, round by round, after a round that warms up: other work on the
machine slows all of it alike. Figures are medians, ± half the distance between the quartiles.
*Efficiency* is GMACs / (seconds × the rate of a product of two 2048 × 2048 float32 matrices),
measured in the same rounds: 1 is as fast as that product. Parts are timed in rounds of their own.
*dense* is the network without pruning and completion, with the same kernels; *monai-unetr* is
MONAI's `UNETR` as it is shipped, of the same window and widths, whose patch is 16 where the presets
have 8: it has an eighth of the tokens. The rate of the matrix product says how much of a machine
there was for it: where it lies far below what a processor can do, others worked there, and only
what took turns can be compared.
"""


def write_page(
    path: Path,
    reports: Sequence[Report],
    choices: Sequence[dict[str, Any]],
    start: dict[str, float] | None = None,
) -> None:
    """Write the page of these reports, measured choices and seconds until the plugin is there."""
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    authors = [report for report in reports if _is_authors(report)]
    parts: list[str] = []
    described: dict[str, object] = {}
    for report in (report for report in reports if report not in authors):
        if report.machine != described:
            parts.append(_machine(report))
        described = report.machine
        rate = f"Matrix product beside what follows: {report.gemm_gmac_s:.1f} GMAC/s.\n"
        parts += [rate, *(f"{section}\n" for section in _sections(report))]
    if start:
        parts.append(_start(start))
    parts = [*_others(before, parts), *parts]
    parts = [_METHOD, *(_by_authors(report, "\n".join(parts)) for report in authors), *parts]
    parts += [_kept(choices, before), _left(LEFT)]
    path.write_text("\n".join(parts).rstrip() + "\n", encoding="utf-8")


def _others(before: str, parts: Sequence[str]) -> list[str]:
    """Return what a page says of machines that these parts are not about."""
    new = {part.splitlines()[0] for part in parts}
    sections = re.split(r"^(?=## )", before, flags=re.MULTILINE)[1:]
    machines = [section for section in sections if "threads\n" in section.splitlines(True)[0]]
    kept = [section for section in machines if section.splitlines()[0] not in new]
    return [f"{section.rstrip()}\n" for section in kept]


def _is_authors(report: Report) -> bool:
    return any(row.variant == _AUTHORS for row in report.rows)


def _by_authors(report: Report, page: str) -> str:
    """Set the windows on the page beside those of the authors' code, by their efficiency."""
    heads = ("what", "machine", "keep ratio", "efficiency", "by the authors'")
    lines = []
    for variant, ours in ((_AUTHORS, "scd"), (_AUTHORS_DENSE, "dense")):
        row = next(row for row in report.rows if row.variant == variant)
        machine = f"{report.machine['cores']} cores, {report.machine['cpu']}"
        own = row.efficiency or 0.0
        lines.append([_said_of[variant], machine, _ratio(row), _said(own, ".2f"), "1.00"])
        for cpu, backend, efficiency in _windows(page, row.preset or "", ours, _ratio(row)):
            times = _said(efficiency / own if own else None, ".2f")
            said = f"ours, {ours}, {backend}"
            lines.append([said, cpu, _ratio(row), _said(efficiency, ".2f"), times])
    text = (
        "The authors' code was timed once, on an older machine. Efficiency allows for how fast a",
        "machine is, so that it can be compared. A window of `btcv`, in float32.",
    )
    return "\n".join(["## The authors' code", "", *text, "", *_table(heads, lines), ""])


_said_of = {_AUTHORS: "the authors' code, SCD", _AUTHORS_DENSE: "the authors' code, dense"}


def _windows(page: str, preset: str, variant: str, ratio: str) -> Iterable[tuple[str, str, float]]:
    """Yield machine, backend and efficiency of windows in the tables of a page."""
    machine, heads = "", [""]
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("#"):
            machine = line[3:] if line.startswith("## ") else machine
            of_windows = line == f"### {_ONE_WINDOW}"
        elif cells[0] == "preset":
            heads = cells
        elif of_windows and "efficiency" in heads and _is_of(cells, preset, variant, ratio):
            yield machine, cells[2], float(cells[heads.index("efficiency")])


def _is_of(cells: Sequence[str], preset: str, variant: str, ratio: str) -> bool:
    return (*cells[:2], *cells[3:4]) == (preset, variant, ratio)


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
    return "\n".join([f"### {_ONE_WINDOW}", "", *_against_dense(rows), *parts])


def _bfloat16(rows: Rows) -> str:
    text = (
        f"*{HINTED}* is OpenVINO's decoder by its own hint. Weights are random here, so that near",
        "ties are many, and fewer labels are the same than by a trained network.",
    )
    return "\n".join(["### bfloat16 beside float32", "", *text, "", *_beside_float32(rows)])


def _int8(rows: Rows) -> str:
    text = (
        "The bundled model on its sample; other networks have random weights, so that near ties",
        "are many. The encoder stays float32, and the same tokens are pruned.",
    )
    return "\n".join(["### int8 beside float32", "", *text, "", *_beside_float32(rows)])


def _beside_float32(rows: Rows) -> list[str]:
    heads = (
        *("preset", "variant", "backend", "keep ratio", "s", "±", "GMACs", "efficiency"),
        *("float32's time / its own", "same labels"),
    )
    lines = [
        [
            *(*_named(row), _ratio(row)),
            *(_said(row.seconds, ".3f"), _said(row.spread, ".3f"), _said(row.gmacs, ".1f")),
            *(_said(row.efficiency, ".2f"), _said(by_float32(rows, row), ".2f")),
            _said(row.agreement, ".4f"),
        ]
        for row in rows
    ]
    return _table(heads, lines)


def _sparse(rows: Rows) -> str:
    heads = ("preset", "variant", "tokens that hold something", "s", "±", "share of time")
    lines = [
        [
            *(row.preset or "", row.variant or "", _said(row.keep_ratio, ".0%")),
            *(_said(row.seconds, ".3f"), _said(row.spread, ".3f")),
            _said(by_full(rows, row), ".2f"),
        ]
        for row in rows
    ]
    text = (
        f"{rows[0].windows} windows, half of which hold most of what there is. *coarse-to-fine*",
        "computes voxels in the tokens that hold something, the other decoder all of them; *share",
        "of time* is of the same network where all tokens hold something.",
    )
    return "\n".join(["### Windows that hold little", "", *text, "", *_table(heads, lines)])


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
    heads = (
        *("backend", "voxels", "MONAI's time / ours", "our memory / MONAI's"),
        "s per window / smallest's",
    )
    lines = []
    for row in _totals(rows):
        if row.variant == "scd" and row.preset == "nano":
            figures = (*by_monai(rows, row), growth(rows, row))
            lines.append([_named(row)[2], _shape(row), *(_said(x, ".2f") for x in figures)])
    return _table(heads, lines) if lines else []


def _beside_network(rows: Rows, total: Row) -> float | None:
    """Return the share of the time that the network does not take."""
    for row in rows:
        if row.part == "network" and row.key[:-1] == total.key[:-1]:
            return 1 - row.seconds / total.seconds if row.seconds and total.seconds else None
    return None


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
    "bfloat16": _bfloat16,
    "int8": _int8,
    "sparse": _sparse,
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


def _kept(choices: Sequence[dict[str, Any]], before: str) -> str:
    lines = [f"{_KEPT}, and what it gained", "", *(f"- {line}" for line in KEPT)]
    if choices:
        runs = [_run_of(choice) for choice in choices]
        names = list(dict.fromkeys(name for choice in choices for name in choice["undone"]))
        table = [
            [name, *(_said(c["undone"].get(name, {}).get("times"), ".2f") for c in choices)]
            for name in names
        ]
        lines += ["", f"{_UNDONE} (`tools/measure_choices.py`):", ""]
        lines += [*_table(("choice", *runs), table), ""]
    elif _UNDONE in before:
        kept = before[before.index(_UNDONE) :].partition("\n## ")[0]
        lines += ["", kept.rstrip(), ""]
    return "\n".join(lines)


def _left(lines: Sequence[str]) -> str:
    heading = "## What was tried and left out"
    return "\n".join([heading, "", *(f"- {line}" for line in lines)])


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
