"""Many scans on the command line, on a real cluster."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import psutil
import pytest
from dask.system import CPU_COUNT

from napari_tokensparse.outputs.receipts import read_receipt
from napari_tokensparse.segmenting.infer import segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SCANS = 6


def start(*arguments: str | Path, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "napari_tokensparse.cli", "segment", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, stdout=pipe, stderr=pipe, text=True)


def write_scans(folder: Path, count: int, shape: tuple[int, int, int] = (40, 36, 20)) -> None:
    folder.mkdir()
    for seed in range(count):
        data = np.random.default_rng(seed).integers(1, 900, shape).astype(np.int16)
        nib.save(nib.Nifti1Image(data, np.eye(4)), folder / f"scan-{seed}.nii.gz")


def wait_for(condition: Callable[[], object], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def workers_of(run: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the worker processes of this machine's cluster."""
    children = psutil.Process(run.pid).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def labels_of(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_a_worker_that_is_killed_in_the_middle_loses_no_scan_and_a_bad_scan_no_other(
    tmp_path: Path, write_nano: Callable[..., Path]
) -> None:
    write_scans(tmp_path / "scans", SCANS)
    (tmp_path / "scans/bad.nii.gz").write_bytes(b"no scan")
    out = tmp_path / "out"
    run = start(
        "scans", "-o", "out", "--model", write_nano(), "--keep-ratio", 0.5, "--device", "cpu",
        "--workers", 2, cwd=tmp_path,
    )  # fmt: skip
    wait_for(lambda: list(out.glob("*.receipt.json")) or run.poll() is not None)
    workers = workers_of(run)
    assert len(workers) == 2
    workers[0].kill()  # SIGKILL
    assert len(list(out.glob("*.receipt.json"))) < SCANS  # there was something to lose
    stdout, stderr = run.communicate(timeout=120)

    assert run.returncode == 1
    names = [f"scan-{seed}" for seed in range(SCANS)]
    rows = rows_of(out / "summary.csv")
    assert list(rows) == ["bad", *names]
    # "skipped" is a scan whose labels were there when its worker died before it could tell.
    assert {rows[name]["status"] for name in names} <= {"done", "skipped"}
    assert "is not a NIfTI file" in rows["bad"]["error"]
    assert ", 1 failed" in stdout
    assert f"1 of {SCANS + 1} scans failed:\n  bad: bad.nii.gz: is not a NIfTI file" in stderr
    for name in names:
        labels = labels_of(out / f"{name}_labels.nii.gz")
        expected = segment(tmp_path / f"scans/{name}.nii.gz", tmp_path / "nano", 0.5).labels
        np.testing.assert_array_equal(labels, expected)
        assert float(rows[name]["seven_ml"]) == pytest.approx((labels == 7).sum() / 1000)
    files = {"summary.csv", "classes.label.txt", "classes_dseg.tsv", ".tokensparse.json"}
    files |= {f"{name}_labels{end}" for name in names for end in (".nii.gz", ".receipt.json")}
    assert {path.name for path in out.iterdir()} == files  # nothing unfinished is left
    threads = read_receipt(out / "scan-0_labels.receipt.json").machine.threads
    assert threads == max(1, CPU_COUNT // 2)
    assert not any(worker.is_running() for worker in workers)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """Start a scheduler and a worker of two threads as a person does, and give the address."""
    address = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    scheduler = subprocess.Popen(
        [*dask, "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", address]
    )
    worker = None
    try:
        wait_for(lambda: address.is_file() and address.read_text())
        url = json.loads(address.read_text())["address"]
        program = [sys.executable, "-m", "distributed.cli.dask_worker"]
        worker = subprocess.Popen([*program, url, "--nthreads", "2", "--no-dashboard"])
        yield url
    finally:
        for process in (worker, scheduler):
            if process is not None:
                process.terminate()
                process.wait(60)


@pytest.mark.deep
def test_a_cluster_that_is_there_is_used_and_scans_that_are_done_are_skipped(
    tmp_path: Path, write_nano: Callable[..., Path], cluster: str
) -> None:
    write_scans(tmp_path / "scans", SCANS)
    arguments = ("scans/*.nii.gz", "-o", "out", "--model", write_nano(), "--scheduler", cluster)

    def run() -> tuple[str, str]:
        process = start(*arguments, cwd=tmp_path)
        said = process.communicate(timeout=300)
        assert process.returncode == 0, said
        return said

    wait_for(lambda: "has no workers" not in start(*arguments, cwd=tmp_path).communicate()[1])
    assert f"0 done, {SCANS} skipped, 0 failed" in run()[0]
    receipt = read_receipt(tmp_path / "out/scan-0_labels.receipt.json")
    assert receipt.machine.threads == 2
    (tmp_path / "out/scan-1_labels.nii.gz").unlink()
    write_scans(tmp_path / "more", 1, (20, 40, 20))
    (tmp_path / "more/scan-0.nii.gz").replace(tmp_path / "scans/scan-2.nii.gz")
    assert f"2 done, {SCANS - 2} skipped, 0 failed" in run()[0]
    assert labels_of(tmp_path / "out/scan-2_labels.nii.gz").shape == (20, 40, 20)


@pytest.mark.deep
def test_a_scan_whose_worker_dies_each_time_fails_alone(
    tmp_path: Path, write_nano: Callable[..., Path]
) -> None:
    write_scans(tmp_path / "scans", 3)
    write_scans(tmp_path / "large", 1, (80, 80, 80))
    (tmp_path / "large/scan-0.nii.gz").replace(tmp_path / "scans/scan-1.nii.gz")
    out = tmp_path / "out"
    run = start(
        "scans", "-o", "out", "--model", write_nano(), "--device", "cpu", "--workers", 1,
        "--retries", 0, "--threads", 3, cwd=tmp_path,
    )  # fmt: skip
    wait_for(lambda: (out / "scan-0_labels.receipt.json").is_file() or run.poll() is not None)
    time.sleep(1.0)  # the second one takes several
    (worker,) = workers_of(run)
    worker.kill()
    stdout, stderr = run.communicate(timeout=120)
    assert run.returncode == 1
    assert "2 done, 0 skipped, 1 failed" in stdout
    assert "1 of 3 scans failed:\n  scan-1: the worker died each time, perhaps" in stderr
    assert [row["status"] for row in rows_of(out / "summary.csv").values()] == [
        "done",
        "failed",
        "done",
    ]
    assert read_receipt(out / "scan-0_labels.receipt.json").machine.threads == 3


@pytest.mark.deep
def test_a_scheduler_that_is_not_there_is_one_plain_line(
    tmp_path: Path, write_nano: Callable[..., Path]
) -> None:
    write_scans(tmp_path / "scans", 1)
    address = "tcp://127.0.0.1:9"
    run = start("scans", "-o", "out", "--model", write_nano(), "--scheduler", address, cwd=tmp_path)
    _, stderr = run.communicate(timeout=120)
    assert run.returncode == 1
    assert stderr == (
        f"tokensparse: scheduler {address}: cannot be reached; start one with `dask scheduler`\n"
    )
