"""What ``tokensparse segment`` shows of many scans: a bar with the time left, and what failed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress

from napari_tokensparse.commands.options import asked_options
from napari_tokensparse.common.durations import duration
from napari_tokensparse.common.notes import gathered
from napari_tokensparse.common.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from napari_tokensparse.manyscans.cases import ScanCase
    from napari_tokensparse.manyscans.cluster import ClusterOptions
    from napari_tokensparse.manyscans.scans import ScanResult, Work
    from napari_tokensparse.model.folder import Description


def segment_many(asked: Mapping[str, Any]) -> int:
    """Segment many scans into a folder, with ``summary.csv``; returns the exit status.

    Parameters
    ----------
    asked
        The options of ``tokensparse segment``: ``scan`` is a folder, a glob or a CSV of cases.
    """
    from napari_tokensparse.common.ownership import check_apart
    from napari_tokensparse.manyscans.cases import list_scans
    from napari_tokensparse.manyscans.scans import describe_model, plan, table_names

    cluster = _cluster(asked)
    source, folder, described = asked["scan"], asked["output"], describe_model(asked["model"])
    options = asked_options(asked, described)
    cases = list_scans(source, folder, described.info.channels)
    if Path(source).is_file():
        check_apart([folder / name for name in table_names(options)], [Path(source)])
    work = plan(asked["model"], described, options, folder, overwrite=asked["overwrite"])
    return int(bool(_failed(_run(cases, work, folder, described, cluster))))


def segment_bids(asked: Mapping[str, Any]) -> int:
    """Segment a BIDS data set into a BIDS derivative; returns the exit status.

    Parameters
    ----------
    asked
        The options of ``tokensparse segment``: ``scan`` is the data set's folder, ``bids`` that for
        ``derivatives``.
    """
    from napari_tokensparse.manyscans.bids import (
        bids_scans,
        prepare_bids,
        sessions_left_out,
        write_sidecars,
    )
    from napari_tokensparse.manyscans.scans import describe_model, plan

    cluster = _cluster(asked)
    data_set, described = Path(asked["scan"]), describe_model(asked["model"])
    # One dseg.tsv at the top is that of all labels, as BIDS inherits it.
    options = asked_options({**asked, "legend": False}, described)
    cases = bids_scans(data_set, described.info.channels)
    folder = prepare_bids(asked["bids"], data_set, described, overwrite=asked["overwrite"])
    work = plan(asked["model"], described, options, folder, overwrite=asked["overwrite"])
    results = _run(cases, work, folder, described, cluster)
    for note in sessions_left_out(data_set, described.info.channels):
        typer.echo(f"Note: {printable(note)}", err=True)
    finished = (r.case for r in results if r.receipt is not None)
    for kept in write_sidecars(folder, data_set, finished, overwrite=asked["overwrite"]):
        typer.echo(f"Note: {kept.name} was changed by hand, and stays; --overwrite replaces it")
    return int(bool(_failed(results)))


def _cluster(asked: Mapping[str, Any]) -> ClusterOptions:
    from napari_tokensparse.manyscans.cluster import ClusterOptions

    return ClusterOptions(*(asked[n] for n in ("scheduler", "workers", "retries", "threads")))


def _run(
    cases: Sequence[ScanCase],
    work: Work,
    folder: Path,
    described: Description,
    cluster: ClusterOptions,
) -> list[ScanResult]:
    """Segment scans, write their table, and say what became of them."""
    from napari_tokensparse.manyscans.cluster import segmenting_scans
    from napari_tokensparse.manyscans.scans import record_summary

    results: list[ScanResult] = []
    try:
        for result in _shown(segmenting_scans(cases, work, cluster), len(cases)):
            results.append(result)
    finally:  # Ctrl-C leaves a table too
        if results:
            summary = record_summary(folder, results, described.info)
            typer.echo(f"Wrote {summary}")
    _report(results)
    return results


def _shown(results: Iterable[ScanResult], total: int) -> Iterator[ScanResult]:
    """Pass results on under a bar; where there is no terminal, with a line for each."""
    from napari_tokensparse.manyscans.scans import seconds_left

    console, began, ran = Console(stderr=True), time.monotonic(), 0
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), "{task.fields[left]}")
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("Segmenting", total=total, left="")
        for count, result in enumerate(results, start=1):
            ran += result.status in ("done", "failed")
            seconds = seconds_left(time.monotonic() - began, ran, total - count)
            left = "" if seconds is None else f"about {duration(seconds)} left"
            bar.update(task, completed=count, left=left)
            if result.error or not console.is_terminal:
                console.print(_line(result), markup=False, highlight=False, soft_wrap=True)
            yield result


def _line(result: ScanResult) -> str:
    if result.receipt is None:
        return f"{result.case.name}: {result.status}: {result.error}"
    return f"{result.case.name}: {result.status}, {result.receipt.seconds['total']:.1f} s"


def _failed(results: Sequence[ScanResult]) -> list[ScanResult]:
    return sorted((r for r in results if r.status == "failed"), key=lambda r: r.case.name)


def _report(results: Sequence[ScanResult]) -> None:
    counts = dict.fromkeys(("done", "skipped", "failed"), 0)
    changed = [r for r in results if r.status == "changed by hand"]
    counts |= {"changed by hand": 0} if changed else {}
    for result in results:
        counts[result.status] += 1
    typer.echo(", ".join(f"{count} {status}" for status, count in counts.items()))
    for result in sorted(changed, key=lambda r: r.case.name):
        typer.echo(f"  {result.case.name}: {result.error}", err=True)
    by_name = sorted(results, key=lambda r: r.case.name)
    for line in gathered((result.case.name, result.notes) for result in by_name):
        typer.echo(f"Note: {printable(line)}", err=True)
    failed = _failed(results)
    if failed:
        typer.echo(f"tokensparse: {len(failed)} of {len(results)} scans failed:", err=True)
    for result in failed:
        typer.echo(f"  {result.case.name}: {result.error}", err=True)
