"""The commands ``sweep`` and ``audit``."""

from __future__ import annotations

import json
from importlib.util import find_spec
from itertools import chain
from pathlib import Path  # typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import typer

from napari_tokensparse.commands.errors import plain_errors
from napari_tokensparse.commands.options import (
    DEFAULT_MODEL,
    ChannelOption,
    DebugOption,
    DeviceOption,
    DropOption,
    FrameOption,
    ImportanceOption,
    KeepOption,
    ModelOption,
    OverwriteOption,
    PinOption,
    RegionOption,
    ScanArgument,
    SeriesOption,
    ThreadsOption,
    input_files,
    keep_ratios_of,
    ratios_of,
    read_case,
    region_of,
    use_threads,
    with_pins,
)
from napari_tokensparse.commands.shown import say_about, say_notes
from napari_tokensparse.common.extras import lacking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from rich.table import Table

    from napari_tokensparse.inspecting.audit import Audit
    from napari_tokensparse.inspecting.progress import RunProgress
    from napari_tokensparse.inspecting.sweep import Sweep
    from napari_tokensparse.model.controls import Scorer
    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.volumes.volume import Volume

T = TypeVar("T", "Audit", "Sweep")

DEFAULT_RATIOS = "0.1,0.25,0.5,1.0"
DEFAULT_SCORERS = "learned,random,intensity"
SWEEP_FILES = ("sweep.csv", "sweep.json", "sweep.png")
AUDIT_FILES = ("components.csv", "classes.csv", "audit.json", "difference.nii.gz")
LISTED = 20
"""Components that are shown; the files hold all."""

