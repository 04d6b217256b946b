"""What ``tokensparse segment`` shows of many scans: a bar with the time left, and what failed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress

from napari_tokensparse.commands.train_display import clock
from napari_tokensparse.common.notes import gathered
from napari_tokensparse.common.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from napari_tokensparse.manyscans.cases import ScanCase
    from napari_tokensparse.manyscans.cluster import ClusterOptions
    from napari_tokensparse.manyscans.scans import ScanResult
    from napari_tokensparse.model.folder import Description
    from napari_tokensparse.segmenting.options import Options


def segment_many(
    source: str,
    folder: Path,
    model: str,
    described: Description,
    options: Options,
    cluster: ClusterOptions,
    overwrite: bool = False,
) -> int:
    """Segment many scans into a folder, with ``summary.csv``, and return the exit status.

    Parameters
    ----------
    source
        A folder, a glob or a CSV of cases.
    folder
        For the results.
    model
        As the user gave it.
    described
        What the model says of itself.
    options
        What is asked for.
    cluster
        Where to run.
    overwrite
        Whether files are replaced that are not as they were written.
    """
    from napari_tokensparse.common.ownership import check_apart
    from napari_tokensparse.manyscans.cases import list_scans
    from napari_tokensparse.manyscans.scans import table_names

    cases = list_scans(source, folder, described.info.channels)
    if Path(source).is_file():
        check_apart([folder / name for name in table_names(options)], [Path(source)])
    return int(bool(_failed(_run(cases, folder, model, described, options, cluster, overwrite))))


def segment_bids(
    source: str,
    output: Path,
    model: str,
    described: Description,
    options: Options,
    cluster: ClusterOptions,
    overwrite: bool = False,
) -> int:
    """Segment a BIDS data set into a BIDS derivative, and return the exit status.

    Parameters
    ----------
    source
        The data set's folder.
    output
        The folder for ``derivatives``.
    model, described, options, cluster, overwrite
        As for `segment_many`.
    """
    from napari_tokensparse.manyscans.bids import bids_scans, prepare_bids, write_sidecars

    data_set = Path(source)
    cases = bids_scans(data_set, described.info.channels)
    folder = prepare_bids(output, data_set, described, overwrite=overwrite)
    # One dseg.tsv at the top is that of all labels, as BIDS inherits it.
    options = options.model_copy(update={"legend": False})
    results = _run(cases, folder, model, described, options, cluster, overwrite)
    finished = (r.case for r in results if r.receipt is not None)
    for kept in write_sidecars(folder, data_set, finished, overwrite=overwrite):
        typer.echo(f"Note: {kept.name} was changed by hand, and stays; --overwrite replaces it")
    return int(bool(_failed(results)))


def _run(
    cases: Sequence[ScanCase],
    folder: Path,
    model: str,
    described: Description,
    options: Options,
    cluster: ClusterOptions,
    overwrite: bool,
) -> list[ScanResult]:
    """Segment scans, write their table, and say what became of them."""
    from napari_tokensparse.common.ownership import record
    from napari_tokensparse.manyscans.cluster import segmenting_scans
    from napari_tokensparse.manyscans.scans import SUMMARY_FILE, plan, write_summary

    work = plan(model, described, options, folder, overwrite=overwrite)
    results: list[ScanResult] = []
    try:
        for result in _shown(segmenting_scans(cases, work, cluster), len(cases)):
            results.append(result)
    finally:  # Ctrl-C leaves a table too
        if results:
            summary = write_summary(folder / SUMMARY_FILE, results, described.info)
            record(folder, [summary])
            typer.echo(f"Wrote {summary}")
    _tell(results)
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
            left = "" if seconds is None else f"about {clock(seconds)} left"
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


def _tell(results: Sequence[ScanResult]) -> None:
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
