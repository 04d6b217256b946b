"""The command ``bench``: what networks, training, whole volumes and previews cost here."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003  # typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from napari_tokensparse.commands.errors import plain_errors
from napari_tokensparse.commands.options import DebugOption  # noqa: TC001  # typer reads them

if TYPE_CHECKING:
    from napari_tokensparse.benchmarks.plan import Plan
    from napari_tokensparse.benchmarks.report import Change, Report
    from napari_tokensparse.volumes.windows import Shape


def bench(
    macs: Annotated[bool, typer.Option("--macs", help="Count multiply-accumulates.")] = False,
    inference: Annotated[
        bool, typer.Option("--inference", help="Time one window: pruned, dense, MONAI's UNETR.")
    ] = False,
    bfloat16: Annotated[
        bool, typer.Option("--bfloat16", help="Time networks in bfloat16 beside float32, on a CPU.")
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Time networks whose decoder is in int8, on a CPU.")
    ] = False,
    sparse: Annotated[
        bool, typer.Option("--sparse", help="Time decoding where few tokens hold something.")
    ] = False,
    training: Annotated[
        bool, typer.Option("--training", help="Time optimisation steps, pruned and dense.")
    ] = False,
    volume: Annotated[
        bool, typer.Option("--volume", help="Time whole volumes, and MONAI's inferer beside them.")
    ] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Time the live preview on the sample brain.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer rounds of less: a first table in a minute.")
    ] = False,
    presets: Annotated[
        str | None, typer.Option(metavar="NAME[,…]", help="Only these sizes.")
    ] = None,
    keep_ratios: Annotated[
        str | None,
        typer.Option(metavar="RATIO[,…]", help="Keep ratios to try, the same at each stage."),
    ] = None,
    backends: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[,…]",
            help="How networks are run: plain, openvino, int8, bfloat16, compile. [default: plain "
            "and, where it is installed, openvino]",
        ),
    ] = None,
    voxels: Annotated[
        str | None,
        typer.Option(
            metavar="HxWxD[,…]", help="Whole volumes of noise of these sizes, multiples of 8."
        ),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Rounds that count; medians are over them."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Threads to compute with. [default: torch's choice]"),
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(metavar="OLD.json", help="Set the new figures by those of an earlier --json."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not tables.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="NEW.json", help="Write the JSON to a file, too."),
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Measure what the networks and the engine cost on this machine."""
    wanted = {
        "macs": macs,
        "inference": inference,
        "bfloat16": bfloat16,
        "int8": int8,
        "sparse": sparse,
        "training": training,
        "volume": volume,
        "preview": preview,
    }
    with plain_errors(debug):
        if not any(wanted.values()):
            options = ", ".join(f"--{name}" for name in wanted)
            raise ValueError(f"nothing to measure: give one or more of {options}")
        _check_output(output)
        names, ratios, shapes = _names(presets), _ratios(keep_ratios), _shapes(voxels)
        from napari_tokensparse.benchmarks.report import compare as compared
        from napari_tokensparse.benchmarks.report import read_report

        old = None if compare is None else read_report(compare)
        _pin(threads)
        from napari_tokensparse.benchmarks.plan import make_plan

        plan = make_plan(names, ratios, _names(backends), rounds, quick, shapes)
        report = _measured([name for name, want in wanted.items() if want], plan)
        if output is not None:
            _write(report, output)
        _show(report, None if old is None else compared(report, old), as_json)


def _check_output(path: Path | None) -> None:
    """Refuse a file that could not be written, before anything is measured."""
    if path is None:
        return
    if path.exists():
        raise ValueError(f"{path}: is there already; name a new file")
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent}: no such folder; create it first")


def _write(report: Report, path: Path) -> None:
    from napari_tokensparse.common.files import written_whole

    with written_whole(path) as part:
        part.write_text(report.to_json() + "\n", encoding="utf-8")
    typer.echo(f"Wrote {path}", err=True)


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(text.split(","))


def _ratios(text: str | None) -> tuple[float, ...] | None:
    from napari_tokensparse.commands.options import ratios_of

    ratios = ratios_of(text)
    return (ratios,) if isinstance(ratios, float) else ratios


def _shapes(text: str | None) -> tuple[Shape, ...] | None:
    """Read sizes like ``256x256x200``."""
    if text is None:
        return None
    shapes = []
    for each in text.split(","):
        try:
            h, w, d = map(int, each.lower().split("x"))
        except ValueError as error:
            raise ValueError(f"voxels {each!r}: three numbers like 256x256x200") from error
        shapes.append((h, w, d))
    return tuple(shapes)


def _pin(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _measured(wanted: list[str], plan: Plan) -> Report:
    """Run the benchmark, and say on stderr how far it is."""
    from napari_tokensparse.benchmarks.report import Report
    from napari_tokensparse.benchmarks.sections import benchmark
    from napari_tokensparse.benchmarks.timing import Round

    for event in benchmark(wanted, plan):
        if isinstance(event, Report):
            return event
        if isinstance(event, Round):
            typer.echo(f"{event.what}: round {event.done + 1} of {event.total}", err=True)
        else:
            typer.echo(f"Note: {event.text}", err=True)
    raise AssertionError("the benchmark ended without a report")


def _show(report: Report, changes: list[Change] | None, as_json: bool) -> None:
    if not as_json:
        from napari_tokensparse.commands.bench_tables import print_changes, print_report

        print_report(report)
        if changes is not None:
            print_changes(changes)
        return
    content = json.loads(report.to_json())
    if changes is not None:
        content["compared"] = [vars(change) | {"row": vars(change.row)} for change in changes]
    typer.echo(json.dumps(content, indent=1))
