"""Receipts on the command line: written beside the labels, and repeated."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from napari_tokensparse.cli import app
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.outputs.receipts import read_receipt
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.volumes.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result


def tokensparse(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def labels_of(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


@pytest.fixture
def folder(
    tmp_path: Path, write_nano: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Go to a folder with a model, a scan, its labels and their receipt."""
    begin_with_a_scan(tmp_path, monkeypatch)
    run = tokensparse(
        "segment", "scan.nii.gz", "-o", "labels.nii.gz", "--model", write_nano().name,
        "--keep-ratio", 0.5, "--device", "cpu", "--scorer", "random", "--region", ":,4:,:",
        "--table", "found.csv", "--no-legend",
    )  # fmt: skip
    assert run.exit_code == 0, run.output
    assert "Wrote labels.receipt.json" in run.output
    return tmp_path


def change(path: Path, **fields: Any) -> None:
    """Write another receipt: a dot goes one level down."""
    said = json.loads(path.read_text())
    for name, value in fields.items():
        *above, last = name.split("__")
        at = said
        for key in above:
            at = at[int(key) if key.isdigit() else key]
        at[last] = value
    path.write_text(json.dumps(said))


def test_a_receipt_records_every_option_and_its_command_gives_the_same(folder: Path) -> None:
    first = read_receipt(folder / "labels.receipt.json")
    assert first.options.model_dump() == {
        "model": "nano",
        "keep_ratio": (0.5, 0.5, 0.5),
        "importance": None,
        "pin": None,
        "drop": None,
        "device": "cpu",
        "backend": "auto",
        "precision": "auto",
        "scorer": "random",
        "ablate": None,
        "seed": 0,
        "overlap": None,
        "frame": None,
        "series": None,
        "region": ":,4:,:",
        "sharpen": False,
        "least_confidence": 0.0,
        "strip": False,
        "legend": False,
        "confidence": False,
        "probabilities": (),
        "table": "found.csv",
        "tokens": None,
        "regions": None,
    }
    before = labels_of(folder / "labels.nii.gz")
    (folder / "labels.nii.gz").unlink()
    program, *arguments = shlex.split(first.command)
    assert program == "tokensparse"
    assert tokensparse(*arguments).exit_code == 0
    np.testing.assert_array_equal(labels_of(folder / "labels.nii.gz"), before)
    assert before.any() and not before[:, :4].any()
    again = read_receipt(folder / "labels.receipt.json")
    assert (again.command, again.output.labels_sha256) == (
        first.command,
        first.output.labels_sha256,
    )


