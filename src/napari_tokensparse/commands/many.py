"""What ``tokensparse segment`` shows of many scans: a bar with the time left, and what failed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress

from napari_tokensparse.commands.train_display import clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

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
    """
    from napari_tokensparse.manyscans.cases import list_scans

    cases = list_scans(source, folder, described.info.channels)
    return int(bool(_failed(_run(cases, folder, model, described, options, cluster))))


def segment_bids(
    source: str,
    output: Path,
    model: str,
    described: Description,
    options: Options,
    cluster: ClusterOptions,
) -> int:
    """Segment a BIDS data set into a BIDS derivative, and return the exit status.

    Parameters
    ----------
    source
        The data set's folder.
    output
        The folder for ``derivatives``.
    model, described, options, cluster
        As for `segment_many`.
    """
    from pathlib import Path

    from napari_tokensparse.manyscans.bids import bids_scans, prepare_bids, write_sidecars

    data_set = Path(source)
    cases = bids_scans(data_set, described.info.channels)
    folder = prepare_bids(output, data_set, described)
    # One dseg.tsv at the top is that of all labels, as BIDS inherits it.
    options = options.model_copy(update={"legend": False})
    results = _run(cases, folder, model, described, options, cluster)
    write_sidecars(folder, data_set, (r.case for r in results if r.receipt is not None))
    return int(bool(_failed(results)))


def _run(
    cases: Sequence[ScanCase],
    folder: Path,
    model: str,
    described: Description,
    options: Options,
    cluster: ClusterOptions,
) -> list[ScanResult]:
    """Segment scans, write their table, and say what became of them."""
    from napari_tokensparse.manyscans.cluster import segmenting_scans
    from napari_tokensparse.manyscans.scans import SUMMARY_FILE, plan, write_summary

    work = plan(model, described, options, folder)
    results: list[ScanResult] = []
    try:
        for result in _shown(segmenting_scans(cases, work, cluster), len(cases)):
            results.append(result)
    finally:  # Ctrl-C leaves a table too
        if results:
            typer.echo(f"Wrote {write_summary(folder / SUMMARY_FILE, results, described.info)}")
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
            ran += result.status != "skipped"
            seconds = seconds_left(time.monotonic() - began, ran, total - count)
            left = "" if seconds is None else f"about {clock(seconds)} left"
            bar.update(task, completed=count, left=left)
            if result.error or not console.is_terminal:
                console.print(_line(result), markup=False, highlight=False, soft_wrap=True)
            yield result


def _line(result: ScanResult) -> str:
    if result.receipt is None:
        return f"{result.case.name}: failed: {result.error}"
    return f"{result.case.name}: {result.status}, {result.receipt.seconds['total']:.1f} s"


def _failed(results: Sequence[ScanResult]) -> list[ScanResult]:
    return sorted((r for r in results if r.error), key=lambda r: r.case.name)


def _tell(results: Sequence[ScanResult]) -> None:
    counts = dict.fromkeys(("done", "skipped", "failed"), 0)
    for result in results:
        counts[result.status] += 1
    typer.echo(", ".join(f"{count} {status}" for status, count in counts.items()))
    failed = _failed(results)
    if failed:
        typer.echo(f"tokensparse: {len(failed)} of {len(results)} scans failed:", err=True)
    for result in failed:
        typer.echo(f"  {result.case.name}: {result.error}", err=True)
