"""The command ``tokensparse segment``, and what it shares with ``demo``."""

from __future__ import annotations

from itertools import chain
from pathlib import Path  # noqa: TC003  # typer reads the annotations
from typing import TYPE_CHECKING, Annotated, cast

import typer

from napari_tokensparse._options import (
    DEFAULT_MODEL,
    BackendOption,
    DebugOption,
    DeviceOption,
    KeepOption,
    LegendOption,
    ModelOption,
    RegionOption,
    TableOption,
    ThreadsOption,
    check_table,
    plain_errors,
    ratios_of,
    region_of,
    use_threads,
)

if TYPE_CHECKING:
    from napari_tokensparse.data.region import Box
    from napari_tokensparse.data.volume import Volume
    from napari_tokensparse.engine.infer import Controls, Segmentation
    from napari_tokensparse.model.controls import Scorer
    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.model.scd import SCD


def segment(
    scan: Annotated[Path, typer.Argument(metavar="IN", help="NIfTI volume.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Labels to write: .nii.gz, .nii or .nrrd.")
    ],
    model: ModelOption = DEFAULT_MODEL,
    keep_ratio: KeepOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    backend: BackendOption = "auto",
    tokens: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for importance maps and pruned-at as NIfTI."),
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
    debug: DebugOption = False,
) -> None:
    """Segment a volume: labels on its own grid and affine."""
    with plain_errors(debug):
        from napari_tokensparse.engine.writing import check_output

        check_output(output)
        check_table(table)
        from napari_tokensparse.data.volume import read_volume
        from napari_tokensparse.model.checkpoints import load_model

        use_threads(threads)
        controls = _controls(scorer, ablate)
        volume, network = read_volume(scan), load_model(model)
        box = region_of(region, volume)
        result = run_shown(volume, network, ratios_of(keep_ratio), device, controls, box, backend)
        written = _write_labels(output, result, volume, network.info if legend else None)
        if table is not None:
            written.append(_write_table(table, result, volume, network))
        if tokens is not None:
            written += write_tokens(tokens, result, volume)
        report(result, volume, written)


def _controls(scorer: str, ablate: str | None) -> Controls:
    from napari_tokensparse.engine.infer import Controls

    if ablate not in (None, "encoder"):
        raise ValueError(f"--ablate {ablate}: only 'encoder' can be left out")
    return Controls(scorer=cast("Scorer", scorer), ablate_encoder=ablate is not None)


def run_shown(
    volume: Volume,
    network: SCD,
    keep_ratio: tuple[float, ...] | float | None,
    device: str,
    controls: Controls | None = None,
    region: Box | None = None,
    backend: str = "auto",
) -> Segmentation:
    """Segment with a progress bar and the time left, on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from napari_tokensparse.engine.concerns import concerns
    from napari_tokensparse.engine.infer import Segmentation, check_fit, choose_device, segmenting

    device = choose_device(device)
    for concern in concerns(volume, check_fit(volume, network)):
        typer.echo(f"Warning: {concern}", err=True)
    events = segmenting(
        volume,
        network,
        keep_ratio,
        device=device,
        controls=controls,
        region=region,
        backend=backend,
    )
    first = next(events)  # what is refused is refused here, before there is a bar
    columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(f"Segmenting {volume.name}", total=None)
        for event in chain([first], events):
            if isinstance(event, Segmentation):
                return event
            bar.update(task, total=event.total, completed=event.done)
    raise AssertionError("the run ended without a result")


def _write_labels(
    path: Path, result: Segmentation, volume: Volume, info: ModelInfo | None
) -> list[Path]:
    """Write the labels and, where ``info`` is given, names and colours beside them."""
    from napari_tokensparse.engine.classfiles import write_class_files
    from napari_tokensparse.engine.writing import write_volume

    labels = write_volume(path, result.labels, volume)
    return [labels] if info is None else [labels, *write_class_files(labels, info)]


def _write_table(path: Path, result: Segmentation, volume: Volume, network: SCD) -> Path:
    from napari_tokensparse.engine.classresults import class_results, write_class_results

    assert network.info is not None  # or it would not have segmented
    return write_class_results(
        path, class_results(result, volume, network.info), network.info.channels
    )


def write_tokens(folder: Path, result: Segmentation, volume: Volume) -> list[Path]:
    """Write ``importance-1.nii.gz`` … and ``pruned-at.nii.gz`` on the input's grid."""
    from napari_tokensparse.data.volume import write_nifti

    folder.mkdir(parents=True, exist_ok=True)
    tokens = result.tokens
    written = [
        write_nifti(folder / f"importance-{stage}.nii.gz", tokens.on_input_grid(values), volume)
        for stage, values in enumerate(tokens.importance, start=1)
    ]
    pruned_at = tokens.on_input_grid(tokens.pruned_at)
    return [*written, write_nifti(folder / "pruned-at.nii.gz", pruned_at, volume)]


def report(result: Segmentation, volume: Volume, written: list[Path]) -> None:
    from napari_tokensparse.model.ratios import describe_keep_ratio

    stats = result.stats
    for note in (*volume.notes, *stats.notes):
        typer.echo(f"Note: {note}")
    typer.echo(describe_keep_ratio(stats.keep_ratios))
    typer.echo(
        f"{stats.windows} window{'s' * (stats.windows != 1)} "
        f"({stats.skipped} of background skipped), "
        f"{stats.tokens['kept']} of {stats.tokens['processed']} tokens kept, "
        f"{stats.seconds['total']:.1f} s"
    )
    for path in written:
        typer.echo(f"Wrote {path}")
