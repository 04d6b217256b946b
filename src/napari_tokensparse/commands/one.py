"""``tokensparse segment`` of one scan: read, run, write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_tokensparse.commands.estimate import check_room, learning
from napari_tokensparse.commands.options import (
    asked_options,
    asked_scans,
    check_folder,
    check_table,
    use_threads,
    with_pins,
)
from napari_tokensparse.commands.shown import report, run_shown
from napari_tokensparse.common.lean import import_monai

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_tokensparse.segmenting.options import Options


def segment_one(asked: Mapping[str, Any]) -> int:
    """Segment one scan as the options of ``tokensparse segment`` say; returns the exit status."""
    import_monai()
    from napari_tokensparse.model.checkpoints import load_model
    from napari_tokensparse.outputs.receipts import FinishedRun, input_scan
    from napari_tokensparse.outputs.regionfiles import check_regions
    from napari_tokensparse.outputs.runfiles import RunFiles, check_run_files, write_all
    from napari_tokensparse.outputs.writing import check_output
    from napari_tokensparse.segmenting.infer import check_options, read_input
    from napari_tokensparse.segmenting.pinmasks import mask_file

    output: Path = asked["output"]
    check_output(output)
    check_table(asked["table"])
    check_folder(asked["tokens"])
    use_threads(asked["threads"])
    network = load_model(asked["model"])
    options = asked_options(asked, network)
    check_options(options)
    if asked["regions"] is not None:
        check_regions(network.info)
    beside = ("legend", "receipt", "table", "tokens", "regions")
    files = RunFiles(
        output,
        **{name: asked[name] for name in beside},
        confidence=options.confidence,
        probabilities=options.probabilities,
        overwrite=asked["overwrite"],
    )
    scans = asked_scans(asked["scan"], asked["channel"], options.frame, options.series)
    masks = filter(None, map(mask_file, (asked["pin"], asked["drop"])))
    check_run_files(files, network, [*scans.values(), *masks])
    volume = read_input(scans, network.info, frame=options.frame, series=options.series)
    check_output(output, volume, network.info)
    options = with_pins(options, asked, volume, network)
    check_room(volume, network, options, asked["anyway"])
    learn = learning(volume, network, options)
    result = run_shown(volume, network, options)
    if files.receipt:
        options = _with_number(options, scans)
    run = FinishedRun(volume, network, options, result)
    inputs = (input_scan(path, channel) for channel, path in scans.items())
    report(result, volume, write_all(files, run, inputs).files)
    learn(result)
    return 0


def _with_number(options: Options, scans: Mapping[str, Path]) -> Options:
    """Name a series by its number, where a person gave the unique name of it."""
    if options.series is None:
        return options
    from napari_tokensparse.volumes.dicom.folder import number_of

    return options.model_copy(update={"series": number_of(scans[""], options.series)})
