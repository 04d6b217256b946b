"""``tokensparse segment --from-receipt``: a run again, and whether it gives the same labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from napari_tokensparse.commands.estimate import check_room
from napari_tokensparse.commands.shown import run_shown

if TYPE_CHECKING:
    from pathlib import Path

    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.outputs.receipts import Receipt
    from napari_tokensparse.outputs.repeat import Comparison

CHANGEABLE = ("model", "device", "backend", "precision")


def repeat(
    file: Path,
    scan: Path | None,
    output: Path | None,
    changed: dict[str, str],
    threads: int | None = None,
    anyway: bool = False,
    overwrite: bool = False,
) -> int:
    """Repeat the run of a receipt and say whether the labels are identical: 0 if so, else 1.

    Parameters
    ----------
    file
        The receipt.
    scan
        Where the scan lies; beside the receipt if not given.
    output
        Where to write the labels, with a receipt of their own; they are only compared if not given.
    changed
        Those of `CHANGEABLE` that are not to be as the receipt says.
    threads
        To compute with: as many as then if not given, for last digits depend on it.
    anyway
        Whether it is run even if memory is not likely to be enough.
    overwrite
        Whether files at ``output`` that are not as they were written are replaced.
    """
    from napari_tokensparse.compute.devices import use_threads
    from napari_tokensparse.outputs.receipts import FinishedRun, read_receipt, receipt_of
    from napari_tokensparse.outputs.repeat import compare, scans_of
    from napari_tokensparse.outputs.runfiles import (
        RunFiles,
        Written,
        check_run_files,
        write_all,
    )
    from napari_tokensparse.outputs.writing import check_output
    from napari_tokensparse.segmenting.infer import read_input

    if output is not None:
        check_output(output)
    old = read_receipt(file)
    scans = scans_of(old, file, scan)
    use_threads(old.machine.threads if threads is None else threads)
    network = _network(old, file, changed.get("model"))
    files = None if output is None else RunFiles(output, old.options.legend, overwrite=overwrite)
    if files is not None:
        check_run_files(files, network, scans.values())
    labels_alone = {"confidence": False, "probabilities": ()}
    same = {**changed, **labels_alone, "model": old.options.model}
    options = old.options.model_copy(update=same)
    volume = read_input(scans, network.info, frame=options.frame, series=options.series)
    if output is not None:
        check_output(output, volume, network.info)
    check_room(volume, network, options, anyway)
    run = FinishedRun(volume, network, options, run_shown(volume, network, options))
    compared = compare(run.result.labels, old, file.parent)  # before they may be overwritten
    if files is None:
        written = Written([], receipt_of(run, old.inputs, None))
    else:
        written = write_all(files, run, old.inputs)
    assert written.receipt is not None  # it is asked for
    for path in written.files:
        typer.echo(f"Wrote {path}")
    for line in _verdict(compared, old, written.receipt):
        typer.echo(line)
    return int(not compared.identical)


def _network(receipt: Receipt, file: Path, model: str | None) -> SCD:
    """Load the model of a receipt: among those known by name, beside the receipt, or as given."""
    from napari_tokensparse.model.checkpoints import load_model
    from napari_tokensparse.outputs.receipts import model_used
    from napari_tokensparse.outputs.repeat import check_model
    from napari_tokensparse.segmenting.stripping import stripper_of

    beside = file.parent / receipt.options.model
    source = beside if beside.is_dir() else receipt.options.model
    network = load_model(source if model is None else model)
    stripper = network if receipt.stripper is None else stripper_of(network)
    used, by = (model_used(each.config, each.info) for each in (network, stripper))
    check_model(receipt, used, None if stripper is network else by)
    return network


def _verdict(compared: Comparison, old: Receipt, new: Receipt) -> list[str]:
    from napari_tokensparse.outputs.repeat import changes

    i, j, k = new.output.shape
    if compared.identical:
        return [f"Identical: all {i * j * k} voxels have the labels of the receipt."]
    if compared.differing is None:
        first = (
            f"Not identical; {compared.old or 'the file of the labels'} is not there as it was, "
        )
        return [f"{first}so that no voxels can be counted.", *changes(old, new)]
    first = f"Not identical: {compared.differing} of {i * j * k} voxels differ from {compared.old}."
    return [first, *changes(old, new)]
