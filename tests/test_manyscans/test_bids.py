"""BIDS data sets in, derivatives out: names, files and what is left alone."""

from __future__ import annotations

import csv
import json
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from napari_tokensparse.cli import app
from napari_tokensparse.common.ownership import OwnershipError
from napari_tokensparse.manyscans.bids import (
    bids_scans,
    prepare_bids,
    sessions_left_out,
    write_sidecars,
)
from napari_tokensparse.manyscans.cases import ManyScansError
from napari_tokensparse.manyscans.scans import describe_model, plan, segment_scan
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.folder import describe_folder
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.segmenting.options import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DERIVATIVE = "derivatives/napari-tokensparse"


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def write_scan(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).integers(1, 900, (40, 36, 20)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)


def test_one_kind_of_image_is_taken_of_each_session_with_all_its_runs(tmp_path: Path) -> None:
    data_set = touch(
        tmp_path,
        "sub-01/ses-a/anat/sub-01_ses-a_run-1_T1w.nii.gz",
        "sub-01/ses-a/anat/sub-01_ses-a_run-2_T1w.nii.gz",
        "sub-01/ses-a/anat/sub-01_ses-a_T2w.nii.gz",
        "sub-01/ses-a/func/sub-01_ses-a_bold.nii.gz",
        "sub-02/anat/sub-02_FLAIR.nii",
        "sub-02/anat/sub-02_T2w.json",
        "derivatives/other/sub-01/anat/sub-01_T1w.nii.gz",
    )
    cases = bids_scans(data_set, ("MRI of any contrast",))
    assert [(case.name, case.labels.as_posix() if case.labels else "") for case in cases] == [
        ("sub-01_ses-a_run-1", "sub-01/ses-a/anat/sub-01_ses-a_run-1_dseg.nii.gz"),
        ("sub-01_ses-a_run-2", "sub-01/ses-a/anat/sub-01_ses-a_run-2_dseg.nii.gz"),
        ("sub-02", "sub-02/anat/sub-02_dseg.nii.gz"),
    ]
    first, *_ = bids_scans(data_set, ("T2w",))
    assert first.image.name == "sub-01_ses-a_T2w.nii.gz"


def test_a_model_of_several_channels_gets_the_images_they_are_called_after(tmp_path: Path) -> None:
    data_set = touch(
        tmp_path,
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-01/anat/sub-01_FLAIR.nii.gz",
        "sub-02/anat/sub-02_T1w.nii.gz",
    )
    (case,) = bids_scans(data_set, ("FLAIR", "T1w"))
    assert [(channel, file.name) for channel, file in case.files] == [
        ("FLAIR", "sub-01_FLAIR.nii.gz"),
        ("T1w", "sub-01_T1w.nii.gz"),
    ]
    with pytest.raises(
        ManyScansError, match=r"no scan is there; .* and this model takes T1gd, T2w"
    ):
        bids_scans(data_set, ("T1gd", "T2w"))


def test_a_session_that_lacks_a_channel_is_named_and_phase_is_no_image(tmp_path: Path) -> None:
    data_set = touch(
        tmp_path,
        "sub-01/anat/sub-01_part-mag_T1w.nii.gz",
        "sub-01/anat/sub-01_part-mag_T2w.nii.gz",
        "sub-01/anat/sub-01_part-phase_T1w.nii.gz",
        "sub-01/anat/sub-01_part-phase_T2w.nii.gz",
        "sub-02/anat/sub-02_T1w.nii.gz",
        "sub-03/anat/sub-03_acq-a_T1w.nii.gz",
        "sub-03/anat/sub-03_acq-b_T2w.nii.gz",
        "sub-04/anat/sub-04_T1w.json",
    )
    assert [case.name for case in bids_scans(data_set, ("T1", "t2"))] == ["sub-01_part-mag"]
    assert sessions_left_out(data_set, ("T1", "t2")) == (
        "sub-02/anat: left out, for it has no t2 (there: T1w)",
        "sub-03/anat: left out, for it has none that go together (there: T1w, T2w)",
    )
    names = [case.name for case in bids_scans(data_set, ("MRI",))]
    assert names == ["sub-01_part-mag", "sub-02", "sub-03_acq-a"]
    assert sessions_left_out(data_set, ("MRI",)) == ()


def test_a_folder_of_another_program_or_model_is_refused(
    tmp_path: Path, write_nano: Callable[..., Path]
) -> None:
    described = describe_folder(write_nano())
    folder = prepare_bids(tmp_path / "out", tmp_path / "raw", described)
    assert prepare_bids(tmp_path / "out", tmp_path / "raw", described) == folder  # it goes on
    other = describe_folder(write_nano("other"))
    with pytest.raises(ManyScansError, match="holds labels of another model; give another folder"):
        prepare_bids(tmp_path / "out", tmp_path / "raw", other)
    touch(tmp_path / "mine" / DERIVATIVE, "notes.txt")
    with pytest.raises(ManyScansError, match="holds something else"):
        prepare_bids(tmp_path / "mine", tmp_path / "raw", described)


