"""How a benchmark is shown in a terminal: a table or two for each section."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from napari_tokensparse.benchmarks.report import (
    HINTED,
    MONAI_INFERER,
    TOTAL,
    by_dense,
    by_float32,
    by_full,
    by_monai,
    growth,
)
from napari_tokensparse.commands.figures import Figures, print_figures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from napari_tokensparse.benchmarks.report import Change, Report, Row

Rows = tuple["Row", ...]
_WINDOW = ("preset", "variant", "backend", "keep ratio")
_VOLUME = ("preset", "variant", "backend", "voxels")
_SECONDS = "Seconds of the parts; the total has been timed by itself"
_UNETR_NOTE = "monai-unetr has patch 16, the presets patch 8: it has an eighth of the tokens"


def print_report(report: Report) -> None:
    """Print every section that was measured."""
    console = Console()
    for section, tables in _TABLES.items():
        rows = report.section(section)
        for table in tables(rows) if rows else ():
            print_figures(console, table)
    said = report.machine
    threads = f"{said['threads']} thread{'s' * (said['threads'] != 1)}"
    console.print(
        f"{said['cpu']}, {threads}, torch {said['torch']}; a matrix product runs "
        f"at {report.gemm_gmac_s:.1f} GMAC/s, which is efficiency 1"
    )


def print_changes(changes: Sequence[Change]) -> None:
    """Print what the new run needs by what the old one did."""
    heads = (
        *("section", "preset", "variant", "backend", "keep ratio", "part"),
        *("time", "GMACs", "memory"),
    )
    rows = []
    for change in changes:
        row = change.row
        figures = (_figure(x, ".3f") for x in (change.time, change.gmacs, change.memory))
        rows.append((row.section, *_named(row), row.part, *figures))
    title = "New by old; times are scaled by the matrix product of their run"
    print_figures(Console(), Figures(title, heads, 6, tuple(rows)))


def _macs(rows: Rows) -> Iterable[Figures]:
    yield _by_part(
        rows, "GMACs per window", lambda row: _figure(row.gmacs, ".2f"), (_WINDOW, _named)
    )


def _inference(rows: Rows) -> Iterable[Figures]:
    heads = (*_WINDOW, "s", "±", "GMACs", "efficiency")
    shares = ("time by dense", "MACs by dense", "peak MB")
    lines = tuple(
        (*_named(row), *_costs(row), *_by_dense(rows, row), _figure(row.peak_mb, ".0f"))
        for row in _totals(rows)
    )
    yield Figures("One window", (*heads, *shares), len(_WINDOW), lines, _UNETR_NOTE)
    yield _by_part(rows, _SECONDS, _seconds, (_WINDOW, _named))


def _bfloat16(rows: Rows) -> Iterable[Figures]:
    note = f"{HINTED}: OpenVINO's own hint; weights are random, so that near ties are many"
    yield _beside_float32("bfloat16", rows, note)


def _int8(rows: Rows) -> Iterable[Figures]:
    note = "random weights but for the bundled model: near ties are many"
    yield _beside_float32("int8", rows, note)


def _beside_float32(title: str, rows: Rows, note: str) -> Figures:
    heads = ("s", "±", "GMACs", "efficiency", "float32's time by its own", "same labels")
    lines = []
    for row in rows:
        gain = by_float32(rows, row)
        figures = (*_costs(row), _figure(gain, ".2f"), _figure(row.agreement, ".4f"))
        lines.append((*_named(row), *figures))
    return Figures(title, (*_WINDOW, *heads), len(_WINDOW), tuple(lines), note)


def _sparse(rows: Rows) -> Iterable[Figures]:
    heads = ("preset", "variant", "tokens that hold something", "s", "±", "share of time")
    lines = []
    for row in rows:
        figures = (_figure(row.seconds, ".3f"), _figure(row.spread, ".3f"))
        share = _figure(by_full(rows, row), ".2f")
        lines.append((row.preset or "", row.variant or "", f"{row.keep_ratio:g}", *figures, share))
    note = "share of time: of the same network where all tokens hold something"
    yield Figures("Windows that hold little", heads, 3, tuple(lines), note)


def _training(rows: Rows) -> Iterable[Figures]:
    heads = (*_WINDOW, "s", "±", "GMACs", "efficiency")
    shares = ("time by dense", "MACs by dense", "peak MB", "samples/s")
    lines = []
    for row in _totals(rows):
        rate = _figure(None if not row.seconds else 1 / row.seconds, ".3f")
        peak = _figure(row.peak_mb, ".0f")
        lines.append((*_named(row), *_costs(row), *_by_dense(rows, row), peak, rate))
    yield Figures("One optimisation step", (*heads, *shares), len(_WINDOW), tuple(lines))
    yield _by_part(rows, _SECONDS, _seconds, (_WINDOW, _named))


def _volume(rows: Rows) -> Iterable[Figures]:
    heads = ("windows", "s", "±", "windows/s", "peak MB", "same labels")
    lines = []
    for row in _totals(rows):
        rate = row.windows / row.seconds if row.windows and row.seconds else None
        figures = (
            str(row.windows),
            _figure(row.seconds, ".2f"),
            _figure(row.spread, ".2f"),
            _figure(rate, ".2f"),
            _figure(row.peak_mb, ".0f"),
            _figure(row.agreement, ".6f"),
        )
        lines.append((*_volume_named(row), *figures))
    title = "Whole volumes, from file to file"
    yield Figures(title, (*_VOLUME, *heads), len(_VOLUME), tuple(lines))
    yield _by_part(rows, _SECONDS, _seconds, (_VOLUME, _volume_named))
    yield from _against_monai(rows)


def _against_monai(rows: Rows) -> Iterable[Figures]:
    heads = ("MONAI's time by ours", "our memory by MONAI's", "s per window by the smallest's")
    lines = []
    for row in _totals(rows):
        time, memory = by_monai(rows, row)
        if time is not None and row.variant != MONAI_INFERER:
            figures = (time, memory, growth(rows, row))
            lines.append((*_volume_named(row), *(_figure(x, ".2f") for x in figures)))
    if lines:
        yield Figures("MONAI's inferer", (*_VOLUME, *heads), len(_VOLUME), tuple(lines))


def _preview(rows: Rows) -> Iterable[Figures]:
    heads = ("keep ratio", "full s", "update s", "share of time", "share of MACs")
    lines = []
    for full, update in zip(rows[::2], rows[1::2], strict=True):
        assert full.seconds and update.seconds and full.gmacs and update.gmacs
        lines.append(
            (
                f"{full.keep_ratio:g}",
                f"{full.seconds:.3f}",
                f"{update.seconds:.3f}",
                f"{update.seconds / full.seconds:.3f}",
                f"{update.gmacs / full.gmacs:.3f}",
            )
        )
    yield Figures("Live preview of one window", heads, 1, tuple(lines))


_TABLES: dict[str, Callable[[Rows], Iterable[Figures]]] = {
    "macs": _macs,
    "inference": _inference,
    "bfloat16": _bfloat16,
    "int8": _int8,
    "sparse": _sparse,
    "training": _training,
    "volume": _volume,
    "preview": _preview,
}


def _by_part(
    rows: Rows,
    title: str,
    figure: Callable[[Row], str],
    named: tuple[Sequence[str], Callable[[Row], tuple[str, ...]]],
) -> Figures:
    """Make a table with a column for each part, of all that was measured in parts."""
    heads, names = named
    parts = list(dict.fromkeys(row.part for row in rows))
    lines = []
    for total in _totals(rows):
        same = {row.part: figure(row) for row in rows if row.key[:-1] == total.key[:-1]}
        if len(same) > 1:
            lines.append((*names(total), *(same.get(part, "") for part in parts)))
    return Figures(title, (*heads, *parts), len(heads), tuple(lines))


def _volume_named(row: Row) -> tuple[str, ...]:
    shape = " × ".join(map(str, row.shape or ()))
    return row.preset or "", row.variant or "", row.backend or "", shape


def _gmacs(row: Row) -> str:
    return _figure(row.gmacs, ".2f")


def _seconds(row: Row) -> str:
    return _figure(row.seconds, ".4f")


def _totals(rows: Rows) -> Rows:
    return tuple(row for row in rows if row.part == TOTAL)


def _named(row: Row) -> tuple[str, ...]:
    ratio = "" if row.keep_ratio is None else f"{row.keep_ratio:g}"
    return row.preset or "", row.variant or "", row.backend or "", ratio


def _costs(row: Row) -> tuple[str, ...]:
    return (
        _figure(row.seconds, ".3f"),
        _figure(row.spread, ".3f"),
        _figure(row.gmacs, ".1f"),
        _figure(row.efficiency, ".3f"),
    )


def _by_dense(rows: Rows, row: Row) -> tuple[str, str]:
    time, gmacs = by_dense(rows, row)
    return _figure(time, ".3f"), _figure(gmacs, ".3f")


def _figure(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