FolderOption = Annotated[
    Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the results.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")]


def sweep(
    context: typer.Context,
    output: FolderOption,
    scan: ScanArgument = None,
    channel: ChannelOption = None,
    frame: FrameOption = None,
    series: SeriesOption = None,
    keep_ratios: Annotated[
        str,
        typer.Option(metavar="RATIO,RATIO…", help="Of each stage, in (0, 1]; 1.0 is always run."),
    ] = DEFAULT_RATIOS,
    labels: Annotated[
        Path | None, typer.Option(help="True labels on IN's grid, to compare with as well.")
    ] = None,
    scorers: Annotated[
        str, typer.Option(metavar="SCORER,…", help="Of learned, random, intensity, foreground.")
    ] = DEFAULT_SCORERS,
    by_importance: Annotated[
        bool,
        typer.Option(
            "--by-importance",
            help="Prune by importance too, at thresholds that leave about as many tokens.",
        ),
    ] = False,
    region: RegionOption = None,
    model: ModelOption = DEFAULT_MODEL,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
    overwrite: OverwriteOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure agreement with keep ratio 1.0, time, GMACs and memory at several keep ratios."""
    with plain_errors(debug):
        from napari_tokensparse.common.ownership import check_results
        from napari_tokensparse.inspecting.sweep import Sweep, sweeping

        asked, inputs = context.params, input_files(scan, channel, labels)
        table, figures, curve = check_results(output, SWEEP_FILES, inputs, overwrite=overwrite)
        network, volume, where = _read(asked)
        events = sweeping(
            volume,
            network,
            _ratios(keep_ratios),
            labels=None if labels is None else _true_labels(labels),
            scorers=cast("list[Scorer]", [name.strip() for name in scorers.split(",")]),
            by_importance=by_importance,
            **where,
        )
        result = _last(_shown(events, output), Sweep)
        written = [result.to_csv(table), result.to_json(figures), *_drawn(curve, result)]
        _finish(asked, result, written, _print_sweep)


def audit(
    context: typer.Context,
    output: FolderOption,
    scan: ScanArgument = None,
    channel: ChannelOption = None,
    frame: FrameOption = None,
    series: SeriesOption = None,
    keep_ratio: KeepOption = None,
    importance: ImportanceOption = None,
    pin: PinOption = None,
    drop: DropOption = None,
    region: RegionOption = None,
    model: ModelOption = DEFAULT_MODEL,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
    overwrite: OverwriteOption = False,
    debug: DebugOption = False,
) -> None:
    """Tell what pruning changed, against keep ratio 1.0: classes and connected components."""
    with plain_errors(debug):
        from napari_tokensparse.common.ownership import check_results
        from napari_tokensparse.inspecting.audit import Audit, auditing
        from napari_tokensparse.segmenting.options import options_for
        from napari_tokensparse.segmenting.pinmasks import mask_file
        from napari_tokensparse.volumes.volume import write_nifti

        asked, given = context.params, keep_ratios_of(context.params)
        masks = filter(None, map(mask_file, (pin, drop)))
        inputs = [*input_files(scan, channel), *masks]
        places = check_results(output, AUDIT_FILES, inputs, overwrite=overwrite)
        parts, classes, figures, difference = places
        network, volume, where = _read(asked)
        options = options_for(network, given, importance=importance)
        pruned = with_pins(options, asked, volume, network)
        where |= {name: getattr(pruned, name) for name in ("importance", "pin", "drop")}
        events = auditing(volume, network, pruned.keep_ratio, **where)
        result = _last(_shown(events, output), Audit)
        written = [
            result.components_to_csv(parts),
            result.classes_to_csv(classes),
            result.to_json(figures),
            write_nifti(difference, result.difference, volume),
        ]
        _finish(asked, result, written, _print_audit)


def _read(asked: Mapping[str, Any]) -> tuple[SCD, Volume, dict[str, Any]]:
    """Read model and scan and say what is to know of them; with which part is run, and where."""
    from napari_tokensparse.model.checkpoints import load_model
    from napari_tokensparse.segmenting.infer import choose_device

    use_threads(asked["threads"])
    network = load_model(asked["model"])
    volume = read_case(asked["scan"], asked["channel"], network, asked["frame"], asked["series"])
    say_about(volume, network)
    region, device = region_of(asked["region"], volume), choose_device(asked["device"])
    return network, volume, {"region": region, "device": device}


def _finish(
    asked: Mapping[str, Any], result: T, written: list[Path], show: Callable[[T], None]
) -> None:
    """Take what was written as ours, and print the result."""
    from napari_tokensparse.common.ownership import record

    record(asked["output"], written)
    if asked["as_json"]:
        typer.echo(json.dumps(result.as_dict(), indent=1))
    else:
        show(result)
        _say_written(written)


def _ratios(text: str) -> tuple[float, ...]:
    ratios = ratios_of(text)
    return ratios if isinstance(ratios, tuple) else (cast("float", ratios),)


def _shown(events: Iterator[Any], folder: Path) -> Iterator[Any]:
    """Pass events on, with a bar and the time left on stderr; the folder is made first."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

    from napari_tokensparse.inspecting.progress import RunProgress

    first = next(events)  # what is refused is refused here, before there is a bar
    folder.mkdir(parents=True, exist_ok=True)
    columns = ("{task.description}", BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=1.0)
        for event in chain([first], events):
            if isinstance(event, RunProgress):
                bar.update(task, description=_doing(event), completed=event.share)
            yield event


def _doing(progress: RunProgress) -> str:
    setting = progress.setting
    return f"Run {progress.run} of {progress.runs}: {setting.kept}, {setting.scorer}"


def _last(events: Iterable[Any], kind: type[T]) -> T:
    *_, last = events
    assert isinstance(last, kind)
    return last


def _true_labels(path: Path) -> Volume:
    from napari_tokensparse.datasets.dataset import whole_labels
    from napari_tokensparse.volumes.reading import read_volume

    labels = whole_labels(read_volume(path))
    say_notes(labels.notes)
    return labels


def _say_written(paths: Iterable[Path]) -> None:
    for path in paths:
        typer.echo(f"Wrote {path}")


def _drawn(path: Path, result: Sweep) -> list[Path]:
    """Draw the curve, or say what that needs: the figures are there without it."""
    if find_spec("matplotlib") is None:
        typer.echo(lacking("the picture of a sweep", "matplotlib", "plots"), err=True)
        return []
    from napari_tokensparse.inspecting.curve import save_curve

    return [save_curve(path, result)]


def _print_sweep(result: Sweep) -> None:
    from rich.console import Console

    table = _table("scorer", "keep", "Dice with 1.0", "s", "GMACs", "MB", "tokens kept")
    if result.has_labels:
        table.add_column("Dice with labels")
    for p in result.points:
        costs = (f"{p.seconds:.2f}", f"{p.gmacs:.2f}", f"{p.peak_mb:.0f}")
        kept = f"{p.tokens_kept} of {p.tokens}"
        true = (_figure(p.mean_labels_dice),) if result.has_labels else ()
        said = f"{p.keep_ratio:g}" if p.importance is None else f"≥ {p.importance:.3g}"
        table.add_row(p.scorer, said, _figure(p.mean_dice), *costs, kept, *true)
    Console().print(table)
    typer.echo(f"On {result.device}; MB: {result.memory}.")


def _print_audit(result: Audit) -> None:
    from rich.console import Console

    stages = range(1, len(result.keep_ratio) + 1)
    classes = _table("class", "mm³ at 1.0", "mm³", "Dice")
    classes.title = "Share of each class's voxels by the stage that pruned their token"
    for header in (*(f"at {n}" for n in stages), "kept"):
        classes.add_column(header)
    for c in result.classes:
        shares = (*(c.rebuilt or [None] * len(stages)), c.kept)
        volumes = (f"{c.before_mm3:.0f}", f"{c.after_mm3:.0f}")
        classes.add_row(c.name, *volumes, _figure(c.dice), *map(_percent, shares))
    parts = _table("class", "change", "mm³ at 1.0", "mm³", "x, y, z (mm)")
    parts.title = "Components that shrank by more than 20 %, vanished or appeared"
    for part in result.components[:LISTED]:
        volumes = (f"{part.before_mm3:.0f}", f"{part.after_mm3:.0f}")
        centre = ", ".join(f"{x:.1f}" for x in part.centre_mm)
        parts.add_row(part.name, part.change, *volumes, centre)
    Console().print(classes)
    Console().print(parts)
    if len(result.components) > LISTED:
        typer.echo(f"{len(result.components) - LISTED} more of them are in the files.")
    counts = result.voxels()
    typer.echo(", ".join(f"{name}: {n} voxels" for name, n in counts.items()))


def _table(*headers: str) -> Table:
    """Return a table narrow enough for 80 columns."""
    from rich.box import SIMPLE
    from rich.table import Table

    return Table(*headers, box=SIMPLE, padding=(0, 1, 0, 0))


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"