@pytest.mark.parametrize("name", ["dataset_description.json", ".bidsignore", "dseg.tsv"])
def test_what_a_person_changed_of_a_derivative_is_refused_by_name(
    tmp_path: Path, write_nano: Callable[..., Path], name: str
) -> None:
    described = describe_folder(write_nano())
    folder = prepare_bids(tmp_path, tmp_path / "raw", described)
    written = (folder / name).read_text("utf-8")
    changed = written.replace("Segmentations by", "Corrected, from") + "\n"
    (folder / name).write_text(changed, "utf-8")
    with pytest.raises(OwnershipError, match=f"{name}: is there already, and not as tokensparse"):
        prepare_bids(tmp_path, tmp_path / "raw", described)
    assert (folder / name).read_text("utf-8") == changed
    prepare_bids(tmp_path, tmp_path / "raw", described, overwrite=True)
    assert (folder / name).read_text("utf-8") == written


def test_a_sidecar_that_a_person_changed_stays(
    tmp_path: Path, write_nano: Callable[..., Path]
) -> None:
    described = describe_folder(write_nano())
    names = [f"sub-{n}/anat/sub-{n}_T1w.nii.gz" for n in (1, 2)]
    cases = bids_scans(touch(tmp_path, *names), described.info.channels)
    folder = prepare_bids(tmp_path, tmp_path, described)
    for case in cases:
        touch(folder, str(case.labels))
    assert write_sidecars(folder, tmp_path, cases) == []
    side = folder / "sub-1/anat/sub-1_dseg.json"
    side.write_text(side.read_text("utf-8").replace("false", "true"), "utf-8")
    assert write_sidecars(folder, tmp_path, cases) == [side]
    assert json.loads(side.read_text("utf-8"))["Manual"] is True
    assert write_sidecars(folder, tmp_path, cases, overwrite=True) == []
    assert json.loads(side.read_text("utf-8"))["Manual"] is False


@pytest.fixture
def cluster_beside() -> Iterator[None]:
    """Take the port that dask's clusters ask for, as another batch on this machine does."""
    with socket.socket() as taken:
        with suppress(OSError):  # a batch is there already
            taken.bind(("127.0.0.1", 8787))
            taken.listen()
        yield


@pytest.mark.usefixtures("cluster_beside")
def test_the_command_writes_a_derivative_beside_the_data_set(
    tmp_path: Path, write_nano: Callable[..., Path]
) -> None:
    data_set, model = tmp_path / "raw", write_nano()
    network = load_model(model)
    names = ("sub-01/ses-a/anat/sub-01_ses-a", "sub-02/anat/sub-02")
    for seed, name in enumerate(names):
        write_scan(data_set / f"{name}_T1w.nii.gz", seed)
    before = sorted(data_set.rglob("*"))
    command = ["segment", str(data_set), "--bids", str(tmp_path / "out"), "--workers", "1"]
    command += ["--model", str(model), "--device", "cpu"]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    assert "2 done, 0 skipped, 0 failed" in first.output
    folder = tmp_path / "out" / DERIVATIVE
    for name in names:
        labels = nib.load(folder / f"{name}_dseg.nii.gz")
        wanted = segment(data_set / f"{name}_T1w.nii.gz", network, device="cpu").labels
        assert np.array_equal(np.asarray(labels.dataobj), wanted)
        side = json.loads((folder / f"{name}_dseg.json").read_text("utf-8"))
        assert side["Sources"] == [f"bids:raw:{name}_T1w.nii.gz"]
    said = json.loads((folder / "dataset_description.json").read_text("utf-8"))
    assert (said["DatasetType"], said["GeneratedBy"][0]["Name"]) == (
        "derivative",
        "napari-tokensparse",
    )
    assert said["DatasetLinks"] == {"raw": "../../../raw"}
    with (folder / "dseg.tsv").open(encoding="utf-8") as file:
        assert list(csv.DictReader(file, delimiter="\t")) == [
            {"index": "7", "name": "seven", "color": "#ff0000"}
        ]
    top = {path.name for path in folder.iterdir() if path.is_file()}
    assert top == {
        "dataset_description.json",
        "dseg.tsv",
        "summary.csv",
        ".bidsignore",
        ".tokensparse.json",
    }
    assert sorted(data_set.rglob("*")) == before
    refused = CliRunner().invoke(app, [*command, "-o", "x.nii.gz"])
    assert refused.exit_code == 1
    assert "--bids: give a data set, and no -o" in refused.output


def test_a_run_that_goes_on_skips_what_is_there(
    tmp_path: Path, write_nano: Callable[..., Path]
) -> None:
    model = write_nano()
    write_scan(tmp_path / "raw" / "sub-01" / "anat" / "sub-01_T1w.nii.gz", 0)
    described = describe_model(str(model))
    folder = prepare_bids(tmp_path / "raw", tmp_path / "raw", described)
    (case,) = bids_scans(tmp_path / "raw", described.info.channels)  # not its own derivative
    options = Options(model="nano", keep_ratio=(0.5,) * 3, device="cpu", legend=False)
    work = plan(str(model), described, options, folder)
    assert segment_scan(case, work).status == "done"
    assert (folder / "sub-01" / "anat" / "sub-01_dseg.nii.gz").is_file()
    assert segment_scan(case, work).status == "skipped"
