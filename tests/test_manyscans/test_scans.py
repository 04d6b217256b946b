"""Many scans, each from file to file, without a cluster."""

from __future__ import annotations

import csv
import dataclasses
import shutil
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest

from napari_tokensparse.common.ownership import RECORD, OwnershipError
from napari_tokensparse.manyscans.cases import ManyScansError, ScanCase, is_many, list_scans
from napari_tokensparse.manyscans.cluster import ClusterOptions, segmenting_scans
from napari_tokensparse.manyscans.scans import (
    ScanResult,
    check_work,
    describe_model,
    plan,
    segment_scan,
    segmenting_scan,
    write_summary,
)
from napari_tokensparse.outputs.receipts import read_receipt
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.segmenting.options import Options
from napari_tokensparse.segmenting.result import Progress

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_tokensparse.manyscans.scans import Work


def write_scan(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(seed).integers(1, 900, (34, 20, 20)).astype(np.int16)
    nib.save(nib.Nifti1Image(data, np.eye(4)), path)
    return path


@pytest.fixture
def work(tmp_path: Path, write_nano: Callable[..., Path]) -> Work:
    model = str(write_nano())
    options = Options(model="nano", keep_ratio=(0.5, 0.5, 0.5), device="cpu", backend="plain")
    return plan(model, describe_model(model), options, tmp_path / "out")


def test_a_folder_a_glob_and_a_csv_are_many_scans_and_a_file_is_one(tmp_path: Path) -> None:
    out, scan = tmp_path / "out", write_scan(tmp_path / "a.nii")
    assert is_many(str(tmp_path), out)
    assert is_many(str(tmp_path / "*.nii"), out)
    assert is_many("cases.CSV", out)
    assert not is_many(str(scan), out)
    assert not is_many(str(tmp_path), tmp_path / "series.nii.gz")
    odd = write_scan(tmp_path / "scan[1].nii")
    assert not is_many(str(odd), out)


def test_a_folder_gives_its_volumes_by_name_and_a_glob_those_of_any_folder(tmp_path: Path) -> None:
    one, two = write_scan(tmp_path / "in/b.nii"), write_scan(tmp_path / "in/a.nii.gz")
    three = write_scan(tmp_path / "in/more/c.nii")
    for name in ("._a.nii.gz", "notes.txt"):
        (tmp_path / "in" / name).write_text("")
    out = tmp_path / "out"
    assert list_scans(str(tmp_path / "in"), out) == (ScanCase("a", two), ScanCase("b", one))
    scans = list_scans(str(tmp_path / "in/**/*.nii"), out)
    assert scans == (ScanCase("b", one), ScanCase("c", three))


def test_the_folder_of_a_dicom_series_is_one_scan(tmp_path: Path, dicoms: dict[str, Any]) -> None:
    dicoms["write_series"](tmp_path / "exam", np.zeros((7, 5, 6), np.uint16))
    with pytest.raises(ManyScansError, match="exam: is itself a DICOM series; name a file for"):
        list_scans(str(tmp_path / "exam"), tmp_path / "out")
    assert [case.name for case in list_scans(str(tmp_path), tmp_path / "out")] == ["exam"]


def test_a_csv_gives_images_from_its_own_folder_and_names(tmp_path: Path) -> None:
    write_scan(tmp_path / "x/scan.nii")
    (tmp_path / "cases.csv").write_text(
        "age,image,name\n7,x/scan.nii,first\n8,y/scan.nii,\n", encoding="utf-8-sig"
    )
    cases = list_scans(str(tmp_path / "cases.csv"), tmp_path / "out")
    assert [case.name for case in cases] == ["first", "scan"]
    assert cases[0].image == (tmp_path / "x/scan.nii").resolve()


@pytest.mark.parametrize(("mark", "between"), [("", ";"), ("\ufeff", "\t"), ("sep=;\n", ";")])
def test_a_table_may_be_excels_and_its_paths_those_of_windows(
    tmp_path: Path, mark: str, between: str
) -> None:
    lines = ("name", "image"), ("one", r"scans\a.nii.gz")
    table = mark + "".join(f"{between.join(line)}\r\n" for line in lines)
    (tmp_path / "cases.tsv").write_text(table, "utf-8", newline="")
    assert is_many(str(tmp_path / "cases.tsv"), tmp_path / "out")
    (case,) = list_scans(str(tmp_path / "cases.tsv"), tmp_path / "out")
    assert (case.name, case.image) == ("one", tmp_path / "scans/a.nii.gz")
    (tmp_path / "cases.tsv").write_text("image\nD:\\scans\\a.nii.gz\n")
    with pytest.raises(ValueError, match=r"^D:\\scans\\a.nii.gz: is a path of Windows, and D: is"):
        list_scans(str(tmp_path / "cases.tsv"), tmp_path / "out")


def test_a_csv_may_give_a_file_for_each_channel(
    tmp_path: Path, write_nano: Callable[..., Path]
) -> None:
    scans = {name: write_scan(tmp_path / f"x/{name}.nii", n) for n, name in enumerate(("t1", "t2"))}
    (tmp_path / "cases.csv").write_text("name,T2,T1\none,x/t2.nii,x/t1.nii\n")
    out, channels = tmp_path / "out", ("T1", "T2")
    (case,) = list_scans(str(tmp_path / "cases.csv"), out, channels)
    assert case.channels == (("T1", scans["t1"]), ("T2", scans["t2"]))

    model = str(write_nano("two", channels=channels))
    options = Options(model="two", keep_ratio=(0.5, 0.5, 0.5), device="cpu", backend="plain")
    work = plan(model, describe_model(model), options, out)
    done = segment_scan(case, work)
    assert [(one.channel, one.name) for one in done.receipt.inputs] == [
        ("T1", "t1.nii"),
        ("T2", "t2.nii"),
    ]
    expected = segment({"T1": scans["t1"], "T2": scans["t2"]}, model, 0.5).labels
    labels = np.asarray(nib.load(out / "one_labels.nii.gz").dataobj)
    np.testing.assert_array_equal(labels, expected)
    assert 0 < np.count_nonzero(labels) < labels.size
    assert segment_scan(case, work).status == "skipped"
    write_scan(scans["t2"], 7)
    assert segment_scan(case, work).status == "done"

    (tmp_path / "cases.csv").write_text("name,T2,T1\none,x/t2.nii,\n")
    with pytest.raises(ManyScansError, match="line 2 names no T1"):
        list_scans(str(tmp_path / "cases.csv"), out, channels)
    (tmp_path / "cases.csv").write_text("name,T2\none,x/t2.nii\n")
    with pytest.raises(ManyScansError, match="column image, or one for each channel: T1, T2; its"):
        list_scans(str(tmp_path / "cases.csv"), out, channels)


def test_files_that_nnunet_would_call_so_are_the_channels_of_one_case(tmp_path: Path) -> None:
    out, channels = tmp_path / "out", ("T1", "T2")
    files = [write_scan(tmp_path / f"in/{c}_000{n}.nii", n) for c in ("a_1", "b") for n in (0, 1)]
    whole = write_scan(tmp_path / "in/c.nii")
    expected = (
        ScanCase("a_1", files[0], (("T1", files[0]), ("T2", files[1]))),
        ScanCase("b", files[2], (("T1", files[2]), ("T2", files[3]))),
        ScanCase("c", whole),
    )
    assert list_scans(str(tmp_path / "in"), out, channels) == expected
    assert list_scans(str(tmp_path / "in/*_*.nii"), out, channels) == expected[:2]
    assert len(list_scans(str(tmp_path / "in"), out, ("T1",))) == 5
    files[3].unlink()
    with pytest.raises(ManyScansError) as caught:
        list_scans(str(tmp_path / "in"), out, channels)
    assert str(caught.value) == (
        "b: the model takes _0000 (T1), _0001 (T2), and there is b_0000.nii; add the others"
    )
    for file in files[:3]:  # numbered cases of all channels in one file each
        nib.save(nib.Nifti1Image(np.ones((4, 4, 4, 2), np.uint8), np.eye(4)), file)
    names = [case.name for case in list_scans(str(tmp_path / "in"), out, channels)]
    assert names == ["a_1_0000", "a_1_0001", "b_0000", "c"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("file,name\na.nii,b\n", "has no column image"),
        ("image,name\n,b\n", "line 2 names no image"),
        ("image\n", "no scan is there"),
        ("image\nx/a.nii\ny/a.nii.gz\n", "are both called a; list them in a CSV"),
        ("image,name\nx/a.nii,../b\n", "name '../b': must be a file's name"),
        ("image\nout/a.nii\n", "out: holds scans; give another folder"),
    ],
)
def test_a_csv_that_cannot_be_run_is_one_plain_line(tmp_path: Path, table: str, said: str) -> None:
    (tmp_path / "cases.csv").write_text(table)
    with pytest.raises(ManyScansError) as caught:
        list_scans(str(tmp_path / "cases.csv"), tmp_path / "out")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_scan_is_segmented_once_and_again_when_anything_has_changed(
    tmp_path: Path, work: Work, write_nano: Callable[..., Path]
) -> None:
    case = ScanCase("one", write_scan(tmp_path / "in/one.nii"))
    first = segment_scan(case, work)
    assert first.status == "done"
    labels = work.folder / "one_labels.nii.gz"
    expected = segment(case.image, tmp_path / "nano", 0.5).labels
    np.testing.assert_array_equal(np.asarray(nib.load(labels).dataobj), expected)
    assert read_receipt(work.folder / "one_labels.receipt.json") == first.receipt
    assert first.receipt.command.startswith("tokensparse segment one.nii -o one_labels.nii.gz")
    names = {"one_labels.nii.gz", "one_labels.receipt.json"}
    assert {p.name for p in work.folder.iterdir()} == {
        *names,
        RECORD,
        "classes.label.txt",
        "classes_dseg.tsv",
    }

    again = segment_scan(case, work)
    assert (again.status, again.receipt) == ("skipped", first.receipt)
    # What is written beside the labels, and when, does not change them.
    other = work.options.model_copy(update={"legend": False})
    assert segment_scan(case, dataclasses.replace(work, options=other)).status == "skipped"

    labels.unlink()
    assert segment_scan(case, work).status == "done"
    keep = work.options.model_copy(update={"keep_ratio": (1.0, 1.0, 1.0)})
    changed = dataclasses.replace(work, options=keep)
    assert segment_scan(case, changed).status == "done"
    assert segment_scan(case, changed).status == "skipped"
    write_scan(case.image, seed=1)
    assert segment_scan(case, changed).status == "done"
    model = str(write_nano("nano", overlap=0.25))  # the weights are the same
    described = describe_model(model)
    trained = plan(model, described, keep, work.folder)
    assert trained.used.weights_sha256 == changed.used.weights_sha256
    assert segment_scan(case, trained).status == "done"


