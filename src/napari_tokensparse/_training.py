"""The commands ``train`` and ``evaluate``."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from napari_tokensparse._options import (
    DebugOption,
    DeviceOption,
    ModelOption,
    plain_errors,
    ratios_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari_tokensparse.data.cases import Case, DataSet
    from napari_tokensparse.engine.evaluate import CaseScores
    from napari_tokensparse.engine.events import Event, Finished
    from napari_tokensparse.engine.runconfig import RunConfig

LabelsOption = Annotated[
    Path | None, typer.Option(help="Folder of labels, where DATA is a folder of images.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")]


def train(
    data: Annotated[
        Path | None, typer.Option(help="A dataset.json, or a folder with images and labels.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="MODEL_FOLDER", help="Where to.")
    ] = None,
    labels: LabelsOption = None,
    recipe: Annotated[str | None, typer.Option(help="auto, btcv or brats. [default: auto]")] = None,
    size: Annotated[str | None, typer.Option(help="Size of the network. [default: auto]")] = None,
    keep_range: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="Keep ratios to train for. [default: 0.1 1]"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.")] = None,
    max_minutes: Annotated[float | None, typer.Option(help="When to stop at the latest.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Key of every random choice.")] = None,
    validation_share: Annotated[
        float | None, typer.Option(help="Share of cases to hold out where none are listed.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that prepare windows.")] = None,
    processes: Annotated[int | None, typer.Option(help="Training processes here.")] = None,
    skip_bad: Annotated[
        bool | None, typer.Option("--skip-bad", help="Go on without the cases that are bad.")
    ] = None,
    zero_is_unlabelled: Annotated[
        bool | None, typer.Option("--zero-is-unlabelled", help="Label 0 is not background.")
    ] = None,
    et_as_authors: Annotated[
        bool | None, typer.Option("--et-as-authors", help="BraTS: enhancing tumour is label 2.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Any field of TrainConfig."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A run.yaml to repeat; options given here go before it.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint.")] = False,
    events: Annotated[
        Path | None, typer.Option(help="Append every event to this file, a line of JSON each.")
    ] = None,
    stop_file: Annotated[
        Path | None, typer.Option(help="Stop after the step once this file exists.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the end as JSON.")] = False,
    debug: DebugOption = False,
) -> None:
    """Train a model on labelled volumes; Ctrl-C stops after the step and keeps a checkpoint."""
    given = {name: value for name, value in locals().items() if name in _FIELDS and value}
    with plain_errors(debug):
        run = _run_config(config, given, resume)
        with _stopping(stop_file) as stop, ExitStack() as stack:
            log = stack.enter_context(events.open("a", buffering=1)) if events else None
            finished = _follow(run, resume, stop, log, as_json)
    if finished.reason == "stopped":
        _say(f"Stopped after step {finished.step}. Go on with --resume -o {run.output}")
        raise typer.Exit(stop.code)


_FIELDS = (
    *("data", "output", "labels", "recipe", "size", "keep_range", "epochs", "max_minutes"),
    *("device", "seed", "validation_share", "workers", "processes", "skip_bad"),
    *("zero_is_unlabelled", "et_as_authors", "overrides"),
)


def evaluate(
    data: Annotated[Path, typer.Option(help="A dataset.json, or a folder with images and labels.")],
    model: ModelOption,
    labels: LabelsOption = None,
    keep_ratio: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RATIO", help="Give it once for each keep ratio. [default: the model's]"
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(help="auto (validation cases if listed, else all), training, all …")
    ] = "auto",
    device: DeviceOption = "auto",
    hd95: Annotated[bool, typer.Option(help="Measure surface distances too.")] = True,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="For CSV and JSON.")
    ] = None,
    zero_is_unlabelled: Annotated[
        bool, typer.Option("--zero-is-unlabelled", help="Leave voxels of label 0 out.")
    ] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Dice and HD95 (mm) of a model per case and class, on each case's own grid."""
    with plain_errors(debug):
        from napari_tokensparse.data.cases import read_data_set
        from napari_tokensparse.engine.evaluate import evaluating
        from napari_tokensparse.engine.infer import choose_device
        from napari_tokensparse.model.checkpoints import load_model

        network, chosen = load_model(model), choose_device(device)
        cases = _cases(read_data_set(data, labels), split)
        ratios = [ratios_of(text) for text in keep_ratio or []] or [None]
        unlabelled = 0 if zero_is_unlabelled else None
        scores = evaluating(cases, network, ratios, unlabelled, device=chosen, hd95=hd95)
        rows = [row for score in scores for row in _rows(score)]
        if output is not None:
            _write_rows(output, rows)
        typer.echo(json.dumps({"rows": rows}, indent=1)) if as_json else _print_rows(rows)


