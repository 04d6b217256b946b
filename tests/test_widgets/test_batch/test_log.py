from itertools import count
from pathlib import Path

import pytest

from napari_tokensparse.manyscans.cases import ScanCase
from napari_tokensparse.manyscans.onebyone import Working
from napari_tokensparse.manyscans.scans import ScanResult
from napari_tokensparse.widgets.batch.log import BatchLog
from napari_tokensparse.widgets.batch.run import BatchRequest, Planned

CASES = tuple(ScanCase(name, Path(f"{name}.nii")) for name in "abcd")


@pytest.fixture
def log() -> BatchLog:
    """A log whose clock goes on by 10 s each time it is asked."""
    request = BatchRequest("in", Path("out"), Path("model"), 0.5, None, "cpu")
    seconds = count(0.0, 10.0)
    return BatchLog(request, lambda: next(seconds))


def test_how_far_it_is_counts_the_windows_of_the_scan_at_work(log: BatchLog) -> None:
    assert (log.share, log.status) == (None, "Looking for scans …")
    log.receive(Planned(CASES))
    log.receive(ScanResult(CASES[0], "skipped"))
    log.receive(Working(CASES[1], 1, 4))
    assert log.share == 1.25 / 4
    # 10 s for a quarter of a scan; 2.75 scans are left, and the one skipped tells nothing
    assert log.status == "Scan 2 of 4: b, window 1 of 4, about 2 min left\n1 skipped."


def test_rows_stand_by_scan_and_what_failed_first(log: BatchLog) -> None:
    log.receive(Planned(CASES))
    log.receive(ScanResult(CASES[1], "failed", error="b.nii: no scan"))
    log.receive(Working(CASES[2]))
    assert [row[:2] for row in log.rows()] == [
        ("b", "failed"),
        ("a", "waiting"),
        ("c", "at work"),
        ("d", "waiting"),
    ]
    assert log.rows()[0][4] == "b.nii: no scan"


def test_the_end_a_cancel_and_an_error_are_said(log: BatchLog) -> None:
    log.receive(Planned(CASES[:2]))
    log.receive(ScanResult(CASES[0], "failed", error="x"))
    log.cancel()
    assert log.status == (
        "Cancelled; 1 scan was not run.\n1 failed.\na: x\nLabels and summary.csv are in out."
    )
    assert [row[1] for row in log.rows()] == ["failed", "not run"]
    log.fail("no disk")
    assert log.status == "no disk"