def test_labels_that_were_changed_by_hand_stay_and_only_overwrite_replaces_them(
    tmp_path: Path, work: Work
) -> None:
    case = ScanCase("one", write_scan(tmp_path / "in/one.nii"))
    labels = work.folder / "one_labels.nii.gz"
    shutil.copy(case.image, labels)  # a stranger's: there is no receipt
    assert segment_scan(case, work).status == "changed by hand"
    labels.unlink()
    assert segment_scan(case, work).status == "done"
    written = labels.read_bytes()
    shutil.copy(case.image, labels)
    write_scan(case.image, seed=1)  # another scan is no reason to lose them either
    corrected = labels.read_bytes()
    kept = segment_scan(case, work)
    assert (kept.status, kept.receipt) == ("changed by hand", None)
    assert kept.error == (
        "one_labels.nii.gz is not as it was written, and stays; --overwrite replaces it"
    )
    assert labels.read_bytes() == corrected
    assert segment_scan(case, dataclasses.replace(work, overwrite=True)).status == "done"
    assert labels.read_bytes() not in (corrected, written)

    labels.unlink()
    notes = work.folder / "one_labels.receipt.json"
    notes.write_text("bought on Monday")
    assert "one_labels.receipt.json is not as it was" in segment_scan(case, work).error
    assert notes.read_text() == "bought on Monday"