def _run_config(path: Path | None, given: dict[str, Any], resume: bool) -> RunConfig:
    """Put the options over those of a file: the one given, or on a resume the run's own."""
    from napari_tokensparse.engine.runconfig import RunConfig, one_line

    if path is None and resume and "output" in given and "data" not in given:
        path = given["output"] / "training" / "run.yaml"
    base = RunConfig.read(path).model_dump() if path else {}
    sets = {**base.get("overrides", {}), **_overrides(given.pop("overrides", None) or [])}
    if "output" not in {**base, **given}:
        raise ValueError("-o: give the model folder to write")
    try:
        return RunConfig(**{**base, **given, "overrides": sets})
    except ValueError as error:
        raise ValueError(one_line(error)) from error


def _overrides(pairs: list[str]) -> dict[str, Any]:
    if any("=" not in pair for pair in pairs):
        raise ValueError(f"--set {' '.join(pairs)}: must be FIELD=VALUE")
    return {name: yaml.safe_load(value) for name, value in (p.split("=", 1) for p in pairs)}


class _Stop:
    """Whether to stop after this step: a signal came, or a file appeared."""

    def __init__(self, file: Path | None) -> None:
        self._file, self.code, self._set = file, 0, False

    def __call__(self) -> bool:
        return self._set or (self._file is not None and self._file.exists())

    def signalled(self, number: int, _frame: object) -> None:
        """Remember the signal; a second one ends the process at once."""
        self._set, self.code = True, 128 + number
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def _stopping(file: Path | None) -> Iterator[_Stop]:
    stop = _Stop(file)
    before = {n: signal.signal(n, stop.signalled) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _follow(
    run: RunConfig, resume: bool, stop: Callable[[], bool], log: Any, as_json: bool
) -> Finished:
    """Run it, tell what happens on stderr, and return the end."""
    from napari_tokensparse.engine.events import Finished, to_json

    event: Event | None = None
    for event in _events(run, resume, stop):
        if _is_main():
            if log is not None:
                log.write(f"{to_json(event)}\n")
            _tell(event)
    assert isinstance(event, Finished)
    if _is_main():
        typer.echo(to_json(event) if as_json else f"Wrote {event.folder} ({event.reason})")
    return event


def _events(run: RunConfig, resume: bool, stop: Callable[[], bool]) -> Iterator[Event]:
    if run.processes > 1:
        from napari_tokensparse.engine.launch import launched

        return launched(run, resume=resume, stop=stop)
    from napari_tokensparse.engine.runs import running

    return running(run, resume=resume, stop=stop)


def _tell(event: Event) -> None:
    """Say an event in a line, the steps now and then."""
    from napari_tokensparse.engine.events import CaseRead, Chosen, StepDone, Validated

    if isinstance(event, CaseRead) and event.done == event.total:
        _say(f"Read {event.total} cases")
    elif isinstance(event, Chosen):
        _say(f"Recipe {event.recipe}: " + "\n  ".join(event.reasons))
    elif isinstance(event, StepDone) and (event.step % 20 == 0 or event.step == 1):
        _say(f"step {event.step}: loss {event.loss:.3f}, {100 * event.share:.0f} % done")
    elif isinstance(event, Validated):
        classes = ", ".join(f"{name} {dice:.3f}" for name, dice in event.dice.items())
        where = "held-out cases" if event.held_out else "a training case"
        _say(f"step {event.step}: mean Dice {event.mean_dice:.3f} on {where} ({classes})")


def _say(line: str) -> None:
    if _is_main():
        typer.echo(line, err=True)


def _is_main() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def _cases(data_set: DataSet, split: str) -> Sequence[Case]:
    every = (*data_set.training, *data_set.validation)
    splits = {
        "auto": data_set.validation or every,
        "validation": data_set.validation,
        "training": data_set.training,
        "all": every,
    }
    if split not in splits:
        raise ValueError(f"--split {split}: choose one of {', '.join(splits)}")
    if not splits[split]:
        raise ValueError(f"{data_set.name}: lists no {split} cases; choose another --split")
    return splits[split]


def _rows(scores: CaseScores) -> list[dict[str, Any]]:
    return [
        {
            "case": scores.case,
            "keep_ratio": ",".join(f"{r:g}" for r in dict.fromkeys(scores.keep_ratio)),
            "class": name,
            "dice": _known(dice),
            "hd95_mm": _known(scores.hd95_mm[name]),
        }
        for name, dice in scores.dice.items()
    ]


def _known(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def _write_rows(folder: Path, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "scores.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    (folder / "scores.json").write_text(json.dumps({"rows": rows}, indent=1), encoding="utf-8")


def _print_rows(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("case", "keep ratio", "class", "Dice", "HD95 (mm)")
    for row in rows:
        figures = [f"{v:.3f}" if v is not None else "–" for v in (row["dice"], row["hd95_mm"])]
        table.add_row(row["case"], row["keep_ratio"], row["class"], *figures)
    for ratio in dict.fromkeys(row["keep_ratio"] for row in rows):
        found = [r["dice"] for r in rows if r["keep_ratio"] == ratio and r["dice"] is not None]
        mean = f"{sum(found) / len(found):.3f}" if found else "–"
        table.add_row("mean", ratio, "all", mean, "", style="bold")
    Console().print(table)
