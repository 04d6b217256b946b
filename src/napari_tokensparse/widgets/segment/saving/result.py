"""What Save writes of a result: in a thread, from what was read off the layers before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_tokensparse.widgets.importing import IMPORTING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_tokensparse.outputs.runfiles import RunFiles
    from napari_tokensparse.widgets.results import ShownResult
    from napari_tokensparse.widgets.segment.saving.receipts import Input


_NOT_OURS = "not as written by this plugin"


@dataclass(frozen=True, eq=False)
class LabelsToSave:
    """A layer of labels, read off in the window's thread.

    Attributes
    ----------
    path
        Where to.
    data, meta
        A copy of its voxels (z, y, x), and its attributes as napari hands them to a writer.
    shown
        The result that they are of, with what else they hold as ``kept``; None if it is forgotten.
    inputs
        What was segmented.
    scans
        Files of open scans, which are never written over.
    """

    path: Path
    data: Any
    meta: dict[str, Any]
    shown: ShownResult | None
    inputs: Sequence[Input]
    scans: Sequence[Path]


def files_of(asked: LabelsToSave) -> RunFiles:
    """Return which files are written: names of classes, table and receipt beside the labels."""
    from napari_tokensparse.outputs.runfiles import RunFiles
    from napari_tokensparse.outputs.writing import beside

    path, known = asked.path, asked.shown is not None
    table = beside(path, ".csv") if known else None
    return RunFiles(path, receipt=known, table=table)


def check_place(asked: LabelsToSave) -> None:
    """Refuse labels that could not be written there, before a person is asked anything of them.

    Raises
    ------
    OSError, ValueError
        In one line: they would take the place of a scan, or no such file can be written.
    """
    from napari_tokensparse.common.ownership import check_apart
    from napari_tokensparse.outputs.writing import SEG_SUFFIX, check_output

    path = check_output(asked.path)
    check_apart([path], asked.scans)
    if path.name.lower().endswith(SEG_SUFFIX):
        from napari_tokensparse.outputs.dicomseg import check_source
        from napari_tokensparse.widgets.layervolumes import layer_volume

        check_source(path, layer_volume(asked.data, asked.meta, finite=False)[0])


def in_the_way(asked: LabelsToSave) -> dict[Path, str]:
    """Return files beside the labels that nobody chose in the dialog, and what each is.

    They are those that are there already and are not as we wrote them, and the receipt of other
    labels that are still there.
    """
    from napari_tokensparse.common.ownership import is_ours
    from napari_tokensparse.outputs.classfiles import class_files
    from napari_tokensparse.outputs.receipts import receipt_path
    from napari_tokensparse.outputs.runfiles import earlier_run, written_by

    files = files_of(asked)
    earlier = earlier_run(files.labels)
    beside = [*(class_files(files.labels) if files.has_legend() else ())]
    beside += [] if files.table is None else [files.table]
    ours = written_by(earlier)
    foreign = {path: _NOT_OURS for path in beside if not is_ours(path, ours)}
    receipt = receipt_path(files.labels)
    if files.receipt and receipt.exists():
        name = files.labels.name if earlier is None else earlier.output.name or files.labels.name
        if earlier is None:
            foreign[receipt] = _NOT_OURS
        elif name != files.labels.name and files.labels.with_name(name).exists():
            foreign[receipt] = f"the receipt of {name}, which would be left without one"
    return foreign


def save_labels(asked: LabelsToSave) -> list[Path]:
    """Write labels as their layer holds them, and beside them what is known of them.

    Names and colours of the classes (DICOM SEG and OME-Zarr have them in themselves), the table of
    results and the receipt. Touches no layer.

    Returns
    -------
    list of Path
        The files, the labels first.

    Raises
    ------
    OSError, ValueError
        In one line: the labels would take the place of a scan, or cannot be written.
    """
    with IMPORTING:
        from napari_tokensparse.common.ownership import check_apart
        from napari_tokensparse.outputs.classresults import class_results, write_class_results
        from napari_tokensparse.outputs.receipts import receipt_path, write_receipt
        from napari_tokensparse.widgets.layerfiles import write_layer
        from napari_tokensparse.widgets.layervolumes import layer_volume
        from napari_tokensparse.widgets.segment.saving.receipts import result_receipt

    files = files_of(asked)
    beside = [receipt_path(files.labels), *([files.table] if files.table else [])]
    check_apart(beside, asked.scans)
    written = write_layer(
        asked.path, asked.data, asked.meta, labels=True, scans=asked.scans, replace=True
    )
    if asked.shown is None or files.table is None:
        return written
    labels = layer_volume(asked.data, asked.meta, finite=False)[0].array[0]
    result = replace(asked.shown.segmentation, labels=labels)
    shown, info = replace(asked.shown, segmentation=result), asked.shown.network.info
    classes = class_results(result, shown.volume, info)
    written.append(write_class_results(files.table, classes, shown.volume.channel_names))
    receipt = result_receipt(shown, asked.inputs, written[0], written[1:], files.table)
    return [*written, write_receipt(receipt_path(files.labels), receipt)]


@dataclass(frozen=True, eq=False)
class MapToSave:
    """A map of tokens: importance at a stage, or where they were pruned (``stage`` None)."""

    path: Path
    shown: ShownResult
    stage: int | None
    scans: Sequence[Path]


def save_map(asked: MapToSave) -> list[Path]:
    """Write one map on the input's grid, in the format that the name says; as `save_labels`."""
    with IMPORTING:
        from napari_tokensparse.common.ownership import check_apart
        from napari_tokensparse.outputs.writing import write_volume

    check_apart([asked.path], asked.scans)
    tokens, like = asked.shown.segmentation.tokens, asked.shown.volume
    values: Any = tokens.pruned_at if asked.stage is None else tokens.importance[asked.stage - 1]
    array = tokens.on_input_grid(values)
    return [write_volume(asked.path, array, like, labels=asked.stage is None)]


def save_maps(folder: Path, shown: ShownResult, scans: Sequence[Path]) -> list[Path]:
    """Write all maps as NIfTI into a folder, as ``tokensparse segment --tokens`` does.

    Raises
    ------
    OwnershipError, OSError
        In one line: a file there is not as it was written by us, or cannot be written.
    """
    with IMPORTING:
        from napari_tokensparse.common.ownership import check_results, record
        from napari_tokensparse.outputs.tokens import token_file_names, write_tokens

    stages = shown.segmentation.tokens.stages
    check_results(folder, token_file_names(stages), scans)
    written = write_tokens(folder, shown.segmentation, shown.volume)
    record(folder, written)
    return written