def test_tables_that_were_changed_by_hand_are_refused_before_the_first_scan(
    tmp_path: Path, work: Work
) -> None:
    described = describe_model(work.model)
    plan(work.model, described, work.options, work.folder)  # those of an earlier run are its own
    for name in ("summary.csv", "classes_dseg.tsv"):
        (work.folder / name).write_text("mine")
        with pytest.raises(OwnershipError, match=f"{name}: is there already, and not as"):
            plan(work.model, described, work.options, work.folder)
        assert (work.folder / name).read_text() == "mine"
        plan(work.model, described, work.options, work.folder, overwrite=True)
        (work.folder / name).unlink()


def test_links_into_a_store_keep_the_names_that_a_person_sees(tmp_path: Path, work: Work) -> None:
    stored = write_scan(tmp_path / "store/0a1b.nii")
    key = stored.with_suffix("")
    stored.rename(key)  # a store's keys end in nothing
    folder = tmp_path / "scans"
    folder.mkdir()
    link = folder / "sub-01.nii"
    link.symlink_to(key)
    (tmp_path / "cases.csv").write_text("image\nscans/sub-01.nii\n")
    for source in (folder, f"{folder}/*.nii", tmp_path / "cases.csv"):
        assert list_scans(str(source), work.folder) == (ScanCase("sub-01", link),)
        for place in (folder, key.parent):
            with pytest.raises(ManyScansError, match="holds scans; give another folder"):
                list_scans(str(source), place)
    (case,) = list_scans(str(folder), work.folder)
    done = segment_scan(case, work)
    assert done.receipt.inputs[0].name == "sub-01.nii"
    assert "segment sub-01.nii -o sub-01_labels.nii.gz" in done.receipt.command
    assert (work.folder / "sub-01_labels.nii.gz").is_file()


