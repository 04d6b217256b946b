"""The command ``train``."""

from __future__ import annotations

import os
import shlex
import signal
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_tokensparse.commands.errors import plain_errors
from napari_tokensparse.commands.options import (
    DebugOption,
    FoldOption,
    LabelsOption,
    ThreadsOption,
    use_threads,
)
from napari_tokensparse.common.untrusted import yaml_value

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from typing import TextIO

    from napari_tokensparse.training.events import Event, Finished
    from napari_tokensparse.training.runconfig import RunConfig


def train(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Option(help="A dataset.json, another list, or a folder with images and labels."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="MODEL_FOLDER", help="Where to.")
    ] = None,
    labels: LabelsOption = None,
    fold: FoldOption = None,
    recipe: Annotated[str | None, typer.Option(help="auto, btcv or brats. [default: auto]")] = None,
    size: Annotated[str | None, typer.Option(help="Size of the network. [default: auto]")] = None,
    start_from: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Model to begin from, a name or a folder: fine-tune."),
    ] = None,
    keep_range: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="Keep ratios to train for. [default: the recipe's]"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.")] = None,
    max_minutes: Annotated[float | None, typer.Option(help="When to stop at the latest.")] = None,
    device: Annotated[
        str | None,
        typer.Option(help="auto, cpu, cuda, cuda:N or mps. [default: napari's setting]"),
    ] = None,
    threads: ThreadsOption = None,
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
    class_names: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="VALUE=NAME", help="Name of a class by its label value."),
    ] = None,
    background: Annotated[
        int | None,
        typer.Option(metavar="VALUE", help="Label value of what was labelled as background."),
    ] = None,
    about: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=TEXT",
            help="For the model's metadata: authors, copyright, data_source, intended_use, task, "
            "description or version.",
        ),
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
    asked = context.params
    given = {name: asked[name] for name in _FIELDS if asked[name] is not None}
    with plain_errors(debug):
        run = _run_config(config, given, resume)
        if run.processes == 1:
            use_threads(threads)
        with _stopping(stop_file) as stop, _log(events) as log:
            finished = _follow(run, resume, stop, log)
        if finished is not None and _is_main():
            from napari_tokensparse.training.events import to_json

            said = f"Wrote {finished.folder} ({finished.reason})"
            typer.echo(to_json(finished) if as_json else said)
    if finished is None or finished.reason == "stopped":
        _say_stopped(run, finished)
        raise typer.Exit(stop.code)


_FIELDS = (
    *("data", "output", "labels", "fold", "recipe", "size", "start_from", "keep_range"),
    *("epochs", "max_minutes", "device", "seed", "validation_share", "workers", "processes"),
    *("skip_bad", "zero_is_unlabelled", "class_names", "background", "et_as_authors"),
    *("about", "overrides"),
)


def _run_config(path: Path | None, given: dict[str, Any], resume: bool) -> RunConfig:
    """Put the options over those of a file: the one given, or on a resume the run's own."""
    from napari_tokensparse.common import settings
    from napari_tokensparse.common.untrusted import one_line
    from napari_tokensparse.model.hub import whole_source
    from napari_tokensparse.training.folder import FOLDER, RUN_FILE
    from napari_tokensparse.training.runconfig import RunConfig

    written = given.get("output", Path()) / FOLDER / RUN_FILE
    if path is None and resume and written.exists():
        path = written
    for name in given.keys() & {"data", "labels"}:  # so that run.yaml can be used anywhere
        given[name] = given[name].absolute()
    if "start_from" in given:
        given["start_from"] = whole_source(given["start_from"])
    own: dict[str, Any] = {"device": settings.current().computing.device}
    base = RunConfig.read(path).model_dump() if path else own
    about = {**base.get("about", {}), **_about(given.pop("about", None) or [])}
    names = {**base.get("class_names", {}), **_names(given.pop("class_names", None) or [])}
    sets = {**base.get("overrides", {}), **_overrides(given.pop("overrides", None) or [])}
    if "output" not in {**base, **given}:
        raise ValueError("-o: give the model folder to write")
    try:
        made = {**base, **given, "about": about, "class_names": names, "overrides": sets}
        return RunConfig(**made)
    except ValueError as error:
        raise ValueError(one_line(error)) from error


