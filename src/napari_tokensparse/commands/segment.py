"""The command ``tokensparse segment``, and what it shares with ``demo``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from napari_tokensparse.commands.estimate import check_room, say_estimate
from napari_tokensparse.commands.options import (
    DEFAULT_MODEL,
    BackendOption,
    ChannelOption,
    DebugOption,
    DeviceOption,
    FrameOption,
    KeepOption,
    LegendOption,
    ModelOption,
    OverwriteOption,
    RegionOption,
    RetriesOption,
    SchedulerOption,
    SeriesOption,
    SharpenOption,
    TableOption,
    ThreadsOption,
    WorkersOption,
    channel_paths,
    check_folder,
    check_table,
    plain_errors,
    ratios_of,
    read_case,
    region_of,
    use_threads,
)
from napari_tokensparse.commands.shown import report, run_shown, write_labels
from napari_tokensparse.outputs.tokens import write_tokens

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_tokensparse.model.controls import Scorer
    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.outputs.receipts import Finished
    from napari_tokensparse.segmenting.infer import Controls, Segmentation
    from napari_tokensparse.segmenting.options import Options
    from napari_tokensparse.volumes.volume import Volume


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
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    backend: BackendOption = "auto",
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
        if from_receipt is not None:
            raise typer.Exit(_repeated(context, from_receipt, scan, output))
        if dry_run:
            _dry_run(context)
            return
        if as_json:
            raise ValueError("--json: goes with --dry-run; a run's figures are in its receipt")
        if bids is not None:
            if scan is None or output is not None:
                raise ValueError("--bids: give a data set, and no -o: segment DATASET --bids DIR")
            cluster = (scheduler, workers, retries)
            raise typer.Exit(_many(context, scan, bids, ratios_of(keep_ratio), cluster))
        if output is None:
            raise ValueError("give IN and where its labels go: tokensparse segment IN -o OUT")
        from napari_tokensparse.manyscans.cases import is_many
        from napari_tokensparse.outputs.writing import check_output

        if scan is not None and is_many(scan, output):
            cluster = (scheduler, workers, retries)
            raise typer.Exit(_many(context, scan, output, ratios_of(keep_ratio), cluster))
        _refuse(context, ("scheduler", "workers", "retries"), "is for many scans")
        check_output(output)
        check_table(table)
        check_folder(tokens)
        from napari_tokensparse.model.checkpoints import load_model

        use_threads(threads)
        controls, network = _controls(scorer, ablate), load_model(model)
        if regions is not None:
            _check_regions(network)
        _check_files(context, output, network)
        where = None if scan is None else Path(scan)
        volume = read_case(where, channel, network, frame, series)
        check_output(output, volume, network.info)
        box = region_of(region, volume)
        check_room(volume, network, device, box, anyway)
        result = run_shown(
            volume, network, ratios_of(keep_ratio), device, controls, box, backend, sharpen
        )
        written = write_labels(output, result, volume, network, legend)
        if table is not None:
            written.append(_write_table(table, result, volume, network))
        if regions is not None:
            written += _write_regions(regions, result, volume, network)
        if tokens is not None:
            written += write_tokens(tokens, result, volume)
        if receipt:
            from napari_tokensparse.outputs.receipts import Finished

            run = Finished(volume, network, result)
            written.append(_write_receipt(context, run, output, written[1:]))
        report(result, volume, written)


def _repeated(context: typer.Context, receipt: Path, scan: str | None, output: Path | None) -> int:
    from napari_tokensparse.commands.repeat import CHANGEABLE, repeat

    free = {"from_receipt", "scan", "output", "threads", "anyway", "overwrite", "debug"}
    asked = set(context.params) - {*free, *CHANGEABLE}
    _refuse(context, asked, f"is as {receipt.name} says; leave it out")
    changed = {name: context.params[name] for name in CHANGEABLE if _is_given(context, name)}
    where = None if scan is None else Path(scan)
    said = (context.params[name] for name in ("threads", "anyway", "overwrite"))
    return repeat(receipt, where, output, changed, *said)


def _dry_run(context: typer.Context) -> None:
    from napari_tokensparse.model.checkpoints import load_model

    asked = context.params
    use_threads(asked["threads"])
    network = load_model(asked["model"])
    where = None if asked["scan"] is None else Path(asked["scan"])
    volume = read_case(where, asked["channel"], network, asked["frame"], asked["series"])
    say_estimate(
        volume,
        network,
        ratios_of(asked["keep_ratio"]),
        asked["device"],
        region_of(asked["region"], volume),
        asked["backend"],
        asked["as_json"],
        asked["sharpen"],
    )


def _many(
    context: typer.Context,
    source: str,
    folder: Path,
    keep_ratio: tuple[float, ...] | float | None,
    cluster: tuple[str | None, int | None, int],
) -> int:
    from napari_tokensparse.commands.many import segment_bids, segment_many
    from napari_tokensparse.manyscans.cluster import ClusterOptions
    from napari_tokensparse.manyscans.scans import describe_model
    from napari_tokensparse.model.ratios import keep_ratios

    one = (
        "anyway",
        "channel",
        "frame",
        "receipt",
        "regions",
        "series",
        "table",
        "threads",
        "tokens",
    )
    _refuse(context, one, "is for one scan; many have summary.csv")
    options, model = ClusterOptions(*cluster), context.params["model"]
    described = describe_model(model)
    config = described.config
    ratios = keep_ratios(config.keep_ratio if keep_ratio is None else keep_ratio, config.stages)
    asked = _options(context, ratios, described.info.sharpens(context.params["sharpen"]))
    overwrite = context.params["overwrite"]
    of_kind = segment_many if context.params["bids"] is None else segment_bids
    return of_kind(source, folder, model, described, asked, options, overwrite)


def _refuse(context: typer.Context, names: Iterable[str], why: str) -> None:
    """Refuse an option that was given where it means nothing."""
    for name in sorted(names):
        if _is_given(context, name):
            no = "no-" * (context.params[name] is False)
            raise ValueError(f"--{no}{name.replace('_', '-')}: {why}")


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _options(context: typer.Context, keep_ratio: tuple[float, ...], sharpen: bool) -> Options:
    """Gather what was asked for, with names in place of paths."""
    from napari_tokensparse.segmenting.options import Options

    said = {name: context.params[name] for name in Options.model_fields}
    paths = (name for name in ("model", "regions", "table", "tokens") if said[name] is not None)
    names = {name: Path(os.path.abspath(said[name])).name for name in paths}
    return Options(**{**said, **names, "keep_ratio": keep_ratio, "sharpen": sharpen})


def _check_files(context: typer.Context, output: Path, network: SCD) -> None:
    """Refuse to write over a person's files."""
    from napari_tokensparse.model.folder import Description
    from napari_tokensparse.outputs.runfiles import RunFiles, check_run_files

    assert network.info is not None  # a model from files has it
    asked = context.params
    names = ("legend", "receipt", "table", "tokens", "regions")
    files = RunFiles(output, **{name: asked[name] for name in names})
    scans = [Path(asked["scan"])] if asked["scan"] else []
    inputs = [*scans, *channel_paths(asked["channel"] or []).values()]
    model = Description(network.config, network.info)
    check_run_files(files, model, inputs, overwrite=asked["overwrite"])


