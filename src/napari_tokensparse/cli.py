"""The command ``tokensparse``: thin views on the engine. Heavy imports wait for their command."""

from __future__ import annotations

import os
import sys
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from napari_tokensparse._benchmarks import bench
from napari_tokensparse._evaluation import evaluate
from napari_tokensparse._inspection import audit, sweep
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
    check_table,
    plain_errors,
    ratios_of,
    region_of,
)
from napari_tokensparse._training import train

if TYPE_CHECKING:
    from napari_tokensparse.data.region import Box
    from napari_tokensparse.data.volume import Volume
    from napari_tokensparse.engine.infer import Controls, Segmentation
    from napari_tokensparse.model.controls import Scorer
    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.model.scd import SCD

app = typer.Typer(
    help="Segment medical volumes with token-sparse models. For research only, not for diagnosis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def segment(
    scan: Annotated[Path, typer.Argument(metavar="IN", help="NIfTI volume.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Labels to write: .nii.gz, .nii or .nrrd.")
    ],
    model: ModelOption = DEFAULT_MODEL,
    keep_ratio: KeepOption = None,
    device: DeviceOption = "auto",
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

        controls = _controls(scorer, ablate)
        volume, network = read_volume(scan), load_model(model)
        box = region_of(region, volume)
        result = _run(volume, network, ratios_of(keep_ratio), device, controls, box, backend)
        written = _write_labels(output, result, volume, network.info if legend else None)
        if table is not None:
            written.append(_write_table(table, result, volume, network))
        if tokens is not None:
            written += _write_tokens(tokens, result, volume)
        _report(result, volume, written)


@app.command("import-checkpoint")
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
    debug: DebugOption = False,
) -> None:
    """Turn a checkpoint of the authors' code into a model folder."""
    with plain_errors(debug):
        from napari_tokensparse.model.authors import import_checkpoint as imported

        typer.echo(f"Wrote {imported(checkpoint, config, output, overrides or [])}")


@app.command()
def demo(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for the results without a window.")
    ] = Path("demo"),
    headless: Annotated[
        bool, typer.Option("--headless", help="Open no window; write files instead.")
    ] = False,
    keep_ratio: KeepOption = None,
    debug: DebugOption = False,
) -> None:
    """Segment the sample brain and show labels and tokens in napari, or write them to files."""
    with plain_errors(debug):
        if headless or not _has_display():
            _demo_files(output, ratios_of(keep_ratio))
        else:
            _demo_window(ratios_of(keep_ratio))


app.command()(bench)
app.command()(train)
app.command()(evaluate)
app.command()(sweep)
app.command()(audit)


def main() -> None:
    """Run the command line."""
    app()


def _demo_files(folder: Path, keep_ratio: tuple[float, ...] | float | None) -> None:
    from napari_tokensparse.data.samples import sample_path
    from napari_tokensparse.data.volume import read_volume, write_nifti
    from napari_tokensparse.engine.montage import save_montage
    from napari_tokensparse.model.checkpoints import load_model

    folder.mkdir(parents=True, exist_ok=True)
    volume, network = read_volume(sample_path()), load_model(DEFAULT_MODEL)
    result = _run(volume, network, keep_ratio, "auto")
    written = [write_nifti(folder / "labels.nii.gz", result.labels, volume)]
    written += _write_tokens(folder, result, volume)
    if network.info is not None:
        save_montage(folder / "montage.png", volume, result, network.info)
        written.append(folder / "montage.png")
    _report(result, volume, written)


def _demo_window(keep_ratio: tuple[float, ...] | float | None) -> None:
    if isinstance(keep_ratio, tuple):
        raise ValueError("the window's slider sets one keep ratio: give one, or use --headless")
    try:
        import napari
    except ImportError as error:
        raise ValueError(
            "napari is not installed: pip install 'napari-tokensparse[all]', or use --headless"
        ) from error
    viewer = napari.Viewer(title="napari-tokensparse demo")
    viewer.open_sample("napari-tokensparse", "mni-brain")
    _, widget = viewer.window.add_plugin_dock_widget("napari-tokensparse", "Segment")
    if keep_ratio is not None:
        widget.keep_ratio.setValue(keep_ratio)
    widget.button.click()
    napari.run()


def _controls(scorer: str, ablate: str | None) -> Controls:
    from napari_tokensparse.engine.infer import Controls

    if ablate not in (None, "encoder"):
        raise ValueError(f"--ablate {ablate}: only 'encoder' can be left out")
    return Controls(scorer=cast("Scorer", scorer), ablate_encoder=ablate is not None)


def _run(
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


def _write_tokens(folder: Path, result: Segmentation, volume: Volume) -> list[Path]:
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


def _report(result: Segmentation, volume: Volume, written: list[Path]) -> None:
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


def _has_display() -> bool:
    """Whether a window can be opened: always assumed on Windows and macOS."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


if __name__ == "__main__":
    main()
