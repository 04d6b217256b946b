"""The command ``tokensparse segment``: repeat, estimate, many scans, or one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_tokensparse.commands.errors import plain_errors
from napari_tokensparse.commands.options import (
    DEFAULT_MODEL,
    BackendOption,
    ChannelOption,
    DebugOption,
    DeviceOption,
    DropOption,
    FrameOption,
    ImportanceOption,
    KeepOption,
    LeastConfidenceOption,
    LegendOption,
    ModelOption,
    OverwriteOption,
    PinOption,
    PrecisionOption,
    RegionOption,
    RetriesOption,
    SchedulerOption,
    SeriesOption,
    SharpenOption,
    StripOption,
    TableOption,
    ThreadsOption,
    WorkersOption,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


def segment(
    context: typer.Context,
    scan: Annotated[
        str | None,
        typer.Argument(
            metavar="IN",
            help="Volume: a NIfTI, NRRD or MGH file, the folder of a DICOM series, or OME-Zarr; or "
            "many: a folder, a glob in quotes, or a CSV with a column image.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Labels to write: .nii.gz, .nii, .nrrd, .ome.zarr, or .dcm (DICOM SEG) of a DICOM "
            "series; of many scans, a folder.",
        ),
    ] = None,
    bids: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="In place of -o, where IN is a BIDS data set: write its labels under "
            "DIR/derivatives/napari-tokensparse; DIR may be the data set.",
        ),
    ] = None,
    channel: ChannelOption = None,
    frame: FrameOption = None,
    series: SeriesOption = None,
    model: ModelOption = DEFAULT_MODEL,
    keep_ratio: KeepOption = None,
    importance: ImportanceOption = None,
    pin: PinOption = None,
    drop: DropOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    tokens: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for importance maps and pruned-at as NIfTI."),
    ] = None,
    regions: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for a mask of each region as NIfTI, of a model whose regions overlap.",
        ),
    ] = None,
    probabilities: Annotated[
        str | None,
        typer.Option(
            metavar="CLASSES",
            help="Write a map of probability, 0 to 255, of each of these classes beside the "
            "labels: names or values with commas between, or all.",
        ),
    ] = None,
    confidence: Annotated[
        bool,
        typer.Option(
            "--confidence",
            help="Write beside the labels how probable the winning class is, voxel by voxel, 0 to "
            "255.",
        ),
    ] = False,
    table: TableOption = None,
    legend: LegendOption = True,
    scorer: Annotated[
        str,
        typer.Option(help="Control: prune by learned, random, intensity or foreground."),
    ] = "learned",
    ablate: Annotated[
        str | None, typer.Option(help="Control: 'encoder' leaves its blocks out.")
    ] = None,
    region: RegionOption = None,
    sharpen: SharpenOption = None,
    strip: StripOption = None,
    least_confidence: LeastConfidenceOption = None,
    receipt: Annotated[
        bool, typer.Option(help="Write beside the labels what they were made from and how.")
    ] = True,
    from_receipt: Annotated[
        Path | None,
        typer.Option(
            metavar="JSON",
            help="Repeat the run of a receipt and say whether the labels are identical.",
        ),
    ] = None,
    scheduler: SchedulerOption = None,
    workers: WorkersOption = None,
    retries: RetriesOption = 2,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Only say how long it would take and how much memory; the first time for a model, "
            "the machine is measured.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --dry-run: print the figures as JSON.")
    ] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Run even if memory is not likely to be enough.")
    ] = False,
    overwrite: OverwriteOption = False,
    debug: DebugOption = False,
) -> None:
    """Segment a volume, or many: labels on its own grid and affine."""
    with plain_errors(debug):
        raise typer.Exit(_dispatched(context))


def _dispatched(context: typer.Context) -> int:
    """Do what the options ask for, and return the exit status."""
    asked = context.params
    if asked["from_receipt"] is not None:
        return _repeated(context)
    if asked["dry_run"]:
        from napari_tokensparse.commands.estimate import dry_run

        return dry_run(asked)
    if asked["as_json"]:
        raise ValueError("--json: goes with --dry-run; a run's figures are in its receipt")
    if asked["bids"] is not None:
        if asked["scan"] is None or asked["output"] is not None:
            raise ValueError("--bids: give a data set, and no -o: segment DATASET --bids DIR")
        return _many(context)
    if asked["output"] is None:
        raise ValueError("give IN and where its labels go: tokensparse segment IN -o OUT")
    from napari_tokensparse.manyscans.cases import is_many

    if asked["scan"] is not None and is_many(asked["scan"], asked["output"]):
        return _many(context)
    from napari_tokensparse.commands.one import segment_one

    _refuse(context, ("scheduler", "workers", "retries"), "is for many scans")
    return segment_one(asked)


def _repeated(context: typer.Context) -> int:
    from napari_tokensparse.commands.repeat import CHANGEABLE, repeat

    asked, receipt = context.params, context.params["from_receipt"]
    free = {"from_receipt", "scan", "output", "threads", "anyway", "overwrite", "debug"}
    fixed = set(asked) - {*free, *CHANGEABLE}
    _refuse(context, fixed, f"is as {receipt.name} says; leave it out")
    changed = {name: asked[name] for name in CHANGEABLE if _is_given(context, name)}
    where = None if asked["scan"] is None else Path(asked["scan"])
    said = (asked[name] for name in ("threads", "anyway", "overwrite"))
    return repeat(receipt, where, asked["output"], changed, *said)


def _many(context: typer.Context) -> int:
    from napari_tokensparse.commands.many import segment_bids, segment_many

    one = (
        "anyway",
        "channel",
        "confidence",
        "drop",
        "frame",
        "pin",
        "probabilities",
        "receipt",
        "regions",
        "series",
        "tokens",
    )
    _refuse(context, one, "is for one scan; leave it out")
    _refuse(context, ["table"], "is for one scan; many have summary.csv")
    asked = context.params
    return segment_many(asked) if asked["bids"] is None else segment_bids(asked)


def _refuse(context: typer.Context, names: Iterable[str], why: str) -> None:
    """Refuse an option that was given where it means nothing."""
    for name in sorted(names):
        if _is_given(context, name):
            no = "no-" * (context.params[name] is False)
            raise ValueError(f"--{no}{name.replace('_', '-')}: {why}")


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
