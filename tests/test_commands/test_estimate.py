"""``segment --dry-run``, and a run that does not fit: refused, unless one insists."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from napari_tokensparse.cli import app
from napari_tokensparse.segmenting.estimating.rates import Rates
from napari_tokensparse.segmenting.estimating.timing import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    Segment = Callable[..., Result]


@pytest.fixture
def segment(
    tmp_path: Path, write_nano: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Segment:
    """Write a scan and a model; return what runs the command on them."""
    monkeypatch.chdir(tmp_path)
    grey = np.random.default_rng(0).integers(1, 900, (40, 36, 20)).astype(np.int16)
    nib.save(nib.Nifti1Image(grey, np.eye(4)), tmp_path / "scan.nii.gz")
    model = str(write_nano())

    def run(*options: str) -> Result:
        line = ["segment", "scan.nii.gz", "--model", model, "--device", "cpu", *options]
        return CliRunner().invoke(app, line)

    return run


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_tokensparse.segmenting.estimating.estimate.free_mb", lambda _: 1.5)


def test_a_dry_run_tells_time_and_memory_and_writes_nothing(
    segment: Segment, tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())
    said = segment("--dry-run")
    assert said.exit_code == 0, said.output
    assert said.stdout.startswith("About 1 s and ")
    assert said.stdout.endswith(" free: 4 windows\n")
    figures = json.loads(segment("--dry-run", "--json", "--region", ":32,:32,:").stdout)
    assert 0.0 < figures["span"][0] < figures["seconds"] < figures["span"][1] < 60.0
    assert (figures["windows"], figures["fits"]) == (4, True)
    assert figures["room"]["device"] == "cpu"
    assert 0.0 < figures["room"]["peak_mb"] < figures["room"]["free_mb"]
    assert sorted(tmp_path.iterdir()) == before

    image = nib.load(tmp_path / "scan.nii.gz")
    image.set_qform(np.diag([1.0, 1.0, 4.0, 1.0]), 1)
    nib.save(image, tmp_path / "scan.nii.gz")
    assert segment("--dry-run").stderr == (
        "Note: qform and sform differ by up to 57.0 mm; the sform was used\n"
    )


def test_a_run_teaches_the_next_dry_run(
    segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENSPARSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Stopwatch, "slowdown", lambda _: 1.0)
    assert segment("-o", "first.nii.gz").exit_code == 0
    assert not (tmp_path / "cache" / "calibration").exists()  # nothing was measured before
    before = json.loads(segment("--dry-run", "--json").stdout)["seconds"]
    (file,) = (tmp_path / "cache" / "calibration").glob("*.json")
    slow = Rates.model_validate_json(file.read_bytes()).model_copy(update={"start": 60.0 + before})
    file.write_text(slow.model_dump_json())
    assert segment("-o", "labels.nii.gz").exit_code == 0
    assert Rates.model_validate_json(file.read_bytes()).runs == ((1.0, 0.25),)  # at the least
    assert json.loads(segment("--dry-run", "--json").stdout)["seconds"] < (60.0 + 2 * before) / 3


def test_a_run_that_does_not_fit_is_refused_with_its_figures(
    segment: Segment, little_memory: None, tmp_path: Path
) -> None:
    said = segment("-o", "labels.nii.gz")
    assert said.exit_code == 1
    assert said.stderr.startswith("tokensparse: scan: this run takes about ")
    assert "and 2 MB are free" in said.stderr
    assert said.stderr.endswith("; --anyway tries all the same\n")
    assert said.stderr.count("\n") == 1
    assert not (tmp_path / "labels.nii.gz").exists()


def test_who_insists_is_warned_and_gets_labels(
    segment: Segment, little_memory: None, tmp_path: Path
) -> None:
    said = segment("-o", "labels.nii.gz", "--anyway")
    assert said.exit_code == 0, said.output
    assert said.stderr.startswith("Warning: scan: this run takes about ")
    assert (tmp_path / "labels.nii.gz").exists()
    repeat = ["segment", "--from-receipt", "labels.receipt.json"]
    refused = CliRunner().invoke(app, repeat)
    assert refused.exit_code == 1
    assert "--anyway tries all the same" in refused.stderr
    again = CliRunner().invoke(app, [*repeat, "--anyway"])
    assert again.exit_code == 0, again.output
    assert "Identical" in again.stdout


def test_a_dry_run_says_what_does_not_fit(segment: Segment, little_memory: None) -> None:
    said = segment("--dry-run")
    assert said.exit_code == 0
    assert said.stderr.startswith("Warning: scan: this run takes about ")
    assert not json.loads(segment("--dry-run", "--json").stdout)["fits"]


def test_json_goes_with_a_dry_run_alone(segment: Segment) -> None:
    said = segment("-o", "labels.nii.gz", "--json")
    assert said.exit_code == 1
    assert said.stderr == (
        "tokensparse: --json: goes with --dry-run; a run's figures are in its receipt\n"
    )


def test_a_voxel_size_that_cannot_be_right_is_asked_about(
    segment: Segment, write_nano: Callable[..., Path], tmp_path: Path
) -> None:
    image = nib.load(tmp_path / "scan.nii.gz")
    nib.save(nib.Nifti1Image(image.dataobj, np.diag([900.0, 900.0, 900.0, 1.0])), "wide.nii.gz")
    spacing = {"_target_": "Spacingd", "keys": "image", "pixdim": [1.0, 1.0, 1.0]}
    model = str(write_nano("fine", preprocessing=(spacing,)))
    said = CliRunner().invoke(app, ["segment", "wide.nii.gz", "--model", model, "-o", "l.nii.gz"])
    assert said.exit_code == 1
    assert said.stderr.endswith("is its voxel size 900 x 900 x 900 mm right?\n")
