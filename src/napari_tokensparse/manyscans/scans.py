"""Many scans: one of them from file to file, and a table of all.

Nothing here knows of a cluster; `napari_tokensparse.manyscans.cluster` runs these functions on one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from napari_tokensparse.common.files import file_sha256
from napari_tokensparse.common.ownership import check_results, is_ours, record
from napari_tokensparse.common.tables import write_csv
from napari_tokensparse.manyscans.cases import ManyScansError
from napari_tokensparse.model.folder import (
    Description,
    describe_folder,
    is_bundle,
)
from napari_tokensparse.model.hub import model_folder, whole_source
from napari_tokensparse.outputs.classfiles import class_files, write_class_files
from napari_tokensparse.outputs.hashes import hash_of
from napari_tokensparse.outputs.receipts import (
    FinishedRun,
    Receipt,
    ReceiptError,
    input_scan,
    model_used,
    read_receipt,
    receipt_path,
)
from napari_tokensparse.outputs.runfiles import RunFiles, earlier_run, write_all, written_by
from napari_tokensparse.segmenting.result import Progress
from napari_tokensparse.volumes.region import RegionError
from napari_tokensparse.volumes.volume import VolumeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_tokensparse.common.tables import Cell
    from napari_tokensparse.manyscans.cases import ScanCase
    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.outputs.receipts import ModelUsed
    from napari_tokensparse.segmenting.options import Options

SUMMARY_FILE = "summary.csv"
LABELS_SUFFIX = "_labels.nii.gz"
_CLASSES = "classes.nii.gz"  # what the names of classes are called after


@dataclass(frozen=True)
class Work:
    """What is done to every scan; plain values, so that it can be sent to another machine.

    Attributes
    ----------
    model
        What `load_model` takes: a name, or the full path of a folder.
    used
        The model that must be found there.
    options
        What is asked for.
    folder
        Where labels and receipts are written, a full path.
    parts
        Folder on the same disk for files that are not finished.
    threads
        Of one worker; torch's own choice if None.
    overwrite
        Whether labels are replaced that are not as they were written.
    """

    model: str
    used: ModelUsed
    options: Options
    folder: Path
    parts: Path
    threads: int | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class ScanResult:
    """What became of one scan.

    Attributes
    ----------
    case
        The scan.
    status
        ``done``; ``skipped``, for its labels were there; ``changed by hand``, for files are there
        that are not as they were written, and stay; or ``failed``.
    receipt
        Of its labels, also of those that were there; None where it failed or they were changed.
    error
        Why it failed, or which file was changed, one line.
    """

    case: ScanCase
    status: Literal["done", "skipped", "changed by hand", "failed"]
    receipt: Receipt | None = None
    error: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What speaks against the model on this scan, and what a person should know besides."""
        return () if self.receipt is None else (*self.receipt.warnings, *self.receipt.notes)


def describe_model(model: str) -> Description:
    """Return what a model says of itself, of a model folder without torch.

    Raises
    ------
    ModelError
        There is no such model, or its files do not fit.
    """
    folder = model_folder(model)
    if is_bundle(folder):
        return describe_folder(folder)
    from napari_tokensparse.model.checkpoints import load_model

    network = load_model(model)
    return Description(network.config, network.info)


