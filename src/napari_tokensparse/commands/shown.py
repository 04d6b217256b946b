"""A run as commands show it: a bar with the time left, what it gave, what was written."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import typer

from napari_tokensparse.common.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.segmenting.infer import Segmentation
    from napari_tokensparse.segmenting.options import Options
    from napari_tokensparse.volumes.volume import Volume


def run_shown(volume: Volume, network: SCD, options: Options) -> Segmentation:
    """Segment with a progress bar and the time left, on stderr."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from napari_tokensparse.segmenting.concerns import concerns
    from napari_tokensparse.segmenting.infer import Segmentation, check_fit, segmenting

    for concern in concerns(volume, check_fit(volume, network), options.strip):
        typer.echo(f"Warning: {printable(concern)}", err=True)
    events = segmenting(volume, network, options)
    first = next(events)  # what is refused is refused here, before there is a bar
    columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(f"Segmenting {escape(printable(volume.name))}", total=None)
        for event in chain([first], events):
            if isinstance(event, Segmentation):
                return event
            bar.update(task, total=event.total, completed=event.done)
    raise AssertionError("the run ended without a result")


def say_about(volume: Volume, network: SCD) -> None:
    """Say what speaks against the model on this scan, and what a person should know besides."""
    from napari_tokensparse.segmenting.concerns import concerns
    from napari_tokensparse.segmenting.infer import check_fit
    from napari_tokensparse.volumes.background import background_notes

    info = check_fit(volume, network)
    for concern in concerns(volume, info):
        typer.echo(f"Warning: {printable(concern)}", err=True)
    say_notes((*volume.notes, *background_notes(volume, info.preprocessing)))


def say_notes(notes: Iterable[str]) -> None:
    """Say on stderr what a person should know."""
    for note in notes:
        typer.echo(f"Note: {printable(note)}", err=True)


def report(result: Segmentation, volume: Volume, written: list[Path]) -> None:
    """Say what a run did, and which files it wrote."""
    from napari_tokensparse.model.ratios import describe_importance, describe_keep_ratio

    stats = result.stats
    for note in (*volume.notes, *stats.notes):
        typer.echo(f"Note: {note}")
    least = stats.importance
    typer.echo(
        describe_keep_ratio(stats.keep_ratios) if least is None else describe_importance(least)
    )
    typer.echo(
        f"{stats.windows} window{'s' * (stats.windows != 1)} "
        f"({stats.skipped} of background skipped), "
        f"{stats.tokens['kept']} of {stats.tokens['processed']} tokens kept, "
        f"{stats.seconds['total']:.1f} s"
    )
    for path in written:
        typer.echo(f"Wrote {printable(str(path))}")
