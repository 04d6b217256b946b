"""What ``tokensparse segment`` says before a run: ``--dry-run``, and a run that does not fit."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from napari_tokensparse.common.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.volumes.region import Box
    from napari_tokensparse.volumes.volume import Volume


def say_estimate(
    volume: Volume,
    network: SCD,
    keep_ratio: float | Sequence[float] | None,
    device: str,
    region: Box | None,
    backend: str,
    as_json: bool,
    sharpen: bool | None = None,
) -> None:
    """Print what a run would take; the machine is measured first if that was not done before."""
    from napari_tokensparse.segmenting.estimating.estimate import estimate
    from napari_tokensparse.segmenting.infer import choose_device

    placed = network.to(choose_device(device))
    found = estimate(volume, placed, keep_ratio, region=region, backend=backend, sharpen=sharpen)
    if as_json:
        said = {**asdict(found), "span": found.span, "fits": found.room.is_enough}
        typer.echo(json.dumps(said))
        return
    typer.echo(str(found))
    if not found.room.is_enough:
        typer.echo(f"Warning: {printable(found.room.lacking(volume.name))}", err=True)


def check_room(volume: Volume, network: SCD, device: str, region: Box | None, anyway: bool) -> None:
    """Refuse a run that does not fit into memory; with ``--anyway`` it is only said.

    Raises
    ------
    ValueError
        In one line: how much it takes, how much is free, what to do.
    """
    from napari_tokensparse.segmenting.estimating.estimate import room
    from napari_tokensparse.segmenting.infer import choose_device

    found = room(volume, network.to(choose_device(device)), region)
    if found.is_enough:
        return
    lacking = found.lacking(volume.name)
    if not anyway:
        raise ValueError(f"{lacking}; --anyway tries all the same")
    typer.echo(f"Warning: {printable(lacking)}", err=True)