def _write_receipt(context: typer.Context, run: Finished, output: Path, beside: list[Path]) -> Path:
    from napari_tokensparse.outputs.receipts import (
        input_scan,
        receipt_of,
        receipt_path,
        write_receipt,
    )

    stats, scan = run.result.stats, context.params["scan"]
    asked = _options(context, stats.keep_ratios, stats.sharpened)
    channels = channel_paths(context.params["channel"] or [])
    inputs = [input_scan(path, channel) for channel, path in channels.items()]
    if scan is not None:
        inputs = [input_scan(Path(scan))]
        asked = asked.model_copy(update={"series": _series_number(Path(scan), asked.series)})
    return write_receipt(receipt_path(output), receipt_of(run, asked, inputs, output, beside))


def _series_number(folder: Path, series: str | None) -> str | None:
    """Return a series' number for the unique name of it that a person may have given."""
    if series is None:
        return None
    from napari_tokensparse.volumes.dicom.folder import number_of

    return number_of(folder, series)


def _controls(scorer: str, ablate: str | None) -> Controls:
    from napari_tokensparse.segmenting.infer import Controls

    if ablate not in (None, "encoder"):
        raise ValueError(f"--ablate {ablate}: only 'encoder' can be left out")
    return Controls(scorer=cast("Scorer", scorer), ablate_encoder=ablate is not None)


def _write_table(path: Path, result: Segmentation, volume: Volume, network: SCD) -> Path:
    from napari_tokensparse.outputs.classresults import class_results, write_class_results

    assert network.info is not None  # or it would not have segmented
    return write_class_results(
        path, class_results(result, volume, network.info), network.info.channels
    )


def _check_regions(network: SCD) -> None:
    from napari_tokensparse.outputs.regionfiles import check_regions

    if network.info is not None:
        check_regions(network.info)


def _write_regions(folder: Path, result: Segmentation, volume: Volume, network: SCD) -> list[Path]:
    from napari_tokensparse.outputs.regionfiles import write_regions

    assert network.info is not None  # or it would not have segmented
    return write_regions(folder, result, volume, network.info)