def plan(
    model: str, described: Description, options: Options, folder: Path, *, overwrite: bool = False
) -> Work:
    """Say what is done to every scan, and prepare its folder.

    Parameters
    ----------
    model
        As the user gave it.
    described
        It (`describe_model`).
    options
        What is asked for; with a legend, names and colours of the classes are written once, as
        ``classes.label.txt`` and ``classes_dseg.tsv``.
    folder
        For labels, receipts and tables; it is made if need be.
    overwrite
        Whether files are replaced that are not as they were written.

    Raises
    ------
    OSError
        The folder cannot be made.
    OwnershipError
        A table that is there was changed, or is a person's.
    """
    check_results(folder, table_names(options), (), overwrite=overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    if options.legend:
        record(folder, write_class_files(folder / _CLASSES, described.info))
    where = Path(os.path.abspath(folder))
    return Work(
        model=whole_source(model),
        used=model_used(described.config, described.info),
        options=options,
        folder=where,
        parts=where,
        overwrite=overwrite,
    )


def table_names(options: Options) -> tuple[str, ...]:
    """Return the names of the files that are written once for all scans."""
    classes = class_files(Path(_CLASSES)) if options.legend else ()
    return (SUMMARY_FILE, *(path.name for path in classes))


def check_work(work: Work) -> None:
    """Check what can be checked without a scan, on the machine that is to do the work.

    Raises
    ------
    ModelError, SegmentError, BackendError, ManyScansError
        In one line: there is no such model, scorer, device or backend, or the model is another one.
    """
    from napari_tokensparse.segmenting.infer import check_options

    check_options(work.options)
    _network(work.model, work.used, work.threads)


def segment_scan(case: ScanCase, work: Work) -> ScanResult:
    """Segment one scan as `segmenting_scan` does, and return what became of it."""
    for event in segmenting_scan(case, work):
        if isinstance(event, ScanResult):
            return event
    raise AssertionError("the scan ended without a result")


def segmenting_scan(case: ScanCase, work: Work) -> Iterator[Progress | ScanResult]:
    """Segment one scan from file to file, unless that was done already.

    A file that is no scan is a result too; what may go better another time (memory, a disk) is
    raised. The caller may stop after any window: nothing is written then.
    """
    try:
        earlier = earlier_receipt(case, work)
        if earlier is not None:
            yield ScanResult(case, "skipped", earlier)
        elif (kept := _kept(case, work)) is not None:
            yield kept
        else:
            yield from _segmenting(case, work)
    except (VolumeError, RegionError) as error:
        yield ScanResult(case, "failed", error=said_of(error))


def said_of(error: BaseException) -> str:
    """Say an error in one line, with its kind where it is none of ours."""
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    return " ".join(f"{kind}{error}".split())


def labels_path(case: ScanCase, work: Work) -> Path:
    """Return where a scan's labels are written: ``<name>_labels.nii.gz``, or as the case says."""
    return work.folder / (case.labels or case.name + LABELS_SUFFIX)


def earlier_receipt(case: ScanCase, work: Work) -> Receipt | None:
    """Return the receipt of labels that need not be made again, or None.

    Scan, model and options must be those of the receipt, and the labels as they were written.
    """
    labels = labels_path(case, work)
    path = receipt_path(labels)
    if not (labels.is_file() and path.is_file()):
        return None
    try:
        receipt = read_receipt(path)
    except ReceiptError:
        return None
    same = receipt.model == work.used and receipt.options.same_labels(work.options)
    if not same or receipt.output.sha256 != file_sha256(labels):
        return None
    known = [(one.channel, one.sha256) for one in receipt.inputs]
    return receipt if known == [(name, hash_of(file)) for name, file in case.files] else None


def write_summary(path: Path, results: Sequence[ScanResult], info: ModelInfo) -> Path:
    """Write one row per scan as CSV, by name.

    Columns are ``case``, ``image``, ``status``, ``seconds``, ``windows``, ``tokens_processed``,
    ``tokens_kept``, ``error``, ``notes``, and for every class its volume, ``<class>_ml``. Seconds
    are those of the run that made the labels. Of a scan that failed there is the error alone.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    figures = ["seconds", "windows", "tokens_processed", "tokens_kept"]
    classes = [f"{one.name}_ml" for one in info.classes]
    headers = ["case", "image", "status", *figures, "error", "notes", *classes]
    rows = [_row(one, len(classes)) for one in sorted(results, key=lambda r: r.case.name)]
    return write_csv(path, headers, rows)


def record_summary(folder: Path, results: Sequence[ScanResult], info: ModelInfo) -> Path:
    """Write the table of all scans into the folder of the labels, as a file of ours.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    summary = write_summary(folder / SUMMARY_FILE, results, info)
    record(folder, [summary])
    return summary


def release_network() -> None:
    """Let go of the model that this process has loaded for its scans."""
    _network.cache_clear()


def seconds_left(seconds: float, done: int, left: int) -> float | None:
    """Estimate the time for what is left at the pace of what was done, skipped scans aside.

    Examples
    --------
    >>> seconds_left(60.0, 3, 6), seconds_left(60.0, 0, 6)
    (120.0, None)
    """
    return seconds / done * left if done else None


def _segmenting(case: ScanCase, work: Work) -> Iterator[Progress | ScanResult]:
    from napari_tokensparse.segmenting.infer import read_input, segmenting

    network = _network(work.model, work.used, work.threads)
    volume = read_input(dict(case.files), network.info)
    for event in segmenting(volume, network, work.options):
        if isinstance(event, Progress):
            yield event
        else:
            run = FinishedRun(volume, network, work.options, event)
            # Once more: a person may have worked on them since.
            yield _kept(case, work) or ScanResult(case, "done", _written(case, work, run))


def _written(case: ScanCase, work: Work, run: FinishedRun) -> Receipt:
    """Write labels and receipt, of which none takes its place before both are complete."""
    final = labels_path(case, work)
    final.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=work.parts) as folder:
        scans = (input_scan(file, channel) for channel, file in case.files)
        try:
            written = write_all(RunFiles(Path(folder) / final.name, legend=False), run, scans)
        except VolumeError as error:
            raise VolumeError(str(error).replace(folder, str(final.parent))) from error
        assert written.receipt is not None  # it is asked for
        labels, receipt = written.files
        # The receipt first: labels without one would be a person's if it ended between the two.
        receipt.replace(receipt_path(final))
        labels.replace(final)
    return written.receipt


def _kept(case: ScanCase, work: Work) -> ScanResult | None:
    """Return the result of a scan whose files a person changed, unless they are to be replaced."""
    changed = None if work.overwrite else _changed(labels_path(case, work))
    if changed is None:
        return None
    why = f"{changed.name} is not as it was written, and stays; --overwrite replaces it"
    return ScanResult(case, "changed by hand", error=why)


def _changed(labels: Path) -> Path | None:
    """Return which file of a scan's is there, but not as it was written."""
    earlier, receipt = earlier_run(labels), receipt_path(labels)
    if not is_ours(labels, written_by(earlier)):
        return labels
    return None if earlier is not None or is_ours(receipt, ()) else receipt


@lru_cache(maxsize=1)
def _network(model: str, used: ModelUsed, threads: int | None) -> SCD:
    """Load the model, once in a process."""
    import torch

    from napari_tokensparse.model.checkpoints import load_model

    if threads is not None:
        torch.set_num_threads(threads)
    network = load_model(model)
    if model_used(network.config, network.info) != used:
        raise ManyScansError(f"model {model}: is not the same on every machine; copy it again")
    return network


def _row(result: ScanResult, classes: int) -> list[Cell]:
    case, receipt = result.case, result.receipt
    first: list[Cell] = [case.name, case.image.name, result.status]
    if receipt is None:
        return [*first, *[None] * 4, result.error, None, *[None] * classes]
    tokens, seconds = receipt.tokens, receipt.seconds["total"]
    figures: list[Cell] = [seconds, tokens.windows, tokens.tokens["processed"]]
    said = "; ".join(result.notes) or None
    volumes = [one.ml for one in receipt.classes]
    return [*first, *figures, tokens.tokens["kept"], None, said, *volumes]
