"""What the Batch widget runs in a worker's thread; nothing here touches Qt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_tokensparse.common import settings
from napari_tokensparse.common.ownership import check_apart
from napari_tokensparse.manyscans.cases import list_scans
from napari_tokensparse.widgets.importing import IMPORTING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_tokensparse.manyscans.cases import ScanCase
    from napari_tokensparse.manyscans.onebyone import Working
    from napari_tokensparse.manyscans.scans import ScanResult


@dataclass(frozen=True)
class BatchRequest:
    """Many scans as the widget asks for them.

    Attributes
    ----------
    source
        A folder, a CSV of cases, or a glob.
    folder
        For labels, receipts and the table.
    model
        Its folder.
    keep_ratio
        Of each stage.
    sharpen
        Whether labels are sharpened; as the model says if None.
    device
        Where to run.
    importance
        In place of the keep ratio, the least importance of what is kept.
    """

    source: str
    folder: Path
    model: Path
    keep_ratio: float
    sharpen: bool | None
    device: str
    importance: float | None = None


@dataclass(frozen=True)
class Planned:
    """The scans that were found, before the first one is run."""

    cases: tuple[ScanCase, ...]


@dataclass(frozen=True)
class Tabled:
    """All scans are done, and their table is written."""

    summary: Path


def batch(request: BatchRequest) -> Iterator[Planned | Working | ScanResult | Tabled]:
    """Segment many scans; closing the generator ends it after a window, and the table is written.

    Raises
    ------
    ManyScansError, ModelError, OwnershipError, SegmentError, OSError
        In one line: there is no scan or no model, or the folder holds what is not ours.
    """
    with IMPORTING:
        # What a scan is run with is imported here too, not while another thread imports.
        import napari_tokensparse.segmenting.infer  # noqa: F401
        from napari_tokensparse.compute.devices import use_threads
        from napari_tokensparse.manyscans.onebyone import one_by_one
        from napari_tokensparse.manyscans.scans import (
            ScanResult,
            describe_model,
            plan,
            record_summary,
            table_names,
        )
        from napari_tokensparse.segmenting.options import options_for

    use_threads(settings.current().computing.threads)
    described = describe_model(str(request.model))
    options = options_for(
        described,
        request.keep_ratio,
        sharpen=request.sharpen,
        device=request.device,
        importance=request.importance,
    )
    cases = list_scans(request.source, request.folder, described.info.channels)
    if Path(request.source).is_file():
        tables = [request.folder / name for name in table_names(options)]
        check_apart(tables, [Path(request.source)])
    work = plan(str(request.model), described, options, request.folder)
    yield Planned(cases)
    results: list[ScanResult] = []
    summary = None
    try:
        for event in one_by_one(cases, work):
            if isinstance(event, ScanResult):
                results.append(event)
            yield event
    finally:  # one that is cancelled leaves a table too
        if results:
            summary = record_summary(request.folder, results, described.info)
    if summary is not None:
        yield Tabled(summary)
