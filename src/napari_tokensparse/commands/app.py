"""The command ``tokensparse``, put together. Heavy imports wait for their command."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from napari_tokensparse.commands.bench import bench
from napari_tokensparse.commands.demo import demo
from napari_tokensparse.commands.evaluate import evaluate
from napari_tokensparse.commands.import_checkpoint import import_checkpoint
from napari_tokensparse.commands.inspection import audit, sweep
from napari_tokensparse.commands.models import export_onnx, models
from napari_tokensparse.commands.segment import segment
from napari_tokensparse.commands.train import train
from napari_tokensparse.common.lean import end_quickly
from napari_tokensparse.common.surroundings import quiet_libraries


class Commands(TyperGroup):
    """Commands of which each takes ``--json -`` for ``--json``: the standard output."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Leave out a dash after ``--json``."""
        kept = [a for n, a in enumerate(args) if a != "-" or n == 0 or args[n - 1] != "--json"]
        return super().parse_args(ctx, kept)


app = typer.Typer(
    cls=Commands,
    help="Segment medical volumes with token-sparse models. For research only, not for diagnosis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # else "[default: …]" in a help text is taken for markup
)


app.command("import-checkpoint")(import_checkpoint)
app.command()(demo)
app.command()(segment)
app.command()(bench)
app.command()(train)
app.command()(evaluate)
app.command()(sweep)
app.command()(audit)
app.command("export-onnx")(export_onnx)
app.add_typer(models, name="models")


def main() -> None:
    """Run the command line."""
    _print_anything()
    quiet_libraries()
    end_quickly()
    _check_here()
    app()


def _check_here() -> None:
    """Refuse to run in a folder that was removed: no path could be counted from it."""
    try:
        os.getcwd()
    except OSError:
        typer.echo("tokensparse: the folder that this runs in is gone; change to another", err=True)
        raise SystemExit(1) from None


def _print_anything() -> None:
    """Let no print fail: what a console or a pipe has no character for becomes a question mark.

    So it is on a Windows console, or where the locale or PYTHONIOENCODING asks for less than UTF-8.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")
