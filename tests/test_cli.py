"""The command line, run as a process on real files."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import nibabel as nib
import nrrd
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from napari_tokensparse.benchmarks.report import Report, Row
from napari_tokensparse.cli import app
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.expected import HOUNSFIELD
from napari_tokensparse.segmenting.infer import segment as run_segment
from napari_tokensparse.volumes.samples import sample_path

if TYPE_CHECKING:
    from pathlib import Path


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """Write an oblique, anisotropic scan of 40 x 36 x 20 voxels."""
    angle = np.deg2rad(17)
    affine = np.diag([0.9, 1.1, 2.5, 1.0])
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = turn @ affine
    affine[:3, 3] = (-31.5, 12.25, 7.0)
    data = np.random.default_rng(0).integers(1, 900, (40, 36, 20)).astype(np.int16)
    image = nib.Nifti1Image(data, affine)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=2)
    path = tmp_path / "oblique.nii.gz"
    nib.save(image, path)
    return path


def test_segment_writes_labels_and_token_maps_on_the_scans_own_grid(
    tokensparse: Command, scan: Path, write_nano: Callable[..., Path], tmp_path: Path
) -> None:
    run = tokensparse(
        "segment", scan, "-o", "labels.nii.gz", "--model", write_nano(), "--keep-ratio", 0.5,
        "--device", "cpu", "--tokens", "maps", cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    source, labels = nib.load(scan), nib.load(tmp_path / "labels.nii.gz")
    assert labels.shape == source.shape
    assert labels.get_data_dtype() == np.uint8
    assert set(np.unique(labels.dataobj)) <= {0, 7}
    for field in ("srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x", "pixdim"):
        np.testing.assert_array_equal(labels.header[field], source.header[field])
    assert (labels.header["sform_code"], labels.header["qform_code"]) == (2, 1)

    first = np.asarray(nib.load(tmp_path / "maps/importance-1.nii.gz").dataobj)
    last = np.asarray(nib.load(tmp_path / "maps/importance-3.nii.gz").dataobj)
    pruned_at = np.asarray(nib.load(tmp_path / "maps/pruned-at.nii.gz").dataobj)
    assert first.shape == last.shape == pruned_at.shape == source.shape
    assert set(np.unique(pruned_at)) == {1, 2, 3, 4}
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(np.isfinite(last), pruned_at >= 3)

    assert "50 % per stage → 12.5 % of tokens reach the end" in run.stdout
    assert "Wrote labels.nii.gz" in run.stdout
    assert "Segmenting oblique" in run.stderr


def test_segment_writes_nrrd_a_table_and_what_the_values_mean(
    tokensparse: Command, scan: Path, write_nano: Callable[..., Path], tmp_path: Path
) -> None:
    options = ("--model", write_nano(), "--keep-ratio", 0.5, "--device", "cpu")
    run = tokensparse(
        "segment", scan, "-o", "labels.nrrd", *options, "--table", "found.csv", cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr
    labels, header = nrrd.read(str(tmp_path / "labels.nrrd"))
    np.testing.assert_array_equal(labels, run_segment(scan, options[1], 0.5).labels)
    affine = nib.load(scan).affine
    np.testing.assert_array_equal(header["space origin"], affine[:3, 3] * [-1, -1, 1])
    with (tmp_path / "found.csv").open(newline="", encoding="utf-8") as file:
        (seven,) = csv.DictReader(file)
    assert (seven["id"], seven["name"]) == ("7", "seven")
    assert int(seven["voxels"]) == np.count_nonzero(labels == 7)
    assert float(seven["volume_ml"]) == pytest.approx(
        int(seven["voxels"]) * 0.9 * 1.1 * 2.5 / 1000, rel=1e-4
    )
    mean = np.asarray(nib.load(scan).dataobj)[labels == 7].mean()
    assert float(seven["mean_intensity"]) == pytest.approx(mean, rel=1e-6)
    assert '"seven"' in (tmp_path / "labels.label.txt").read_text()
    assert "7\tseven\t#ff0000" in (tmp_path / "labels_dseg.tsv").read_text()
    for name in ("labels.nrrd", "labels.label.txt", "labels_dseg.tsv", "found.csv"):
        assert f"Wrote {name}" in run.stdout


def test_segment_writes_the_labels_alone_where_nothing_else_is_wanted(
    tokensparse: Command, scan: Path, write_nano: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    run = tokensparse(
        "segment", scan, "-o", "out/labels.nii", "--no-legend", "--no-receipt",
        "--model", write_nano(), "--device", "cpu", cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert [p.name for p in folder.iterdir()] == ["labels.nii"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.nii.gz", "-o", "x.nii.gz"], "missing.nii.gz"),
        (["oblique.nii.gz", "-o", "x.png"], "x.png: must end in .nii.gz, .nii, .nrrd or .ome.zarr"),
        (["oblique.nii.gz", "-o", "no/x.nii.gz"], "no: no such folder; create it first"),
        (
            ["oblique.nii.gz", "-o", "x.nii", "--table", "x.xls"],
            "x.xls: the table must end in",
        ),
        (["oblique.nii.gz", "-o", "x.nii", "--table", "no/x.csv"], "no: no such folder; create it"),
        (["oblique.nii.gz", "-o", "x.nii", "--keep-ratio", "1.4"], "keep ratio 1.4: must be in"),
        (["oblique.nii.gz", "-o", "x.nii", "--keep-ratio", "0.5,x"], "keep ratio '0.5,x': must be"),
        (["oblique.nii.gz", "-o", "x.nii", "--keep-ratio", "0.5,1"], "give one number, or one per"),
        (["oblique.nii.gz", "-o", "x.nii", "--model", "nonesuch"], "model 'nonesuch': neither"),
        (["oblique.nii.gz", "-o", "x.nii", "--device", "tpu"], "device 'tpu': this machine has"),
        (
            ["oblique.nii.gz", "-o", "x.nii", "--scorer", "entropy"],
            "scorer 'entropy': choose one of learned, random, intensity, foreground",
        ),
        (
            ["oblique.nii.gz", "-o", "x.nii", "--ablate", "decoder"],
            "--ablate decoder: only 'encoder' can be left out",
        ),
    ],
)
def test_bad_input_is_one_plain_line_and_writes_nothing(
    tokensparse: Command, scan: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    run = tokensparse("segment", *arguments, cwd=tmp_path)
    assert run.returncode == 1
    lines = [line for line in run.stderr.splitlines() if "Segmenting" not in line]
    assert len(lines) == 1
    assert said in lines[0]
    assert "Traceback" not in run.stderr
    assert {p.name for p in tmp_path.iterdir()} == {scan.name}


def test_help_shows_defaults_that_are_words(tokensparse: Command, tmp_path: Path) -> None:
    said = tokensparse("segment", "--help", cwd=tmp_path).stdout.replace("│", " ")
    assert "one per stage. [default: the model's]" in " ".join(said.split())


def test_debug_shows_the_traceback(tokensparse: Command, tmp_path: Path) -> None:
    run = tokensparse("segment", "missing.nii", "-o", "x.nii", "--debug", cwd=tmp_path)
    assert run.returncode != 0
    assert "Traceback" in run.stderr


def test_controls_prune_as_they_say(
    tokensparse: Command, write_nano: Callable[..., Path], tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).normal(size=(32, 32, 32)).astype(np.float32)
    nib.save(nib.Nifti1Image(noise, np.eye(4)), tmp_path / "noise.nii")
    model, maps = write_nano(), {}
    for name, control in {
        "own": [],
        "random": ["--scorer", "random"],
        "ablated": ["--ablate", "encoder"],
    }.items():
        run = tokensparse(
            "segment", "noise.nii", "-o", f"{name}.nii.gz", "--model", model, "--device", "cpu",
            "--keep-ratio", 0.5, "--tokens", name, *control, cwd=tmp_path,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        pruned_at = np.asarray(nib.load(tmp_path / name / "pruned-at.nii.gz").dataobj)
        assert set(np.unique(pruned_at)) == {1, 2, 3, 4}
        first = np.asarray(nib.load(tmp_path / name / "importance-1.nii.gz").dataobj)
        maps[name] = (pruned_at, first)
    assert not np.array_equal(maps["random"][0], maps["own"][0])
    # The untrained blocks of so small a network do little, but they do something.
    assert np.abs(maps["ablated"][1] - maps["own"][1]).max() > 1e-5
    # Random importance is spread over (0, 1); an untrained predictor's is not.
    assert np.ptp(maps["random"][1]) > 0.9
    assert np.ptp(maps["own"][1]) < 0.5


def test_segment_warns_of_a_scan_that_the_model_is_not_made_for(
    tokensparse: Command, scan: Path, write_nano: Callable[..., Path], tmp_path: Path
) -> None:
    model = write_nano(foreground_ml=(300.0, 2400.0), expects=HOUNSFIELD)
    run = tokensparse(
        *("segment", scan, "-o", "labels.nii.gz", "--model", model, "--device", "cpu"),
        *("--receipt", "--table", "volumes.csv"),
        cwd=tmp_path,
    )
    assert run.returncode == 0
    assert "Warning: oblique: 71 ml" in run.stderr and "300 to 2,400 ml" in run.stderr
    assert "Warning: oblique: it has no values below -200, and in CT" in run.stderr
    assert (tmp_path / "labels.nii.gz").exists()
    kept = json.loads((tmp_path / "labels.receipt.json").read_text())["warnings"]
    assert [f"Warning: {line}" for line in kept] == run.stderr.splitlines()[:2]


def test_segment_writes_probabilities_beside_the_labels_on_their_grid(
    tokensparse: Command, scan: Path, write_nano: Callable[..., Path], tmp_path: Path
) -> None:
    line = ("segment", scan, "-o", "out.nii.gz", "--model", write_nano(), "--device", "cpu")
    run = tokensparse(*line, "--confidence", "--probabilities", "seven", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    labels = nib.load(tmp_path / "out.nii.gz")
    sure = nib.load(tmp_path / "out_confidence.nii.gz")
    seven = nib.load(tmp_path / "out_probabilities/seven.nii.gz")
    for image in (sure, seven):
        assert image.get_data_dtype() == np.uint8 and image.shape == labels.shape
        np.testing.assert_array_equal(image.affine, labels.affine)
    values, share = (np.asarray(image.dataobj).astype(int) for image in (labels, seven))
    assert share[values == 7].min() >= 127 and share[values == 0].max() <= 128
    np.testing.assert_allclose(np.asarray(sure.dataobj), np.maximum(share, 255 - share), atol=1)
    receipt = json.loads((tmp_path / "out.receipt.json").read_text())
    assert "--probabilities seven" in receipt["command"] and "--confidence" in receipt["command"]
    names = {file["name"] for file in receipt["files"]}
    assert {"out_confidence.nii.gz", "seven.nii.gz"} <= names
    again = tokensparse("segment", "--from-receipt", "out.receipt.json", scan, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    wrong = tokensparse(*line, "--overwrite", "--probabilities", "liver", cwd=tmp_path)
    assert wrong.returncode == 1
    assert wrong.stderr == "tokensparse: class 'liver': model nano has seven; or say all\n"


def test_segment_of_a_region_labels_the_box_alone(
    tokensparse: Command, scan: Path, write_nano: Callable[..., Path], tmp_path: Path
) -> None:
    run = tokensparse(
        "segment", scan, "-o", "part.nii.gz", "--model", write_nano(), "--device", "cpu",
        "--region", "0:10,12:,5:15", cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    whole = run_segment(scan, tmp_path / "nano").labels
    inside = np.zeros(whole.shape, bool)
    inside[0:10, 12:, 5:15] = True
    assert whole[inside].any()
    part = np.asarray(nib.load(tmp_path / "part.nii.gz").dataobj)
    np.testing.assert_array_equal(part, whole * inside)


def import_arguments(folder: Path, config: str = "config.json") -> list[str | Path]:
    return ["import-checkpoint", folder / "best_model.pth.tar", "--config", folder / config]


@pytest.mark.parametrize("name", ["scd_p16_att", "dense_p8"])
def test_an_imported_checkpoint_is_a_model_folder_with_the_same_logits(
    tokensparse: Command, reference: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    source = reference(name)
    run = tokensparse(*import_arguments(source), "-o", "mine", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "Wrote mine\n"
    model, theirs = load_model(tmp_path / "mine"), load_model(source)
    assert model.config == theirs.config
    assert model.info is not None
    assert model.info.name == "mine"
    with np.load(source / "io.npz") as arrays:
        image, expected = torch.from_numpy(arrays["image"]), arrays["logits[::4]"]
    with torch.inference_mode():
        logits = model(image).logits
        assert torch.equal(logits, theirs(image).logits)
    assert np.abs(logits.numpy()[..., ::4, ::4, ::4] - expected).max() <= 1e-4


def test_what_the_authors_command_line_changed_is_set_on_import(
    tokensparse: Command, reference: Callable[[str], Path], tmp_path: Path
) -> None:
    settings = ["--set", "tp_ratio=0.75", "--set", "perturbation=gumbel"]
    arguments = import_arguments(reference("scd_p8_mlp"))
    run = tokensparse(*arguments, *settings, "-o", "mine", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    config = load_model(tmp_path / "mine").config
    assert config.keep_ratio == (0.25,) * 3
    assert config.perturbation == "gumbel"


@pytest.mark.parametrize(
    ("config", "settings", "said"),
    [
        ("nowhere.yaml", [], "nowhere.yaml: cannot be read ("),
        ("config.json", ["tp_ratio"], "--set 'tp_ratio': must be KEY=VALUE"),
        ("config.json", ["dec_arch=UNet"], "dec_arch 'UNet': must be one of UNETR_decoder"),
        ("config.json", ["roi_x=33"], "window (33, 32, 32): every side must be a multiple"),
        ("config.json", ["feature_size=4"], "the weights do not fit the network – of another sh"),
    ],
)
def test_a_checkpoint_that_cannot_be_imported_is_one_plain_line_and_writes_nothing(
    tokensparse: Command,
    reference: Callable[[str], Path],
    tmp_path: Path,
    config: str,
    settings: list[str],
    said: str,
) -> None:
    arguments = import_arguments(reference("scd_p8_mlp"), config)
    changes = [argument for setting in settings for argument in ("--set", setting)]
    run = tokensparse(*arguments, *changes, "-o", "mine", cwd=tmp_path)
    assert run.returncode == 1
    assert len(run.stderr.splitlines()) == 1
    assert said in run.stderr
    assert list(tmp_path.iterdir()) == []


def test_bench_prints_the_cost_of_every_part_as_json(tokensparse: Command, tmp_path: Path) -> None:
    few = ("--presets", "btcv", "--keep-ratios", "0.5")
    run = tokensparse("bench", "--macs", *few, "--json", "-", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    rows = json.loads(run.stdout)["rows"]
    named = {"section", "preset", "variant", "keep_ratio", "part", "gmacs"}
    assert all(named <= row.keys() and row["section"] == "macs" for row in rows)
    total = {
        (row["preset"], row["variant"], row["keep_ratio"]): row["gmacs"]
        for row in rows
        if row["part"] == "total"
    }
    assert total["btcv", "scd", 0.5] == pytest.approx(165.3, rel=0.005)
    assert total["btcv", "dense", 1.0] == pytest.approx(258.3, rel=0.005)
    parts = {row["part"] for row in rows}
    assert {"patch embedding", "blocks", "pruning", "completion", "decoder"} <= parts


@pytest.mark.deep
def test_bench_times_the_live_preview_as_json(tokensparse: Command, tmp_path: Path) -> None:
    run = tokensparse("bench", "--preview", "--json", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    rows = json.loads(run.stdout)["rows"]
    assert [(row["keep_ratio"], row["part"]) for row in rows] == [
        (ratio, part) for ratio in (0.1, 0.25, 0.5, 0.75, 1.0) for part in ("full", "update")
    ]
    assert all(row["section"] == "preview" and row["seconds"] > 0 for row in rows)
    for full, update in zip(rows[::2], rows[1::2], strict=True):
        assert 0.5 < update["gmacs"] / full["gmacs"] < 1.0


def test_bench_without_a_section_says_what_to_give(tokensparse: Command, tmp_path: Path) -> None:
    run = tokensparse("bench", cwd=tmp_path)
    assert run.returncode == 1
    assert run.stderr == (
        "tokensparse: nothing to measure: give one or more of --macs, --inference, --bfloat16, "
        "--int8, --sparse, --training, --volume, --preview\n"
    )


def test_bench_refuses_before_it_measures_to_write_over_a_file_or_nowhere(
    tokensparse: Command, tmp_path: Path
) -> None:
    (tmp_path / "old.json").write_text("mine")
    for file, line in (
        ("old.json", "old.json: is there already; name a new file"),
        ("no/new.json", "no: no such folder; create it first"),
    ):
        run = tokensparse("bench", "--macs", "-o", file, cwd=tmp_path)
        assert (run.returncode, run.stderr) == (1, f"tokensparse: {line}\n")
    assert (tmp_path / "old.json").read_text() == "mine"


def test_bench_times_a_window_with_pinned_threads_and_compares_with_an_earlier_run(
    tokensparse: Command,
    tmp_path: Path,
) -> None:
    row = Row("inference", "total", "nano", "scd", "plain", 0.5, seconds=2.0, gmacs=1.0)
    (tmp_path / "old.json").write_text(Report({}, 10.0, (row,)).to_json())
    run = tokensparse(
        "bench", "--inference", "--presets", "nano", "--keep-ratios", 0.5, "--rounds", 1,
        "--threads", 1, "--backends", "plain", "--compare", "old.json", "--json", "-",
        "-o", "new.json", cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "inference nano: round 2 of 2" in run.stderr
    report = json.loads(run.stdout)
    assert "Wrote new.json" in run.stderr
    assert json.loads((tmp_path / "new.json").read_text())["rows"] == report["rows"]
    assert report["machine"]["threads"] == 1
    rate, total = report["gemm_gmac_s"], report["rows"][0]
    assert (total["variant"], total["part"]) == ("scd", "total")
    assert total["efficiency"] == pytest.approx(total["gmacs"] / (total["seconds"] * rate))
    (change,) = report["compared"]
    assert change["row"] == total
    assert change["time"] == pytest.approx(total["seconds"] * rate / (2.0 * 10.0))
    assert change["gmacs"] == total["gmacs"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--presets", "tiny"], "preset 'tiny': choose one of nano, small"),
        (["--voxels", "256x256"], "voxels '256x256': three numbers like 256x256x200"),
        (["--compare", "gone.json"], "gone.json: cannot be read (No such file or directory)"),
    ],
)
def test_a_benchmark_that_cannot_be_run_is_one_plain_line(
    tokensparse: Command, tmp_path: Path, arguments: list[str], said: str
) -> None:
    run = tokensparse("bench", "--macs", *arguments, cwd=tmp_path)
    assert run.returncode == 1
    assert run.stderr.startswith(f"tokensparse: {said}")
    assert len(run.stderr.splitlines()) == 1


def test_demo_without_a_display_writes_labels_maps_and_a_montage(
    tokensparse: Command, tmp_path: Path
) -> None:
    run = tokensparse("demo", "--keep-ratio", 0.25, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    folder = tmp_path / "demo"
    assert {p.name for p in folder.iterdir()} == {
        "labels.nii.gz",
        "importance-1.nii.gz",
        "importance-2.nii.gz",
        "importance-3.nii.gz",
        "pruned-at.nii.gz",
        "montage.png",
        ".tokensparse.json",
    }
    labels, sample = nib.load(folder / "labels.nii.gz"), nib.load(sample_path())
    assert labels.shape == sample.shape
    np.testing.assert_array_equal(labels.affine, sample.affine)
    assert len(np.unique(labels.dataobj)) == 28  # every structure is found
    with Image.open(folder / "montage.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    coloured = np.abs(pixels.max(axis=-1) - pixels.min(axis=-1)) > 30
    column = pixels.shape[1] // 6
    assert not coloured[:, :column].any()  # the image is grey
    assert coloured[:, column : 2 * column].any()  # the labels are not
    for path in folder.glob("[!.]*"):
        assert f"Wrote demo/{path.name}" in run.stdout


SAMPLE = "mni_icbm152_t1_1mm"
DEMO_LAYERS = [
    SAMPLE,
    *(f"{SAMPLE} importance {n}" for n in (1, 2, 3)),
    f"{SAMPLE} pruned at",
    f"{SAMPLE} labels",
]
DEMO_WITH_A_WATCH = """
import napari
from qtpy.QtCore import QTimer
from napari_tokensparse.cli import app

