"""The command ``bench``: what networks and previews cost."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from napari_tokensparse._options import DEFAULT_MODEL, DebugOption, plain_errors

PREVIEW = "preview"


def bench(
    macs: Annotated[bool, typer.Option("--macs", help="Count multiply-accumulates.")] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Time the live preview on the sample brain.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")] = False,
    debug: DebugOption = False,
) -> None:
    """Measure what the networks cost."""
    with plain_errors(debug):
        if not (macs or preview):
            raise ValueError("nothing to measure: give --macs or --preview")
        counted = _count_macs() if macs else []
        timed = _time_previews() if preview else []
        if as_json:
            typer.echo(json.dumps({"rows": [*counted, *timed]}, indent=1))
            return
        if macs:
            _print_costs(counted)
        if preview:
            _print_timings(timed)


def _count_macs() -> list[dict[str, Any]]:
    from napari_tokensparse.engine.benchmark import costs

    return [{"section": "macs", **asdict(row)} for row in costs()]


def _time_previews() -> list[dict[str, Any]]:
    from napari_tokensparse.data.samples import sample_path
    from napari_tokensparse.data.volume import read_volume
    from napari_tokensparse.engine.benchmark import preview_timings
    from napari_tokensparse.engine.preview import PreviewSession
    from napari_tokensparse.model.checkpoints import load_model

    session = PreviewSession(read_volume(sample_path()), load_model(DEFAULT_MODEL))
    return [{"section": PREVIEW, **asdict(row)} for row in preview_timings(session)]


def _print_costs(rows: list[dict[str, Any]]) -> None:
    """Print GMACs per window, a column for each part."""
    from rich.console import Console
    from rich.table import Table

    parts = list(dict.fromkeys(row["part"] for row in rows))
    table = Table("preset", "variant", "keep ratio", *parts, title="GMACs per window")
    for at in range(0, len(rows), len(parts)):
        first = rows[at]
        figures = (f"{row['gmacs']:.2f}" for row in rows[at : at + len(parts)])
        table.add_row(first["preset"], first["variant"], f"{first['keep_ratio']:g}", *figures)
    Console().print(table)


def _print_timings(rows: list[dict[str, Any]]) -> None:
    """Print a row for each keep ratio: a whole window, an update, and the second by the first."""
    from rich.console import Console
    from rich.table import Table

    title = f"Live preview of one window, {rows[0]['threads']} threads"
    heads = ("keep ratio", "full s", "update s", "share of time", "share of MACs")
    table = Table(*heads, title=title)
    for full, update in zip(rows[::2], rows[1::2], strict=True):
        table.add_row(
            f"{full['keep_ratio']:g}",
            f"{full['seconds']:.3f}",
            f"{update['seconds']:.3f}",
            f"{update['seconds'] / full['seconds']:.3f}",
            f"{update['gmacs'] / full['gmacs']:.3f}",
        )
    Console().print(table)
