"""The commands ``sweep`` and ``audit`` on real files."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from napari_tokensparse.cli import app
from napari_tokensparse.inspecting.audit import difference
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.segmenting.pinmasks import pins_under
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import write_nifti

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path, write_nano: Callable[..., Path]) -> Path:
    """Make a folder with a scan, labels for it, labels that are not, and a model."""
    write_nano()
    rng = np.random.default_rng(0)
    affine = np.diag([1.0, 2.0, 1.5, 1.0])
    blocks = rng.integers(1, 900, (10, 9, 5)).astype(np.int16)
    scan = blocks.repeat(4, 0).repeat(4, 1).repeat(4, 2)
    truth = 7 * rng.integers(0, 2, (40, 36, 20)).astype(np.uint8)
    for name, array in {"scan": scan, "truth": truth, "other": truth[:, :, :10]}.items():
        nib.save(nib.Nifti1Image(array, affine), tmp_path / f"{name}.nii.gz")
    return tmp_path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_sweep_writes_a_table_a_picture_and_json(
    tokensparse: Callable[..., subprocess.CompletedProcess[str]], folder: Path
) -> None:
    run = tokensparse(
        *("sweep", "scan.nii.gz", "--labels", "truth.nii.gz", "--model", "nano"),
        *("--keep-ratios", "0.25,0.5", "--scorers", "learned,random"),
        *("--region", "4:30,:,2:18", "--device", "cpu", "-o", "out", "--json"),
        cwd=folder,
    )
    assert run.returncode == 0, run.stderr
    out = folder / "out"
    assert {p.name for p in out.iterdir()} == {
        *("sweep.csv", "sweep.json", "sweep.png", ".tokensparse.json"),
    }
    written = json.loads(run.stdout)
    assert written == json.loads((out / "sweep.json").read_text())
    assert written["region"] == "4:30,0:36,2:18"
    points = [(p["scorer"], p["keep_ratio"]) for p in written["points"]]
    assert points == [(s, r) for s in ("learned", "random") for r in (0.25, 0.5, 1.0)]
    assert written["points"][2]["mean_dice"] == 1.0
    assert 0 < written["points"][0]["labels_dice"]["seven"] < 1
    assert [(r["scorer"], r["class"]) for r in rows(out / "sweep.csv")][:2] == [
        ("learned", "mean"),
        ("learned", "seven"),
    ]
    with Image.open(out / "sweep.png") as picture:
        assert picture.width > picture.height > 300
    assert "Run 5 of 5: keep ratio 0.25, random" in run.stderr


def test_audit_writes_its_tables_and_the_difference_on_the_scans_grid(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    arguments = ["scan.nii.gz", "--keep-ratio", "0.25", "--model", "nano", "--device", "cpu"]
    run = CliRunner().invoke(app, ["audit", *arguments, "-o", "out"])
    assert run.exit_code == 0, run.output
    out = folder / "out"
    assert {p.name for p in out.iterdir()} == {
        *("components.csv", "classes.csv", "audit.json", "difference.nii.gz", ".tokensparse.json"),
    }
    written, scan = nib.load(out / "difference.nii.gz"), nib.load(folder / "scan.nii.gz")
    np.testing.assert_array_equal(written.affine, scan.affine)
    one, run_at = (segment(folder / "scan.nii.gz", folder / "nano", r).labels for r in (1.0, 0.25))
    expected = difference(one, run_at)
    np.testing.assert_array_equal(np.asarray(written.dataobj), expected)
    (row,) = rows(out / "classes.csv")
    assert row["class"] == "seven"
    assert float(row["after_mm3"]) == pytest.approx((run_at == 7).sum() * 3.0)
    summary = json.loads((out / "audit.json").read_text())
    assert summary["keep_ratio"] == [0.25] * 3
    assert len(rows(out / "components.csv")) == len(summary["components"]) > 0
    for name in ("components.csv", "classes.csv", "audit.json", "difference.nii.gz"):
        assert f"Wrote out/{name}" in run.stdout
    assert "seven" in run.stdout
    assert f"lost: {(expected == 1).sum()} voxels" in run.stdout


def test_an_audit_is_of_the_rule_and_the_pins_that_are_given(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    scan, model = read_volume(folder / "scan.nii.gz"), load_model("nano")
    mask = np.zeros(scan.shape, np.uint8)
    mask[:9, :9, :9] = 1
    write_nifti(folder / "mask.nii.gz", mask, scan)
    arguments = ["scan.nii.gz", "--model", "nano", "--device", "cpu", "--importance", "0.9"]
    pins = ["--pin", "mask.nii.gz", "--drop", "9"]
    run = CliRunner().invoke(app, ["audit", *arguments, *pins, "-o", "pinned"])
    assert run.exit_code == 0, run.output
    assert "Run 2 of 2: importance 0.9, pins" in run.stderr
    pin = pins_under(mask, scan, model)
    pruned = segment(scan, model, importance=0.9, pin=pin, drop="9")
    expected = difference(segment(scan, model, 1.0).labels, pruned.labels)
    found = np.asarray(nib.load(folder / "pinned/difference.nii.gz").dataobj)
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(segment(scan, model, importance=0.9).labels, pruned.labels)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sweep", "missing.nii"], "missing.nii: no such file"),
        (["sweep", "scan.nii.gz", "--keep-ratios", "0.5,x"], "keep ratio '0.5,x': must be"),
        (["sweep", "scan.nii.gz", "--keep-ratios", "0"], "keep ratio 0: must be in (0, 1]"),
        (["sweep", "scan.nii.gz", "--scorers", "entropy"], "scorer 'entropy': choose one of"),
        (["sweep", "scan.nii.gz", "--region", "0:9"], "region '0:9': must be i0:i1,j0:j1,k0:k1"),
        (
            ["sweep", "scan.nii.gz", "--labels", "other.nii.gz"],
            "other: shape (40, 36, 10): must be",
        ),
        (["sweep", "scan.nii.gz", "--device", "tpu"], "device 'tpu': this machine has"),
        (["audit", "scan.nii.gz", "--keep-ratio", "0.5,1"], "give one number, or one per stage"),
        (["audit", "scan.nii.gz", "--region", "0:9,0:9,0:21"], "scan has 20 voxels along k"),
        (["audit", "scan.nii.gz", "-o", "scan.nii.gz"], "scan.nii.gz"),
    ],
)
def test_bad_input_is_one_plain_line_and_writes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    place = [] if "-o" in arguments else ["-o", "out"]
    run = CliRunner().invoke(app, [*arguments, *place, "--model", "nano"])
    assert run.exit_code == 1
    (line,) = run.stderr.splitlines()
    assert line.startswith("tokensparse: ")
    assert said in line
    assert sorted(folder.iterdir()) == before
