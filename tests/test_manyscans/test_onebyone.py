"""Scans one after another in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest

from napari_tokensparse.manyscans.cases import ScanCase
from napari_tokensparse.manyscans.onebyone import Working, one_by_one
from napari_tokensparse.manyscans.scans import ScanResult, Work, describe_model, plan
from napari_tokensparse.segmenting.options import options_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def scan(path: Path) -> ScanCase:
    grey = np.random.default_rng(0).integers(1, 200, (32, 32, 64)).astype(np.uint8)
    nib.save(nib.Nifti1Image(grey, np.eye(4)), path)
    return ScanCase(path.stem, path)


@pytest.fixture
def work(tmp_path: Path, nano: Path) -> Work:
    described = describe_model(str(nano))
    options = options_for(described, 0.5, device="cpu", legend=False)
    return plan(str(nano), described, options, tmp_path / "out")


def test_each_scan_is_told_by_windows_and_one_that_is_none_stops_no_other(
    tmp_path: Path, work: Work
) -> None:
    broken = ScanCase("broken", tmp_path / "broken.nii")
    events = list(one_by_one([broken, scan(tmp_path / "good.nii")], work))
    results = [event for event in events if isinstance(event, ScanResult)]
    assert [(r.case.name, r.status) for r in results] == [("broken", "failed"), ("good", "done")]
    windows = [
        (e.done, e.total) for e in events if isinstance(e, Working) and e.case.name == "good"
    ]
    total = windows[-1][1]
    assert windows == [(0, 0), *((n, total) for n in range(total + 1))]


def test_closing_it_between_two_windows_leaves_what_is_written_and_nothing_else(
    tmp_path: Path, work: Work
) -> None:
    first, second = scan(tmp_path / "first.nii"), scan(tmp_path / "second.nii")
    events = one_by_one([first, second], work)
    for event in events:
        if isinstance(event, Working) and event.case is second and event.done:
            break
    events.close()  # type: ignore[attr-defined]  # it is a generator
    assert sorted(path.name for path in work.folder.iterdir() if path.suffix == ".gz") == [
        "first_labels.nii.gz"
    ]
    assert not list(work.folder.glob(".tokensparse-*"))


def test_a_disk_that_fails_is_the_result_of_its_scan(
    tmp_path: Path, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> Callable[..., None]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_tokensparse.manyscans.scans.write_all", full)
    results = [
        event
        for event in one_by_one([scan(tmp_path / "one.nii")], work)
        if type(event) is ScanResult
    ]
    assert [result.status for result in results] == ["failed"]
    assert "No space left on device" in results[0].error
