"""The files of one segmentation: which they are, and that none takes the place of a person's."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_tokensparse.common.files import file_sha256
from napari_tokensparse.common.ownership import (
    OwnershipError,
    check_apart,
    check_free,
    check_place,
)
from napari_tokensparse.outputs.classfiles import class_files, write_class_files
from napari_tokensparse.outputs.classresults import class_results, write_class_results
from napari_tokensparse.outputs.omezarr import is_zarr_output
from napari_tokensparse.outputs.probabilityfiles import (
    confidence_file,
    probabilities_folder,
    probability_files,
    write_probabilities,
)
from napari_tokensparse.outputs.receipts import (
    ReceiptError,
    read_receipt,
    receipt_of,
    receipt_path,
    write_receipt,
)
from napari_tokensparse.outputs.regionfiles import region_file_names, write_regions
from napari_tokensparse.outputs.tokens import token_file_names, write_tokens
from napari_tokensparse.outputs.writing import SEG_SUFFIX, write_volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from napari_tokensparse.model.folder import Described
    from napari_tokensparse.outputs.receipts import FinishedRun, InputScan, Receipt


@dataclass(frozen=True)
class RunFiles:
    """Where a segmentation is written.

    Attributes
    ----------
    labels
        The labels file.
    legend, receipt
        Whether names of classes and the receipt are written beside it.
    table, tokens, regions
        The table, and the folders of token maps and of masks of regions; None where there is none.
    confidence, probabilities
        Whether the winner's probability is written beside the labels, and the names of the classes
        whose own is.
    overwrite
        Whether files that are not as the receipt beside the labels says are replaced; an input
        never is.
    """

    labels: Path
    legend: bool = True
    receipt: bool = True
    table: Path | None = None
    tokens: Path | None = None
    regions: Path | None = None
    confidence: bool = False
    probabilities: tuple[str, ...] = ()
    overwrite: bool = False

    def has_legend(self) -> bool:
        """Whether names of classes lie beside: DICOM SEG and OME-Zarr have them in themselves."""
        holds_them = self.labels.name.lower().endswith(SEG_SUFFIX) or is_zarr_output(self.labels)
        return self.legend and not holds_them

    def paths(self, model: Described) -> list[Path]:
        """Return all files but the receipt, for what a model says of itself."""
        paths = [self.labels, *(class_files(self.labels) if self.has_legend() else ())]
        if self.table is not None:
            paths.append(self.table)
        if self.tokens is not None:
            paths += [self.tokens / name for name in token_file_names(model.config.stages)]
        if self.regions is not None:
            paths += [self.regions / name for name in region_file_names(model.info)]
        if self.confidence:
            paths.append(confidence_file(self.labels))
        paths += probability_files(self.labels, self.probabilities, model.info).values()
        return paths


@dataclass(frozen=True)
class Written:
    """What was written of a run: the labels first, then what lies beside them; and its receipt."""

    files: list[Path]
    receipt: Receipt | None


def write_all(files: RunFiles, run: FinishedRun, inputs: Iterable[InputScan]) -> Written:
    """Write the labels of a run, all that is asked for beside them, and last the receipt.

    Where that fails, the receipt is of what was written so far, so that the next run knows it as
    ours; where not even the receipt can be written, the files that were not there before are
    removed, for nothing would tell them from a person's.

    Parameters
    ----------
    files
        What is written.
    run
        What was segmented with what.
    inputs
        What the receipt says was segmented; not asked for where there is none.

    Raises
    ------
    OSError, VolumeError
        A file cannot be written.
    OwnershipError
        A person made or changed one of them since `check_run_files`.
    """
    _check_free(files, run.network)
    written: list[Path] = []
    scans: list[InputScan] = []
    paths, others = files.paths(run.network), _others(files, run.network)
    new = [path for path in paths if not os.path.lexists(path)]
    try:
        for part in _parts(files, run):
            written += part
        if not files.receipt:
            return Written(written, None)
        scans += inputs
        receipt = receipt_of(run, scans, files.labels, written[1:])
        written.append(write_receipt(receipt_path(files.labels), receipt))
    except BaseException:
        if written and files.receipt:
            there = [p for p in paths[1:] if p.is_file()]
            beside = [p for p in there if file_sha256(p) not in others]
            if not _is_noted(files, run, scans or inputs, beside):
                _remove(new)
        raise
    return Written(written, receipt)


def _others(files: RunFiles, model: Described) -> frozenset[str]:
    """Return hashes of files that a person wants replaced, and that are not as we wrote them."""
    if not files.overwrite:
        return frozenset()
    there = (path for path in files.paths(model) if path.is_file())
    return frozenset(map(file_sha256, there)) - written_by(earlier_run(files.labels))


def _is_noted(
    files: RunFiles, run: FinishedRun, inputs: Iterable[InputScan], beside: Sequence[Path]
) -> bool:
    """Write the receipt of a run whose writing failed; whether that much could be written."""
    try:
        receipt = receipt_of(run, [*inputs], files.labels, beside)
        write_receipt(receipt_path(files.labels), receipt)
    except OSError:
        return False
    return True


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with suppress(OSError):
            if path.is_file():
                path.unlink()


def _parts(files: RunFiles, run: FinishedRun) -> Iterator[list[Path]]:
    """Write part by part, the labels first, and yield the files of each."""
    volume, result, info = run.volume, run.result, run.network.info
    yield [write_volume(files.labels, result.labels, volume, info=info)]
    if files.has_legend():
        yield write_class_files(files.labels, info)
    if files.table is not None:
        rows = class_results(result, volume, info)
        yield [write_class_results(files.table, rows, info.channels)]
    if files.regions is not None:
        yield write_regions(files.regions, result, volume, info)
    if files.tokens is not None:
        yield write_tokens(files.tokens, result, volume)
    yield write_probabilities(files.labels, result, volume, info)


def check_run_files(files: RunFiles, model: Described, inputs: Iterable[Path]) -> None:
    """Refuse a run that would replace a person's files, before it is begun.

    Parameters
    ----------
    files
        What is to be written.
    model
        What it is made with.
    inputs
        What is read.

    Raises
    ------
    OwnershipError
        In one line: which file, and why.
    """
    paths, receipt = files.paths(model), receipt_path(files.labels)
    folders = [folder for folder in (files.tokens, files.regions) if folder is not None]
    folders += [probabilities_folder(files.labels)] if files.probabilities else []
    check_apart(paths, inputs)
    _check_folders(folders, paths)
    for place in (*folders, *([files.table.parent] if files.table is not None else [])):
        check_place(place)
    check_apart({*folders, *([receipt] if files.receipt else [])}, inputs)
    _check_free(files, model)


def _check_free(files: RunFiles, model: Described) -> None:
    """Refuse where a file is there that is not as the receipt beside the labels says."""
    earlier = earlier_run(files.labels)
    check_free(files.paths(model), written_by(earlier), overwrite=files.overwrite)
    if files.receipt and not files.overwrite:
        _check_receipt(receipt_path(files.labels), earlier, files.labels)


def _check_folders(folders: Iterable[Path], files: Iterable[Path]) -> None:
    """Refuse a folder of outputs that is, or lies in, what is to be a file."""
    names = {os.path.abspath(file) for file in files}
    for folder in folders:
        whole = Path(os.path.abspath(folder))
        within = next((each for each in (whole, *whole.parents) if str(each) in names), None)
        if within is not None:
            raise OwnershipError(f"{within}: is named for two outputs; give each a name of its own")


def earlier_run(labels: Path) -> Receipt | None:
    """Return the receipt that lies beside a labels file, if one does."""
    try:
        return read_receipt(receipt_path(labels))
    except ReceiptError:
        return None


def written_by(receipt: Receipt | None) -> frozenset[str]:
    """Return the hashes of all files that a receipt says were written."""
    if receipt is None:
        return frozenset()
    labels = {receipt.output.sha256} - {None}
    return frozenset(map(str, labels)) | {file.sha256 for file in receipt.files}


def _check_receipt(path: Path, earlier: Receipt | None, labels: Path) -> None:
    """Refuse to replace what is no receipt, or that of other labels that are still there."""
    if earlier is None:
        check_free([path], ())
        return
    other = earlier.output.name
    if other is not None and other != labels.name and labels.with_name(other).exists():
        raise OwnershipError(
            f"{path}: is the receipt of {other}; choose another name for the labels, or replace it "
            "with --overwrite"
        )
