"""What the commands read: formats, frames, series and channels, as processes on real files."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import highdicom
import nibabel as nib
import nrrd
import numpy as np
import pytest
from typer.testing import CliRunner

from napari_tokensparse.cli import app
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import VolumeError

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

Command = Callable[..., subprocess.CompletedProcess[str]]
AFFINE = np.diag([-0.9, 1.1, 2.5, 1.0])
NOISE = np.random.default_rng(0).integers(1, 900, (20, 18, 12)).astype(np.int16)


def test_a_series_of_a_dicom_folder_becomes_a_dicom_segmentation(
    tokensparse: Command,
    write_nano: Callable[..., Path],
    dicoms: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    pixels = NOISE.transpose(2, 1, 0).astype(np.uint16)
    for number in (3, 8):
        dicoms["write_series"](
            tmp_path / "exam", pixels + number, SeriesNumber=number, prefix=f"{number}-"
        )
    options = ("--model", write_nano(), "--device", "cpu")
    run = invoke("segment", "exam", "-o", "labels.dcm", *options)
    assert run.exit_code == 1
    assert "choose one with --series NUMBER (series= in Python): 3 (MR axial, 12" in run.stderr
    assert "Doe" not in run.stderr
    run = tokensparse("segment", "exam", "-o", "labels.dcm", "--series", 8, *options, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "Doe" not in run.stderr + run.stdout
    assert not (tmp_path / "labels.label.txt").exists()
    volume = read_volume(tmp_path / "exam", series=8)
    assert np.array_equal(volume.array[0], NOISE + 8)
    seg = highdicom.seg.segread(tmp_path / "labels.dcm").get_volume(combine_segments=True)
    lps = np.diag([-1, -1, 1, 1]) @ volume.affine
    there = np.linalg.inv(seg.affine) @ lps  # the input's (i, j, k) to the file's own order
    labels = np.zeros(volume.shape, int)
    for index in np.ndindex(*volume.shape):
        at = np.round(there @ [*index, 1]).astype(int)[:3]
        inside = (at >= 0).all() and (at < seg.array.shape).all()
        labels[index] = 7 * seg.array[tuple(at)] if inside else 0
    assert np.array_equal(labels, segment(volume, write_nano()).labels)
    assert 0 < np.count_nonzero(labels) < labels.size


def test_an_acquisition_is_named_in_the_receipt_and_found_again(
    write_nano: Callable[..., Path],
    dicoms: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    pixels, uid = NOISE.transpose(2, 1, 0).astype(np.uint16), "1.2.3"
    for number in (1, 2):
        tags = {"AcquisitionNumber": number, "SeriesInstanceUID": uid, "prefix": f"{number}-"}
        dicoms["write_series"](tmp_path / "liver", pixels + number, **tags)
    options = ("--model", write_nano(), "--device", "cpu")
    run = invoke("segment", "liver", "-o", "two.nii.gz", "--series", "5.2", *options)
    assert run.exit_code == 0, run.output
    text = (tmp_path / "two.receipt.json").read_text(encoding="utf-8")
    assert json.loads(text)["options"]["series"] == "5.2"
    assert "--series 5.2" in json.loads(text)["command"]
    for secret in ("Doe", "JD-1", "19700101", "20200102", uid):
        assert secret not in text
    again = invoke("segment", "--from-receipt", "two.receipt.json")
    assert again.exit_code == 0, again.output
    assert "Identical: all 4320 voxels" in again.output


def test_files_of_channels_are_one_case_in_any_order(
    tokensparse: Command, write_nano: Callable[..., Path], tmp_path: Path
) -> None:
    model = write_nano("two", channels=2)
    nib.save(nib.MGHImage(NOISE, AFFINE), tmp_path / "one.mgz")
    finer = np.diag([-0.45, 0.55, 1.25, 1.0])
    double = np.kron(NOISE, np.ones((2, 2, 2), np.int16))
    nib.save(nib.Nifti1Image(double, finer), tmp_path / "two.nii")
    channels = ("--channel", "channel 1=two.nii", "--channel", "channel 0=one.mgz")
    run = tokensparse(
        "segment", "-o", "labels.nrrd", *channels, "--model", model, "--device", "cpu", cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr
    assert "Note: channel channel 0 was resampled to the grid of channel channel 1" in run.stdout
    labels, header = nrrd.read(str(tmp_path / "labels.nrrd"))
    assert header["space directions"] == pytest.approx(np.diag([0.45, -0.55, 1.25]), abs=1e-7)
    sources = {"channel 1": tmp_path / "two.nii", "channel 0": read_volume(tmp_path / "one.mgz")}
    assert np.array_equal(labels, segment(sources, model).labels)
    turned = segment(dict(reversed(sources.items())), model).labels
    assert turned.shape == NOISE.shape  # on the grid of the first that is given


def test_audit_and_sweep_take_channels_frames_and_tell_notes(
    write_nano: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    series = nib.Nifti1Image(np.stack([NOISE, NOISE + 5], axis=-1), AFFINE)
    series.header.set_xyzt_units("mm", "sec")
    moved = AFFINE.copy()
    moved[:3, 3] = 3.0
    series.set_sform(AFFINE, code=1)
    series.set_qform(moved, code=1)
    nib.save(series, "bold.nii")
    options = ("--model", write_nano(), "--device", "cpu")
    run = invoke("audit", "bold.nii", "-o", "out", *options)
    assert (run.exit_code, run.stdout) == (1, "")
    assert "bold.nii: is a time series of 2 frames; pick one with --frame N, 0 to 1" in run.stderr
    run = invoke("audit", "bold.nii", "-o", "out", "--frame", 1, *options)
    assert run.exit_code == 0, run.stderr
    assert "Note: qform and sform differ by up to 5.2 mm; the sform was used" in run.stderr
    assert nib.load("out/difference.nii.gz").shape == NOISE.shape
    nib.save(nib.Nifti1Image(NOISE, AFFINE), "one.nii")
    points = ("--keep-ratios", 0.5, "--scorers", "learned")
    run = invoke("sweep", "--channel", "channel 0=one.nii", "-o", "curve", *points, *options)
    assert run.exit_code == 0, run.stderr
    assert (tmp_path / "curve/sweep.csv").is_file()


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give IN, or --channel NAME=FILE for each channel of the model"),
        (["one.nii", "--channel", "a=b.nii"], "one.nii: --channel is given in its place"),
        (["--channel", "one.nii"], "--channel one.nii: must be NAME=FILE, for example T1="),
        (["--channel", "a=1", "--channel", "a=2"], "--channel a=2: a is given twice"),
        (["--channel", "a=1", "--frame", 0], "--frame and --series choose from IN; they do not"),
        (
            ["--channel", "t9=one.nii"],
            "channels: missing 'channel 0', unknown 't9'; the model takes 'channel 0'",
        ),
        (["one.nii", "-o", "x.dcm"], "x.dcm: DICOM SEG is written of a DICOM series, and one is"),
        (["one.nii", "--frame", 1], "one.nii: frame 1: must be 0 to 0"),
        (["one.nii", "--series", 1], "one.nii: series 1: only a DICOM folder has a choice"),
    ],
)
def test_wrong_inputs_are_refused_in_one_line(
    write_nano: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[object],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    nib.save(nib.Nifti1Image(NOISE, AFFINE), "one.nii")
    run = invoke("segment", "-o", "x.nii", *arguments, "--model", write_nano())
    assert run.exit_code == 1
    (line,) = run.stderr.splitlines()
    assert said in line
    assert not list(tmp_path.glob("x.*"))


def test_a_mapping_with_other_names_is_refused_before_anything_is_read(
    write_nano: Callable[..., Path],
) -> None:
    with pytest.raises(VolumeError, match="channels: missing 'channel 0', unknown 'T1'"):
        segment({"T1": "missing.nii"}, write_nano())
