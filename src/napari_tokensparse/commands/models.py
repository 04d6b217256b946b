"""The commands ``tokensparse models …`` and ``tokensparse export-onnx``."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003  # typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from napari_tokensparse.commands.errors import plain_errors
from napari_tokensparse.commands.options import (
    DebugOption,
    KeepOption,
    OverwriteOption,
    ratios_of,
)

if TYPE_CHECKING:
    from napari_tokensparse.catalogue.models import Listed, Offer

IndexOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL|FILE",
        help="List of models to download; if not given, that of TOKENSPARSE_INDEX, of napari's "
        "settings, or the package's own, which is empty.",
    ),
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="As `tokensparse models` says.")]

models = typer.Typer(help="List models, read their cards, download and remove them.")


@models.callback(invoke_without_command=True)
def list_models(
    context: typer.Context,
    index: IndexOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")] = False,
    debug: DebugOption = False,
) -> None:
    """List the bundled models, yours, and those to download."""
    if context.invoked_subcommand is not None:
        return
    with plain_errors(debug):
        listed, warning = _listed(index)
        if warning:
            typer.echo(f"Warning: {warning}", err=True)
        if as_json:
            content = {"models": [one.as_dict() for one in listed], "warning": warning}
            typer.echo(json.dumps(content, indent=1))
        else:
            _print_table(listed)


@models.command()
def show(name: NameArgument, debug: DebugOption = False) -> None:
    """Print the card of a model: data, licence, what was measured, limits."""
    with plain_errors(debug):
        from napari_tokensparse.catalogue.models import card_of

        typer.echo(card_of(name).rstrip())


@models.command()
def download(name: NameArgument, index: IndexOption = None, debug: DebugOption = False) -> None:
    """Download a model of the index; after a broken download, go on with it."""
    with plain_errors(debug):
        from napari_tokensparse.catalogue.models import index_place, offer_of, read_index

        place = index_place(index)
        folder = _download_shown(offer_of(name, read_index(place), place))
        typer.echo(f"Wrote {folder}")
        typer.echo(f"Use it by name: tokensparse segment … --model {name}")


@models.command()
def remove(
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    debug: DebugOption = False,
) -> None:
    """Delete one of your own or downloaded models for good."""
    with plain_errors(debug):
        from napari_tokensparse.catalogue.download import remove as removed
        from napari_tokensparse.catalogue.models import folder_of

        if not yes:
            typer.confirm(f"Delete {folder_of(name)} for good?", abort=True)
        typer.echo(f"Removed {removed(name)}")


@models.command("export-monai")
def export_monai(
    name: Annotated[str, typer.Argument(help="Bundled or user model, or a model folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="A new folder.")],
    debug: DebugOption = False,
) -> None:
    """Copy a model so that MONAI's own `monai.bundle.load` takes it: weights as model.pt too."""
    with plain_errors(debug):
        from napari_tokensparse.model.hub import model_folder
        from napari_tokensparse.model.monaicopy import export_for_monai

        typer.echo(f"Wrote {export_for_monai(model_folder(name), output)}")


def export_onnx(
    model: Annotated[str, typer.Argument(help="Bundled or user model, or a model folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Ends in .onnx.")],
    keep_ratio: KeepOption = None,
    overwrite: OverwriteOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a model as one ONNX file, at a fixed keep ratio: a window in, logits and ids out."""
    with plain_errors(debug):
        from napari_tokensparse.common.ownership import check_free
        from napari_tokensparse.compute.backends.onnxfile import check_onnx_path
        from napari_tokensparse.compute.backends.onnxfile import export_onnx as exported

        check_onnx_path(output)
        check_free([output], (), overwrite=overwrite)
        from napari_tokensparse.model.checkpoints import load_model

        typer.echo(f"Wrote {exported(load_model(model), output, ratios_of(keep_ratio))}")


def _listed(index: str | None) -> tuple[list[Listed], str]:
    """List all models; what is on this machine is listed without a network too."""
    from napari_tokensparse.catalogue.fetching import DownloadError
    from napari_tokensparse.catalogue.models import (
        index_place,
        local_models,
        offered_models,
        read_index,
    )

    here = local_models()
    try:
        return [*here, *offered_models(read_index(index_place(index)), here)], ""
    except DownloadError as error:
        return here, str(error)


def _download_shown(offer: Offer) -> Path:
    """Download with a progress bar on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    from napari_tokensparse.catalogue.download import download as downloaded

    columns = ("[progress.description]{task.description}", BarColumn(), DownloadColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(f"Downloading {offer.name}", total=offer.size)
        return downloaded(offer, lambda done: bar.update(task, completed=done))


def _print_table(listed: list[Listed]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_lines=True)
    for heading in ("Model", "Where", "Keep", "Size"):
        table.add_column(heading, no_wrap=True)
    table.add_column("What it is", overflow="fold")
    for one in listed:
        table.add_row(*(Text(cell) for cell in _cells(one)))
    Console().print(table)


def _cells(one: Listed) -> tuple[str, ...]:
    window = " × ".join(map(str, one.window))
    spacing = " × ".join(f"{mm:g}" for mm in one.spacing)
    what = (
        f"cannot be used: {one.problem}" if one.problem else _said(one),
        ", ".join(one.channels),
        _classes(one.classes),
        f"{window} at {spacing} mm" if spacing else window,
    )
    return (
        f"{one.name} (unfinished)" if one.unfinished else one.name,
        one.where,
        ", ".join(f"{ratio:g}" for ratio in dict.fromkeys(one.keep_ratio)) or "–",
        f"{one.size / 1e6:.1f} MB",
        "\n".join(filter(None, what)),
    )


def _classes(names: tuple[str, ...]) -> str:
    """Name the classes, and of many the first ones."""
    shown = ", ".join(names[:3])
    return f"{len(names)} classes: {shown}, …" if len(names) > 3 else shown


def _said(one: Listed) -> str:
    return f"{one.says} ({one.licence})" if one.licence else one.says