def look():
    viewer = napari.current_viewer()
    if viewer is None or len(viewer.layers) < 6:
        return
    print("layers:", *(layer.name for layer in viewer.layers), sep="\\n")
    viewer.close()

started = napari.run
def run():
    timer = QTimer()
    timer.timeout.connect(look)
    timer.start(500)
    started()
napari.run = run
app(["demo", "--keep-ratio", "0.3"])
"""


@pytest.mark.gui
def test_demo_with_a_display_opens_napari_and_shows_labels_and_tokens(
    make_napari_viewer: Callable[..., Any],
    qtbot: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    part = tmp_path_factory.mktemp("sample") / sample_path().name
    nib.save(nib.load(sample_path()).slicer[70:134, 50:175, 60:124], part)  # two windows
    monkeypatch.setattr("napari_tokensparse.volumes.samples.sample_path", lambda: part)
    viewer = make_napari_viewer()
    monkeypatch.setattr("napari.Viewer", lambda title: viewer)
    monkeypatch.setattr(
        "napari.run", lambda: qtbot.waitUntil(lambda: len(viewer.layers) == 6, timeout=300_000)
    )
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke(app, ["demo", "--keep-ratio", "0.3"])
    assert run.exit_code == 0, run.output
    assert [layer.name for layer in viewer.layers] == DEMO_LAYERS
    assert list(tmp_path.iterdir()) == []


@pytest.mark.gui
@pytest.mark.deep
def test_demo_with_a_display_is_a_process_that_ends_with_its_window(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", DEMO_WITH_A_WATCH],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-6:] == DEMO_LAYERS
    assert list(tmp_path.iterdir()) == []
