"""The command ``import-checkpoint``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads the annotations
from typing import Annotated

import typer

from napari_tokensparse.commands.errors import plain_errors
from napari_tokensparse.commands.options import (  # noqa: TC001  # typer reads them
    DebugOption,
    OverwriteOption,
)


def import_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(metavar="CKPT", help="The authors' .pth.tar.")],
    config: Annotated[Path, typer.Option(help="Their config, YAML or JSON.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="MODEL_FOLDER",
            help="Where to write it. [default: among the user's models]",
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="What their command line changed."),
    ] = None,
    overwrite: OverwriteOption = False,
    debug: DebugOption = False,
) -> None:
    """Turn a checkpoint of the authors' code into a model folder."""
    with plain_errors(debug):
        from napari_tokensparse.model.authors import import_checkpoint as imported

        typer.echo(f"Wrote {imported(checkpoint, config, output, overrides or [], overwrite)}")
