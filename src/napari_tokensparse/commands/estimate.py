"""What ``tokensparse segment`` says before a run: ``--dry-run``, and a run that does not fit."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from napari_tokensparse.commands.options import asked_options, read_case, use_threads
from napari_tokensparse.commands.shown import say_about
from napari_tokensparse.common.cache import cache_folder
from napari_tokensparse.common.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.segmenting.options import Options
    from napari_tokensparse.segmenting.result import Segmentation
    from napari_tokensparse.volumes.volume import Volume


def dry_run(asked: Mapping[str, Any]) -> int:
    """Print what a run would take; the machine is measured first if that was not done before."""
    from napari_tokensparse.model.checkpoints import load_model
    from napari_tokensparse.segmenting.estimating.estimate import estimating
    from napari_tokensparse.segmenting.estimating.rates import value_of

    use_threads(asked["threads"])
    network = load_model(asked["model"])
    options = asked_options(asked, network)
    volume = read_case(asked["scan"], asked["channel"], network, options.frame, options.series)
    say_about(volume, network)
    estimate = value_of(estimating(volume, _placed(network, options), options))
    if asked["as_json"]:
        said = {**asdict(estimate), "span": estimate.span, "fits": estimate.room.is_enough}
        typer.echo(json.dumps(said))
        return 0
    typer.echo(str(estimate))
    if not estimate.room.is_enough:
        typer.echo(f"Warning: {printable(estimate.room.lacking(volume.name))}", err=True)
    return 0


def learning(volume: Volume, network: SCD, options: Options) -> Callable[[Segmentation], None]:
    """Return what learns from a run that begins now how long `dry_run` says the next one takes.

    Where nothing was measured yet, by a dry run or the window, it imports and does nothing.
    """
    if not cache_folder("calibration").is_dir():
        return lambda _: None
    from napari_tokensparse.segmenting.estimating.learned import learn_from
    from napari_tokensparse.segmenting.estimating.timing import Stopwatch

    watch = Stopwatch()
    watch.slowdown()

    def learn(result: Segmentation) -> None:
        watch.slowdown()
        learn_from(volume, network, options, result, watch.busy)

    return learn


def check_room(volume: Volume, network: SCD, options: Options, anyway: bool) -> None:
    """Refuse a run that does not fit into memory; with ``--anyway`` it is only said.

    Raises
    ------
    ValueError
        In one line: how much it takes, how much is free, what to do.
    """
    from napari_tokensparse.segmenting.estimating.estimate import room

    memory = room(volume, _placed(network, options), options.box(volume), options.maps)
    if memory.is_enough:
        return
    lacking = memory.lacking(volume.name)
    if not anyway:
        raise ValueError(f"{lacking}; --anyway tries all the same")
    typer.echo(f"Warning: {printable(lacking)}", err=True)


def _placed(network: SCD, options: Options) -> SCD:
    from napari_tokensparse.segmenting.infer import choose_device

    return network if options.device is None else network.to(choose_device(options.device))
