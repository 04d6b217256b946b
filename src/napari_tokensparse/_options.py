"""Options and habits that the commands share."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path  # typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from napari_tokensparse import _settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_tokensparse.data.region import Box
    from napari_tokensparse.data.volume import Volume

DEFAULT_MODEL = "brain-structures"

ModelOption = Annotated[
    str, typer.Option(help="Bundled or user model, model folder, or authors' checkpoint folder.")
]
KeepOption = Annotated[
    str | None,
    typer.Option(
        metavar="RATIO[,RATIO…]",
        help="Share of live tokens that each stage keeps, in (0, 1]: one number, or one per stage. "
        "[default: the model's]",
    ),
]
LabelsOption = Annotated[
    Path | None, typer.Option(help="Folder of labels, where DATA is a folder of images.")
]


def _device(context: typer.Context, parameter: typer.CallbackParam, given: str) -> str:
    """Return the device that is given, or else that of napari's settings."""
    source = context.get_parameter_source(parameter.name or "")
    if source is not None and source.name != "DEFAULT":
        return given
    try:
        return _settings.current().computing.device
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


DeviceOption = Annotated[
    str,
    typer.Option(
        help="auto, cpu, cuda, cuda:N or mps; if not given, that of napari's settings.",
        callback=_device,
        show_default=False,
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Threads that torch takes; if not given, as napari's settings say, or its own.",
    ),
]
BackendOption = Annotated[
    str,
    typer.Option(help="How the network is run: auto, plain, openvino or compile."),
]
RegionOption = Annotated[
    str | None,
    typer.Option(
        metavar="I0:I1,J0:J1,K0:K1",
        help="Only this box of voxels, counted from 0, the ends I1, J1, K1 not included. "
        "An end that is not given is the volume's.",
    ),
]
TableOption = Annotated[
    Path | None,
    typer.Option(
        metavar="CSV",
        help="Table to write, a row per class: volume, voxels, bounding box, mean intensity, "
        "share of voxels whose token was kept, mean importance.",
    ),
]
LegendOption = Annotated[
    bool,
    typer.Option(
        help="Write names and colours of the classes beside the labels, "
        "for ITK-SNAP (.label.txt) and as in BIDS (_dseg.tsv)."
    ),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def ratios_of(text: str | None) -> tuple[float, ...] | float | None:
    """Read one keep ratio, or one per stage."""
    if text is None:
        return None
    try:
        ratios = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"keep ratio {text!r}: must be one number, or one per stage with commas between"
        ) from None
    return ratios[0] if len(ratios) == 1 else ratios


def use_threads(given: int | None) -> None:
    """Compute with as many threads as are given, or else as napari's settings say."""
    from napari_tokensparse.engine.devices import use_threads as used

    used(_settings.current().computing.threads if given is None else given)


def region_of(text: str | None, volume: Volume) -> Box | None:
    """Read a box of the volume."""
    from napari_tokensparse.data.region import parse_box

    return None if text is None else parse_box(text, volume.shape, volume.name)


def check_table(path: Path | None) -> None:
    """Refuse a table that could not be written, before a run rather than after it."""
    if path is None:
        return
    if path.suffix.lower() != ".csv":
        raise ValueError(f"{path}: the table must end in .csv")
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent}: no such folder; create it first")


@contextmanager
def plain_errors(debug: bool) -> Iterator[None]:
    """Turn what a user can mend into one line on stderr and exit code 1."""
    try:
        yield
    except (ValueError, OSError) as error:
        if debug:
            raise
        typer.echo(f"tokensparse: {_said(error)}", err=True)
        raise typer.Exit(1) from None


def _said(error: Exception) -> str:
    from pydantic import ValidationError

    from napari_tokensparse.engine.runconfig import one_line

    return one_line(error) if isinstance(error, ValidationError) else str(error)
