"""Many scans one after another in this process, with progress by windows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from napari_tokensparse.manyscans.scans import (
    ScanResult,
    check_work,
    release_network,
    said_of,
    segmenting_scan,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_tokensparse.manyscans.cases import ScanCase
    from napari_tokensparse.manyscans.scans import Work


@dataclass(frozen=True)
class Working:
    """A scan is being segmented.

    Attributes
    ----------
    case
        The scan.
    done, total
        Windows of it; both 0 while it is read.
    """

    case: ScanCase
    done: int = 0
    total: int = 0


def one_by_one(cases: Sequence[ScanCase], work: Work) -> Iterator[Working | ScanResult]:
    """Segment scans one after another.

    Parameters
    ----------
    cases
        The scans.
    work
        What is done to each.

    Yields
    ------
    Working
        Before each scan and after each window. The caller may stop here: what is written stays,
        and what is not finished is removed.
    ScanResult
        One per scan, in their order.

    Raises
    ------
    ModelError, SegmentError, BackendError, ManyScansError
        In one line, before the first scan: there is no such model, device or backend.
    """
    unfinished = TemporaryDirectory(
        prefix=".tokensparse-", dir=work.folder, ignore_cleanup_errors=True
    )
    try:
        check_work(work)
        with unfinished as parts:
            for case in cases:
                yield Working(case)
                yield from _one(case, replace(work, parts=Path(parts)))
    finally:
        release_network()


def _one(case: ScanCase, work: Work) -> Iterator[Working | ScanResult]:
    try:
        for event in segmenting_scan(case, work):
            if isinstance(event, ScanResult):
                yield event
            else:
                yield Working(case, event.done, event.total)
    except Exception as error:  # whatever the reason, one scan that cannot be run stops no other
        yield ScanResult(case, "failed", error=said_of(error))
