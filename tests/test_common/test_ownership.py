"""Outputs never take the place of an input, or of a file that is not as it was written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from napari_tokensparse.common.ownership import (
    OwnershipError,
    check_apart,
    check_free,
    check_place,
    check_results,
    record,
    recorded,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_an_input_is_refused_by_whatever_link_it_is_named(tmp_path: Path) -> None:
    scan = tmp_path / "scan.nii.gz"
    scan.write_bytes(b"scan")
    (tmp_path / "soft.nii.gz").symlink_to(scan)
    os.link(scan, tmp_path / "hard.nii.gz")
    (tmp_path / "folder").symlink_to(tmp_path)
    for name in (
        "scan.nii.gz",
        "soft.nii.gz",
        "hard.nii.gz",
        "folder/scan.nii.gz",
    ):
        with pytest.raises(OwnershipError, match=f"{name}: is the scan or another input itself"):
            check_apart([tmp_path / "new.csv", tmp_path / name], [tmp_path / "gone", scan])
    check_apart([tmp_path / "new.nii.gz"], [scan])


def test_a_file_is_no_folder_for_results(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    for folder in (tmp_path / "notes", tmp_path / "notes/results/2"):
        with pytest.raises(OwnershipError, match="notes: is a file; name a folder for the results"):
            check_results(folder, ["scores.csv"], [], overwrite=True)


def test_where_nothing_may_be_written_is_told_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def may(path: Path, _mode: int) -> bool:  # whoever runs the tests may write anywhere
        return path != tmp_path

    monkeypatch.setattr("napari_tokensparse.common.ownership.os.access", may)
    with pytest.raises(OwnershipError, match="may not be written to; choose another folder"):
        check_place(tmp_path / "new/results")
    (tmp_path / "mine").mkdir()
    check_place(tmp_path / "mine/results")


def test_both_halves_of_a_pair_are_inputs(tmp_path: Path) -> None:
    for name in ("scan.hdr", "scan.img", "scan.nii"):
        (tmp_path / name).write_bytes(b"half")
    with pytest.raises(OwnershipError, match=r"scan.img: is the scan"):
        check_apart([tmp_path / "scan.img"], [tmp_path / "scan.hdr"])
    check_apart([tmp_path / "scan.img"], [tmp_path / "scan.nii"])


def test_the_folder_of_a_series_takes_no_output(tmp_path: Path) -> None:
    exam = tmp_path / "exam"
    exam.mkdir()
    (exam / "S0005.dcm").write_bytes(b"slice")
    (tmp_path / "elsewhere").symlink_to(exam)
    os.link(exam / "S0005.dcm", tmp_path / "same.dcm")
    for output in (exam / "S0005.dcm", tmp_path / "same.dcm"):
        with pytest.raises(OwnershipError, match="is the scan or another input itself"):
            check_apart([output], [exam])
    for output in (exam, exam / "labels.nii.gz", tmp_path / "elsewhere/labels.nii.gz"):
        with pytest.raises(OwnershipError, match="lies in the folder of the scan"):
            check_apart([output], [exam])
    check_apart([tmp_path / "labels.dcm"], [exam])


def test_a_zarr_store_takes_labels_and_nothing_else(tmp_path: Path) -> None:
    scan = tmp_path / "scan.ome.zarr"
    (scan / "0").mkdir(parents=True)
    for output in (scan, scan / "x.csv", scan / "0/labels.nii.gz", scan / "labels/a/b.nii.gz"):
        with pytest.raises(OwnershipError, match="lies in the folder of the scan"):
            check_apart([output], [scan])
    check_apart([scan / "labels/brain", tmp_path / "labels.nii.gz"], [scan])


def test_two_outputs_at_one_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OwnershipError, match=r"x.csv: is named for two outputs"):
        check_apart([tmp_path / "x.csv", tmp_path / "a" / ".." / "x.csv"], [])


def test_only_files_as_they_were_written_are_replaced(tmp_path: Path) -> None:
    names = ("a.csv", "b.json")
    paths = check_results(tmp_path / "out", names, [])
    (tmp_path / "out").mkdir()
    for path in paths:
        path.write_text("ours")
    record(tmp_path / "out", paths[:1])
    record(tmp_path / "out", paths)
    assert check_results(tmp_path / "out", names, []) == paths
    paths[0].write_text("corrected")
    with pytest.raises(OwnershipError, match=r"a.csv: is there already, and not as .* --overwrite"):
        check_results(tmp_path / "out", names, [])
    check_results(tmp_path / "out", names, [], overwrite=True)
    with pytest.raises(OwnershipError, match=r"a.csv: is the scan or another input itself"):
        check_results(tmp_path / "out", names, [paths[0]], overwrite=True)
    paths[0].unlink()
    paths[0].mkdir()
    with pytest.raises(OwnershipError, match=r"a.csv: is a folder"):
        check_results(tmp_path / "out", names, [], overwrite=True)


def test_a_link_to_nowhere_is_a_persons_too(tmp_path: Path) -> None:
    (tmp_path / "x.csv").symlink_to(tmp_path / "not-fetched-yet")
    with pytest.raises(OwnershipError, match=r"x.csv: is there already"):
        check_free([tmp_path / "x.csv"], ())


def test_a_record_that_is_damaged_knows_nothing(tmp_path: Path) -> None:
    assert recorded(tmp_path) == frozenset()
    for text in ("{", "[]", '{"files": 3}', '{"files": {"a": 1'):
        (tmp_path / ".tokensparse.json").write_text(text)
        assert recorded(tmp_path) == frozenset()
    (tmp_path / "a.csv").write_text("a")
    record(tmp_path, [tmp_path / "a.csv"])
    assert len(recorded(tmp_path)) == 1
