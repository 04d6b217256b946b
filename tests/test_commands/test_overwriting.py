"""No command writes over a person's files."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from napari_tokensparse.cli import app

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture
def folder(
    tmp_path: Path, write_nano: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A scan and a model, in the folder where commands run."""
    data = np.random.default_rng(0).integers(1, 900, (34, 20, 20)).astype(np.int16)
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "scan.nii.gz")
    write_nano("two", channels=("T1", "FLAIR"))
    write_nano("nano")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_segment_replaces_its_own_files_and_none_of_a_person(folder: Path) -> None:
    files = ("-o", "out.nii.gz", "--table", "out.csv", "--tokens", "maps")
    arguments = ("segment", "scan.nii.gz", *files, "--model", "nano", "--device", "cpu")
    for _ in range(2):
        first = run(*arguments)
        assert first.exit_code == 0, first.output
    names = ("out.nii.gz", "out.csv", "out.label.txt", "out_dseg.tsv", "maps/pruned-at.nii.gz")
    for name in names:
        written = (folder / name).read_bytes()
        (folder / name).write_bytes(b"corrected")
        refused = run(*arguments)
        assert refused.exit_code == 1
        assert refused.stderr == (
            f"tokensparse: {name}: is there already, and not as tokensparse wrote it; choose "
            "another name, or replace it with --overwrite\n"
        )
        assert (folder / name).read_bytes() == b"corrected"
        (folder / name).write_bytes(written)
    (folder / "out.csv").write_text("corrected")
    assert run(*arguments, "--overwrite").exit_code == 0
    assert (folder / "out.csv").read_text().startswith("id,")

    other = run("segment", "scan.nii.gz", "-o", "out.nrrd", "--model", "nano")
    assert "out.receipt.json: is the receipt of out.nii.gz; choose another name" in other.stderr
    assert not (folder / "out.nrrd").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("segment", "--channel", "T1=scan.nii.gz", "--channel", "FLAIR=f.nii.gz", "--model", "two",
         "-o", "f.nii.gz"),
        ("segment", "scan.nii.gz", "--model", "nano", "-o", "hard.nii.gz"),
        ("segment", "scan.nii.gz", "--model", "nano", "-o", "soft.nii.gz"),
        ("segment", "exam", "--model", "nano", "-o", "exam/S0005.dcm"),
        ("segment", "exam", "--model", "nano", "-o", "exam/labels.nii.gz"),
        ("segment", "exam", "--model", "nano", "-o", "x.nii.gz", "--tokens", "exam/maps"),
        ("segment", "cases/summary.csv", "--model", "nano", "-o", "cases"),
        ("sweep", "scan.nii.gz", "--labels", "taken/sweep.csv", "--model", "nano", "-o", "taken"),
        ("audit", "taken/difference.nii.gz", "--model", "nano", "-o", "taken"),
        ("evaluate", "--data", "images", "--labels", "taken", "--model", "nano", "-o", "taken"),
        ("evaluate", "--data", "list.csv", "--model", "nano", "-o", "exam"),
    ],
)  # fmt: skip
def test_an_input_is_never_replaced_even_if_a_person_says_overwrite(
    folder: Path, dicoms: dict[str, Any], arguments: tuple[str, ...]
) -> None:
    dicoms["write_series"](folder / "exam", np.zeros((7, 5, 6), np.uint16))
    (folder / "taken").mkdir()
    mask = (nib.load(folder / "scan.nii.gz").get_fdata() > 450).astype(np.uint8)
    for name in ("f", "taken/difference"):
        nib.save(nib.Nifti1Image(mask, np.eye(4)), folder / f"{name}.nii.gz")
    (folder / "hard.nii.gz").hardlink_to(folder / "scan.nii.gz")
    (folder / "soft.nii.gz").symlink_to("scan.nii.gz")
    next((folder / "exam").iterdir()).rename(folder / "exam/S0005.dcm")
    (folder / "cases").mkdir()
    (folder / "cases/summary.csv").write_text("image\n../scan.nii.gz\n")
    (folder / "taken/sweep.csv").write_text("{}")
    (folder / "images").mkdir()
    shutil.copy(folder / "f.nii.gz", folder / "images/difference.nii.gz")
    (folder / "list.csv").write_text("image,label\nexam,f.nii.gz\n")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    refused = run(*arguments, "--overwrite")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("tokensparse: ")
    assert "is the scan or another input" in refused.stderr or "lies in the" in refused.stderr
    assert refused.stderr.count("\n") == 1
    if arguments[0] == "segment":
        assert arguments[-1] in refused.stderr  # the file that was named, not one beside it
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("sweep", "scan.nii.gz", "--model", "nano", "-o", "mine"), "mine/sweep.json"),
        (("audit", "scan.nii.gz", "--model", "nano", "-o", "mine"), "mine/classes.csv"),
        (("evaluate", "--data", "scan.nii.gz", "--model", "nano", "-o", "mine"), "mine/scores.csv"),
        (("demo", "--headless", "-o", "mine"), "mine/montage.png"),
        (("export-onnx", "nano", "-o", "mine/net.onnx"), "mine/net.onnx"),
        (("import-checkpoint", "a.pth.tar", "--config", "c.json", "-o", "mine"),
         "mine/docs/README.md"),
        (("segment", "*.nii.gz", "--model", "nano", "-o", "mine"), "mine/summary.csv"),
        (("train", "--data", "scan.nii.gz", "-o", "mine"), "mine/docs/README.md"),
    ],
)  # fmt: skip
def test_a_strangers_file_is_named_and_stays(
    folder: Path, arguments: tuple[str, ...], name: str
) -> None:
    path = folder / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    refused = run(*arguments)
    assert refused.exit_code == 1
    assert refused.stderr.count("\n") == 1
    said = "mine: holds something else" if arguments[0] == "train" else f"{name}: is there already"
    assert said in refused.stderr
    assert path.read_text() == "mine"
    assert [p for p in folder.rglob("*") if p.is_file() and "mine" in p.parts] == [path]


def test_events_are_not_appended_to_something_else(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    refused = run("train", "--data", "scan.nii.gz", "-o", "new", "--events", "notes.txt")
    assert refused.stderr == (
        "tokensparse: --events notes.txt: holds something else; name another file\n"
    )
    assert (folder / "notes.txt").read_text() == "mine"