def _about(pairs: list[str]) -> dict[str, str]:
    if any("=" not in pair for pair in pairs):
        raise ValueError(f"--about {' '.join(pairs)}: must be FIELD=TEXT")
    return dict(pair.split("=", 1) for pair in pairs)


def _names(pairs: list[str]) -> dict[str, str]:
    if any("=" not in pair for pair in pairs):
        raise ValueError(f"--class {' '.join(pairs)}: must be VALUE=NAME, for example 3=liver")
    return dict(pair.split("=", 1) for pair in pairs)


def _overrides(pairs: list[str]) -> dict[str, Any]:
    if any("=" not in pair for pair in pairs):
        raise ValueError(f"--set {' '.join(pairs)}: must be FIELD=VALUE")
    try:
        return {name: yaml_value(value) for name, value in (p.split("=", 1) for p in pairs)}
    except ValueError as error:
        raise ValueError(f"--set {' '.join(pairs)}: a value is not YAML") from error


class _Stop:
    """Whether to stop after this step: a signal came, or a file appeared."""

    def __init__(self, file: Path | None) -> None:
        self._file, self.code, self._set = file, 0, False

    def __call__(self) -> bool:
        return self._set or (self._file is not None and self._file.exists())

    def signalled(self, number: int, _frame: object) -> None:
        """Remember the signal; a second one ends the process at once."""
        self._set, self.code = True, 128 + number
        if "RANK" in os.environ:  # torchrun passes on what a terminal has sent already
            return
        signal.signal(number, signal.SIG_DFL)
        # Not through a buffer: the signal may have come in the middle of a write to it.
        os.write(2, b"\nStopping after this step; once more ends at once, without a checkpoint\n")


@contextmanager
def _stopping(file: Path | None) -> Iterator[_Stop]:
    stop = _Stop(file)
    before = {n: signal.signal(n, stop.signalled) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _log(path: Path | None) -> Iterator[TextIO | None]:
    """Open the file of events, which gets every line as soon as it is written."""
    if path is None or not _is_main():
        yield None
        return
    _check_log(path)
    with path.open("a", encoding="utf-8", buffering=1) as file:
        yield file


def _check_log(path: Path) -> None:
    """Refuse to append to a file that is no file of events."""
    from napari_tokensparse.training.events import from_json

    if not path.exists() or not path.stat().st_size:
        return
    try:
        with path.open(encoding="utf-8") as file:
            from_json(file.readline())
    except ValueError:
        raise ValueError(f"--events {path}: holds something else; name another file") from None


def _follow(run: RunConfig, resume: bool, stop: _Stop, log: TextIO | None) -> Finished | None:
    """Run it, show what happens, and return the end; None if stopped before the first step."""
    from napari_tokensparse.commands.train_display import RunDisplay
    from napari_tokensparse.training.events import CaseRead, Chosen, Finished, to_json

    with ExitStack() as stack:
        display = stack.enter_context(RunDisplay(list_bad=run.skip_bad)) if _is_main() else None
        for event in stack.enter_context(closing(_events(run, resume, stop))):
            if log is not None:
                log.write(f"{to_json(event)}\n")
            if display is not None:
                display.show(event)
            if isinstance(event, Finished):
                return event
            if isinstance(event, CaseRead | Chosen) and stop.code:
                return None
    raise AssertionError("the run ended without a result")


def _events(run: RunConfig, resume: bool, stop: _Stop) -> Generator[Event]:
    if run.processes > 1 and "RANK" not in os.environ:
        from napari_tokensparse.training.launch import launched

        yield from launched(run, resume=resume, stop=stop)
        return
    from napari_tokensparse.training.run import running

    yield from running(run, resume=resume, stop=stop)


def _say_stopped(run: RunConfig, finished: Finished | None) -> None:
    if not _is_main():
        return
    if finished is None:
        typer.echo("Stopped before a step was done", err=True)
        return
    again = shlex.join(["tokensparse", "train", "--resume", "-o", str(run.output)])
    typer.echo(f"Stopped after step {finished.step}. Go on: {again}", err=True)


def _is_main() -> bool:
    return int(os.environ.get("RANK", "0")) == 0
