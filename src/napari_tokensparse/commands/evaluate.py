"""The command ``evaluate``."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path  # noqa: TC003  # typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_tokensparse.commands.errors import plain_errors
from napari_tokensparse.commands.options import (
    DebugOption,
    DeviceOption,
    FoldOption,
    LabelsOption,
    ModelOption,
    OverwriteOption,
    ThreadsOption,
    ratios_of,
    use_threads,
)
from napari_tokensparse.common.files import written_whole
from napari_tokensparse.common.notes import gathered
from napari_tokensparse.common.ownership import check_apart, check_results, record
from napari_tokensparse.common.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from napari_tokensparse.datasets.cases import Case, DataSet
    from napari_tokensparse.scoring.evaluate import CaseScores

FILES = ("scores.csv", "scores.json")


def evaluate(
    data: Annotated[
        Path,
        typer.Option(help="A dataset.json, another list, or a folder with images and labels."),
    ],
    model: ModelOption,
    labels: LabelsOption = None,
    fold: FoldOption = None,
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
    threads: ThreadsOption = None,
    hd95: Annotated[bool, typer.Option(help="Measure surface distances too.")] = True,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="For CSV and JSON.")
    ] = None,
    zero_is_unlabelled: Annotated[
        bool, typer.Option("--zero-is-unlabelled", help="Leave voxels of label 0 out.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Go on without the cases that are bad.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")] = False,
    overwrite: OverwriteOption = False,
    debug: DebugOption = False,
) -> None:
    """Dice and HD95 (mm) of a model per case and class, on each case's own grid."""
    with plain_errors(debug):
        from napari_tokensparse.datasets.cases import read_data_set
        from napari_tokensparse.model.checkpoints import load_model
        from napari_tokensparse.scoring.evaluate import evaluating
        from napari_tokensparse.segmenting.infer import choose_device

        if output is not None:
            given = [data, *([labels] if labels else [])]
            check_results(output, FILES, given, overwrite=overwrite)
        data_set = read_data_set(data, labels, fold)
        if output is not None:
            check_apart([output / name for name in FILES], data_set.files)
        use_threads(threads)
        network, chosen = load_model(model), choose_device(device)
        if zero_is_unlabelled:
            data_set = replace(data_set, unlabelled=0)
        for note in data_set.notes:
            typer.echo(f"Note: {note}", err=True)
        cases = _good(data_set, _cases(data_set, split), skip_bad)
        ratios = [ratios_of(text) for text in keep_ratio or []] or [None]
        scores = evaluating(cases, network, ratios, data_set.unlabelled, device=chosen, hd95=hd95)
        rows = [row for s in _with_progress(scores, len(cases) * len(ratios)) for row in _rows(s)]
        if output is not None:
            _write_rows(output, rows)
        typer.echo(json.dumps({"rows": rows}, indent=1)) if as_json else _print_rows(rows)


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


def _good(data_set: DataSet, cases: Sequence[Case], skip_bad: bool) -> tuple[Case, ...]:
    """Check the cases as before training; report all bad ones at once, or leave them out."""
    from napari_tokensparse.datasets.checks import checking, report, without_bad

    chosen = replace(data_set, training=tuple(cases), validation=())
    checked = list(checking(chosen))
    if not any(case.problems for case in checked):
        return chosen.training
    if not skip_bad:
        raise ValueError(report(checked))
    return without_bad(chosen, checked).training


def _with_progress(scores: Iterable[CaseScores], total: int) -> Iterator[CaseScores]:
    """Pass scores on, with a line on stderr for each, and at the end one for each note."""
    noted: dict[str, tuple[str, ...]] = {}
    for done, score in enumerate(scores, start=1):
        mean = _mean(score.dice.values())
        at = f"{score.case}, keep ratio {_ratio_text(score)}"
        typer.echo(f"{done} of {total}: {at}: mean Dice {_figure(mean)}", err=True)
        noted[score.case] = tuple(dict.fromkeys((*noted.get(score.case, ()), *score.notes)))
        yield score
    for line in gathered(noted.items()):
        typer.echo(f"Note: {printable(line)}", err=True)


def _rows(scores: CaseScores) -> list[dict[str, Any]]:
    return [
        {
            "case": scores.case,
            "keep_ratio": _ratio_text(scores),
            "class": name,
            "dice": _known(dice),
            "hd95_mm": _known(scores.hd95_mm[name]),
            "notes": "; ".join(scores.notes),
        }
        for name, dice in scores.dice.items()
    ]


def _ratio_text(scores: CaseScores) -> str:
    """Write one number, or one per stage where they differ."""
    same = len(set(scores.keep_ratio)) == 1
    return ",".join(f"{r:g}" for r in (scores.keep_ratio[:1] if same else scores.keep_ratio))


def _known(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def _write_rows(folder: Path, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in FILES]
    with written_whole(paths[0]) as part, part.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    with written_whole(paths[1]) as part:
        part.write_text(json.dumps({"rows": rows}, indent=1), encoding="utf-8")
    record(folder, paths)


def _print_rows(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("case", "keep ratio", "class", "Dice", "HD95 (mm)")
    for row in rows:
        figures = [_figure(row[name]) for name in ("dice", "hd95_mm")]
        table.add_row(row["case"], row["keep_ratio"], row["class"], *figures)
    for ratio in dict.fromkeys(row["keep_ratio"] for row in rows):
        of_ratio = [row for row in rows if row["keep_ratio"] == ratio]
        means = [_figure(_mean(row[name] for row in of_ratio)) for name in ("dice", "hd95_mm")]
        table.add_row("mean", ratio, "all", *means, style="bold")
    Console().print(table)


def _mean(values: Iterable[float | None]) -> float | None:
    """Mean of what is known."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    return sum(known) / len(known) if known else None


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