def test_a_scan_that_cannot_be_segmented_is_a_result_and_leaves_nothing(
    tmp_path: Path, work: Work
) -> None:
    before = set(work.folder.iterdir())
    bad = tmp_path / "bad.nii"
    bad.write_bytes(b"no scan")
    result = segment_scan(ScanCase("bad", bad), work)
    assert (result.status, result.receipt) == ("failed", None)
    assert result.error.startswith("bad.nii: is not a NIfTI file")
    assert set(work.folder.iterdir()) == before


def test_what_no_scan_could_be_run_with_is_refused_before_the_first(work: Work) -> None:
    check_work(work)
    for change, said in (
        ({"device": "tpu"}, "device 'tpu': this machine has"),
        ({"scorer": "entropy"}, "scorer 'entropy': choose one of"),
        ({"backend": "fast"}, "backend 'fast': choose one of"),
    ):
        options = work.options.model_copy(update=change)
        with pytest.raises(ValueError, match=said):
            check_work(dataclasses.replace(work, options=options))
    used = work.used.model_copy(update={"weights_sha256": "0"})
    with pytest.raises(ManyScansError, match="is not the same on every machine"):
        check_work(dataclasses.replace(work, used=used))


def test_the_summary_has_a_row_per_scan_and_a_column_per_class(tmp_path: Path, work: Work) -> None:
    good = segment_scan(ScanCase("z", write_scan(tmp_path / "in/z.nii")), work)
    bad = segment_scan(ScanCase("a", tmp_path / "in/gone.nii"), work)
    path = write_summary(tmp_path / "summary.csv", [good, bad], describe_model(work.model).info)
    with path.open(newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert (first["case"], first["image"], first["status"]) == ("a", "gone.nii", "failed")
    assert "no such file" in first["error"] and first["seven_ml"] == ""
    assert (second["case"], second["status"], second["error"]) == ("z", "done", "")
    assert float(second["seven_ml"]) == good.receipt.classes[0].ml > 0
    assert int(second["windows"]) == 2
    tokens = good.receipt.tokens.tokens
    assert int(second["tokens_processed"]) == tokens["processed"]
    assert int(second["tokens_kept"]) == tokens["kept"]
    assert float(second["seconds"]) == good.receipt.seconds["total"]


def test_what_is_to_know_of_a_scan_is_in_the_summary(tmp_path: Path, work: Work) -> None:
    scan = write_scan(tmp_path / "in/one.nii")
    stored = nib.load(scan)
    image = nib.Nifti1Image(np.asarray(stored.dataobj).copy(), stored.affine)
    image.set_sform(stored.affine, 1)
    image.set_qform(np.diag([1.3, 1.3, 10.0, 1.0]), 1)
    nib.save(image, scan)
    result = segment_scan(ScanCase("one", scan), work)
    (note,) = result.notes
    assert note.startswith("qform and sform differ by up to ")
    path = write_summary(tmp_path / "summary.csv", [result], describe_model(work.model).info)
    with path.open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["notes"] == note


def test_a_disk_that_fails_is_raised_so_that_the_scan_is_tried_again(
    tmp_path: Path, work: Work
) -> None:
    case = ScanCase("one", write_scan(tmp_path / "in/one.nii"))
    lost = dataclasses.replace(work, parts=tmp_path / "lost")
    with pytest.raises(FileNotFoundError):
        segment_scan(case, lost)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"workers": 0}, "workers 0: must be 1 or more"),
        ({"retries": -1}, "retries -1: must be 0 or more"),
        ({"workers": 2, "scheduler": "tcp://x:1"}, "the cluster at tcp://x:1 has its own"),
    ],
)
def test_cluster_options_out_of_range_are_one_line(options: dict[str, object], said: str) -> None:
    with pytest.raises(ManyScansError, match=said):
        ClusterOptions(**options)


def test_without_dask_distributed_one_line_says_what_to_install(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_tokensparse.manyscans.cluster.find_spec", lambda _: None)
    with pytest.raises(ManyScansError, match=r"pip install 'napari-tokensparse\[cluster\]'"):
        next(segmenting_scans([], work, ClusterOptions()))


def test_labels_that_a_person_makes_during_the_run_stay(tmp_path: Path, work: Work) -> None:
    case = ScanCase("one", write_scan(tmp_path / "in/one.nii"))
    events = segmenting_scan(case, work)
    assert isinstance(next(events), Progress)
    labels = work.folder / "one_labels.nii.gz"
    labels.write_bytes(b"drawn meanwhile")
    *_, end = events
    assert isinstance(end, ScanResult)
    assert end.status == "changed by hand"
    assert labels.read_bytes() == b"drawn meanwhile"
    assert not (work.folder / "one_labels.receipt.json").exists()