def test_a_repeated_run_is_identical_and_writes_only_what_is_asked_for(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = {path.name for path in folder.iterdir()}
    run = tokensparse("segment", "--from-receipt", "labels.receipt.json")
    assert run.exit_code == 0, run.output
    assert "Identical: all 21600 voxels have the labels of the receipt." in run.stdout
    assert {path.name for path in folder.iterdir()} == before

    elsewhere = tmp_path_factory.mktemp("elsewhere") / "renamed.nii.gz"
    (folder / "scan.nii.gz").rename(elsewhere)
    run = tokensparse(
        "segment", "--from-receipt", "labels.receipt.json", elsewhere, "-o", "again.nii.gz"
    )
    assert run.exit_code == 0, run.output
    old, new = (read_receipt(folder / f"{name}.receipt.json") for name in ("labels", "again"))
    assert new.output.labels_sha256 == old.output.labels_sha256
    assert new.inputs == old.inputs
    assert {path.name for path in folder.iterdir()} - before == {
        "again.nii.gz",
        "again.receipt.json",
    }


def test_other_labels_are_counted_against_the_old_ones_and_what_changed_is_said(
    folder: Path,
) -> None:
    receipt, labels = folder / "labels.receipt.json", folder / "labels.nii.gz"
    old = labels_of(labels)
    change(receipt, options__region=None, versions__torch="1.0")
    run = tokensparse("segment", "--from-receipt", receipt, "-o", "again.nii.gz")
    assert run.exit_code == 1
    differing = np.count_nonzero(labels_of(folder / "again.nii.gz") != old)
    assert differing > 0
    said = f"Not identical: {differing} of 21600 voxels differ from labels.nii.gz."
    assert said in run.stdout
    assert "torch: was 1.0, is " in run.stdout
    assert "numpy: was" not in run.stdout

    labels.write_bytes((folder / "scan.nii.gz").read_bytes())
    run = tokensparse("segment", "--from-receipt", receipt)
    assert run.exit_code == 1
    assert "Not identical; labels.nii.gz is not there as it was" in run.stdout


UNREPEATABLE = [
    ({}, ["other.nii.gz"], "other.nii.gz: is not the scan of labels.receipt.json (SHA-256"),
    ({}, ["gone.nii.gz"], "gone.nii.gz: no such file; give the scan"),
    ({"inputs__0__name": "x.nii"}, [], "x.nii: no such file; give the scan"),
    ({"inputs__0__sha256": None}, [], "was the napari layer 'scan.nii.gz', which no file"),
    ({"model__weights_sha256": "0" * 64}, [], "model nano: has other weights than the rec"),
    ({"options__device": "tpu"}, [], "device 'tpu': this machine has"),
    ({"format": 2}, [], "labels.receipt.json: is not a receipt (format 2"),
    ({}, ["--keep-ratio", "0.5"], "--keep-ratio: is as labels.receipt.json says; leave it out"),
    ({}, ["--no-receipt"], "--no-receipt: is as labels.receipt.json says; leave it out"),
    ({}, ["-o", "x.png"], "x.png: must end in"),
]


def test_what_cannot_be_repeated_is_one_plain_line(folder: Path) -> None:
    (folder / "other.nii.gz").write_bytes(b"another scan")
    receipt = folder / "labels.receipt.json"
    written = receipt.read_text()
    for fields, arguments, said in UNREPEATABLE:
        receipt.write_text(written)
        change(receipt, **fields)
        run = tokensparse("segment", "--from-receipt", "labels.receipt.json", *arguments)
        assert (run.exit_code, len(run.stderr.splitlines())) == (1, 1)
        assert said in run.stderr


def test_device_and_model_folder_may_differ_from_the_receipt(folder: Path) -> None:
    change(folder / "labels.receipt.json", options__device="cuda:7")
    (folder / "nano").rename(folder / "moved")
    run = tokensparse(
        "segment", "--from-receipt", "labels.receipt.json", "--model", "moved", "--device", "cpu"
    )
    assert run.exit_code == 0, run.output


def test_no_receipt_is_written_where_none_is_wanted(folder: Path) -> None:
    run = tokensparse(
        "segment", "scan.nii.gz", "-o", "plain.nii", "--model", "nano", "--no-receipt",
        "--no-legend", "--device", "cpu",
    )  # fmt: skip
    assert run.exit_code == 0, run.output
    assert [path.name for path in folder.glob("plain*")] == ["plain.nii"]


def test_frames_as_many_as_the_models_channels_are_its_channels_and_any_other_number_is_not(
    tmp_path: Path, write_nano: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = np.random.default_rng(0).integers(1, 900, (34, 20, 20, 2)).astype(np.int16)
    for name, count in (("two.nii.gz", 2), ("three.nii.gz", 3)):
        image = nib.Nifti1Image(data[..., [0, 1, 0][:count]], np.eye(4))
        image.header.set_xyzt_units("mm", "sec")
        nib.save(image, tmp_path / name)
    model = ("--model", write_nano("two", channels=("T1", "T2")).name, "--device", "cpu")
    run = tokensparse("segment", "three.nii.gz", "-o", "labels.nii.gz", *model)
    assert (run.exit_code, "is a time series of 3 frames; pick one" in run.stderr) == (1, True)
    run = tokensparse("segment", "two.nii.gz", "-o", "labels.nii.gz", *model)
    assert run.exit_code == 0, run.output
    assert "Note: the file calls its fourth axis time; it was taken as T1, T2" in run.stdout
    volumes = {f"T{n + 1}": Volume(data[None, ..., n], np.eye(4), "a") for n in range(2)}
    expected = segment(volumes, "two").labels
    np.testing.assert_array_equal(labels_of(tmp_path / "labels.nii.gz"), expected)
    assert tokensparse("segment", "--from-receipt", "labels.receipt.json").exit_code == 0


AT_ODDS = [
    (["scan.nii.gz"], "give IN and where its labels go: tokensparse segment IN -o OUT"),
    (["scan.nii.gz", "-o", "x.nii", "--workers", "2"], "--workers: is for many scans"),
    (["scans", "-o", "out", "--table", "x.csv"], "--table: is for one scan; many have"),
    (["scans", "-o", "out", "--no-receipt"], "--no-receipt: is for one scan; leave it out"),
    (["scans", "-o", "out", "--model", "nonesuch"], "model 'nonesuch': neither"),
    (["scans", "-o", "out", "--keep-ratio", "1.4"], "keep ratio 1.4: must be in (0, 1]"),
    (
        ["scans", "-o", "out", "--ablate", "decoder"],
        "--ablate decoder: only 'encoder' can be left out",
    ),
    (["scans", "-o", "out", "--workers", "0"], "workers 0: must be 1 or more"),
    (["scans", "-o", "out"], "scans: no scan is there"),
    (["scan*.nii.gz", "-o", "out.nii.gz"], "out.nii.gz: is a file; give a folder"),
    (["cases.csv", "-o", "out"], "cases.csv: cannot be read (No such file or directory)"),
]


def test_options_that_do_not_go_together_are_one_plain_line(folder: Path) -> None:
    (folder / "scans").mkdir()
    for arguments, said in AT_ODDS:
        run = tokensparse("segment", *arguments)
        assert (run.exit_code, len(run.stderr.splitlines())) == (1, 1)
        assert run.stderr.startswith(f"tokensparse: {said}")
        assert not (folder / "out").exists()


def test_channels_with_a_file_each_are_named_and_found_again(
    tmp_path: Path, write_nano: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("t1", "flair"):
        data = rng.integers(1, 900, (36, 30, 20)).astype(np.int16)
        nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / f"{name}.nii.gz")
    model = write_nano("two", channels=2)
    first, second = load_model(model).info.channels
    files = ("--channel", f"{second}=flair.nii.gz", "--channel", f"{first}=t1.nii.gz")
    run = tokensparse("segment", *files, "-o", "labels.nii.gz", "--model", "two", "--device", "cpu")
    assert run.exit_code == 0, run.output
    receipt = read_receipt(tmp_path / "labels.receipt.json")
    assert [(scan.channel, scan.name) for scan in receipt.inputs] == [
        (second, "flair.nii.gz"),
        (first, "t1.nii.gz"),
    ]
    before = labels_of(tmp_path / "labels.nii.gz")
    again = tokensparse(*shlex.split(receipt.command)[1:])
    assert again.exit_code == 0, again.output
    np.testing.assert_array_equal(labels_of(tmp_path / "labels.nii.gz"), before)

    run = tokensparse("segment", "--from-receipt", "labels.receipt.json")
    assert run.exit_code == 0, run.output
    assert "Identical: all 21600 voxels" in run.output
    run = tokensparse("segment", "--from-receipt", "labels.receipt.json", "t1.nii.gz")
    assert (run.exit_code, "labels.receipt.json is of 2 channels" in run.output) == (1, True)
    (tmp_path / "t1.nii.gz").write_bytes((tmp_path / "flair.nii.gz").read_bytes())
    run = tokensparse("segment", "--from-receipt", "labels.receipt.json")
    assert (run.exit_code, "t1.nii.gz: is not the scan" in run.output) == (1, True)


def begin_with_a_scan(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    data = np.random.default_rng(0).integers(1, 900, (36, 30, 20)).astype(np.int16)
    nib.save(nib.Nifti1Image(data, np.eye(4)), folder / "scan.nii.gz")


def test_sharpening_is_recorded_and_repeated(
    tmp_path: Path, write_nano: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_with_a_scan(tmp_path, monkeypatch)
    asked = ("segment", "scan.nii.gz", "--model", write_nano().name)
    plain = tokensparse(*asked, "-o", "plain.nii.gz")
    run = tokensparse(*asked, "-o", "sharp.nii.gz", "--sharpen")
    assert (plain.exit_code, run.exit_code) == (0, 0), run.output
    receipts = [read_receipt(tmp_path / f"{name}.receipt.json") for name in ("plain", "sharp")]
    assert [one.options.sharpen for one in receipts] == [False, True]
    assert ["--sharpen" in shlex.split(one.command) for one in receipts] == [False, True]
    assert [one.seconds.get("sharpen") is None for one in receipts] == [True, False]
    assert (labels_of(tmp_path / "plain.nii.gz") != labels_of(tmp_path / "sharp.nii.gz")).any()

    again = tokensparse("segment", "--from-receipt", "sharp.receipt.json")
    assert again.exit_code == 0, again.output
    assert "Identical" in again.stdout
    refused = tokensparse("segment", "--from-receipt", "sharp.receipt.json", "--no-sharpen")
    assert refused.exit_code != 0
    assert "--no-sharpen: is as sharp.receipt.json says; leave it out" in refused.output


def test_a_least_confidence_is_recorded_and_repeated(
    tmp_path: Path, write_nano: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_with_a_scan(tmp_path, monkeypatch)
    asked = ("segment", "scan.nii.gz", "--model", write_nano().name)
    refused = tokensparse(*asked, "-o", "no.nii.gz", "--least-confidence", "1")
    assert refused.exit_code == 1
    assert "least confidence 1: must be in [0, 1)" in refused.output
    plain = tokensparse(*asked, "-o", "plain.nii.gz")
    run = tokensparse(*asked, "-o", "sure.nii.gz", "--least-confidence", "0.8")
    assert (plain.exit_code, run.exit_code) == (0, 0), run.output
    receipts = [read_receipt(tmp_path / f"{name}.receipt.json") for name in ("plain", "sure")]
    assert [one.options.least_confidence for one in receipts] == [0.0, 0.8]
    assert "--least-confidence" not in receipts[0].command
    assert "--least-confidence 0.8" in receipts[1].command
    before, after = (labels_of(tmp_path / f"{name}.nii.gz") for name in ("plain", "sure"))
    assert (after != before).any() and (after[after > 0] == before[after > 0]).all()
    again = tokensparse("segment", "--from-receipt", "sure.receipt.json")
    assert (again.exit_code, "Identical" in again.stdout) == (0, True), again.output


def test_a_model_that_asks_for_sharpening_gets_it_unless_a_run_says_otherwise(
    tmp_path: Path, write_nano: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_with_a_scan(tmp_path, monkeypatch)
    folder = write_nano()
    metadata = folder / "configs/metadata.json"
    assert "sharpen" not in json.loads(metadata.read_text())["napari_tokensparse"]["info"]
    change(metadata, napari_tokensparse__info__sharpen=True)
    for name, *more in (("own.nii.gz",), ("no.nii.gz", "--no-sharpen")):
        run = tokensparse("segment", "scan.nii.gz", "-o", name, "--model", folder.name, *more)
        assert run.exit_code == 0, run.output
    own, no = (read_receipt(tmp_path / f"{name}.receipt.json") for name in ("own", "no"))
    assert (own.options.sharpen, no.options.sharpen) == (True, False)
    assert "sharpen" not in own.command
    assert "--no-sharpen" in no.command


def test_importance_and_pins_are_recorded_as_numbers_and_repeated(folder: Path) -> None:
    mask = np.zeros((36, 30, 20), np.uint8)
    mask[3, 3, 3] = mask[30, 3, 3] = 1
    nib.save(nib.Nifti1Image(mask, np.eye(4)), folder / "mine.nii.gz")
    run = tokensparse(
        "segment", "scan.nii.gz", "-o", "adaptive.nii.gz", "--model", "nano", "--device", "cpu",
        "--importance", 0.5, "--pin", "mine.nii.gz", "--drop", "1-2", "--tokens", "maps",
    )  # fmt: skip
    assert run.exit_code == 0, run.output
    receipt = read_receipt(folder / "adaptive.receipt.json")
    options = receipt.options
    assert (options.importance, options.drop) == (0.5, "1-2")
    assert options.pin is not None and len(options.pin.split(",")) == 2
    pruned_at = labels_of(folder / "maps" / "pruned-at.nii.gz")
    assert (pruned_at[mask > 0] == 4).all()
    words = shlex.split(receipt.command)
    assert words[words.index("--pin") + 1] == options.pin
    assert words[words.index("--importance") + 1] == "0.5"
    assert "--keep-ratio" not in words
    again = tokensparse("segment", "--from-receipt", "adaptive.receipt.json", "-o", "b.nii.gz")
    assert again.exit_code == 0, again.output
    assert "Identical: all 21600 voxels" in again.output


@pytest.mark.parametrize("name", ["--pin", "--drop"])
def test_a_mask_of_pins_is_an_input_that_no_output_replaces(folder: Path, name: str) -> None:
    mask = np.zeros((36, 30, 20), np.uint8)
    mask[3, 3, 3] = 1
    nib.save(nib.Nifti1Image(mask, np.eye(4)), folder / "mine.nii.gz")
    drawn = (folder / "mine.nii.gz").read_bytes()
    run = tokensparse(
        "segment", "scan.nii.gz", "-o", "mine.nii.gz", "--model", "nano", name, "mine.nii.gz",
        "--overwrite",
    )  # fmt: skip
    assert run.exit_code == 1
    assert "mine.nii.gz" in run.stderr and run.stderr.count("\n") == 1
    assert (folder / "mine.nii.gz").read_bytes() == drawn


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--importance", 1.5), "importance 1.5: must be in [0, 1]"),
        (("--importance", 0.5, "--keep-ratio", 0.3), "in place of --keep-ratio 0.3; give one of"),
        (("--pin", "0-9999"), "must ascend below"),
        (("--drop", "nowhere.nii.gz"), "nowhere.nii.gz"),
        (("--importance", 0.5, "--backend", "compile"), "fixed numbers of tokens"),
    ],
)
def test_a_rule_or_a_pin_that_cannot_be_is_refused_in_a_line(
    folder: Path, given: tuple[str | float, ...], said: str
) -> None:
    run = tokensparse(
        "segment", "scan.nii.gz", "-o", "no.nii.gz", "--model", "nano", "--device", "cpu", *given
    )
    assert run.exit_code == 1
    assert said in run.stderr and run.stderr.count("\n") == 1
    assert not (folder / "no.nii.gz").exists()
