"""All files of a run, written together."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_tokensparse.common.ownership import OwnershipError
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.outputs.hashes import hash_of
from napari_tokensparse.outputs.receipts import FinishedRun, InputScan, read_receipt
from napari_tokensparse.outputs.runfiles import RunFiles, check_run_files, write_all
from napari_tokensparse.segmenting.infer import segment_with
from napari_tokensparse.segmenting.options import options_for
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import Volume

INPUT = InputScan(name="noise", sha256=None)


@pytest.fixture
def run(make_model: Callable[..., SCD]) -> FinishedRun:
    """Segment noise by a model whose regions overlap."""
    model = make_model(exclusive=False)
    array = np.random.default_rng(0).normal(size=(1, 12, 10, 9)).astype(np.float32)
    volume, options = Volume(array, np.diag([1.0, 1.0, 2.0, 1.0]), "noise"), options_for(model, 0.5)
    return FinishedRun(volume, model, options, segment_with(volume, model, options))


def test_all_that_is_asked_for_is_written_and_the_receipt_last(
    run: FinishedRun, tmp_path: Path
) -> None:
    files = RunFiles(
        tmp_path / "labels.nii.gz",
        table=tmp_path / "table.csv",
        tokens=tmp_path / "tokens",
        regions=tmp_path / "regions",
    )
    written = write_all(files, run, [INPUT])
    *beside, receipt = written.files
    assert sorted(beside) == sorted(files.paths(run.network))
    assert sorted(written.files) == sorted(p for p in tmp_path.rglob("*") if p.is_file())
    assert receipt == tmp_path / "labels.receipt.json"
    assert read_receipt(receipt) == written.receipt
    assert written.receipt is not None
    assert written.receipt.inputs == (INPUT,)
    assert written.receipt.options == run.options
    assert [(f.name, f.sha256) for f in written.receipt.files] == [
        (path.name, hash_of(path)) for path in beside[1:]
    ]
    assert np.array_equal(read_volume(files.labels).array[0], run.result.labels)


def test_without_a_receipt_nobody_asks_what_was_segmented(run: FinishedRun, tmp_path: Path) -> None:
    def hashed() -> Iterator[InputScan]:
        raise AssertionError("hashing a series takes a while")
        yield INPUT

    labels = tmp_path / "labels.nii"
    written = write_all(RunFiles(labels, legend=False, receipt=False), run, hashed())
    assert (written.files, written.receipt) == ([labels], None)
    assert [*tmp_path.iterdir()] == [labels]


@pytest.mark.parametrize(
    ("name", "beside"),
    [("a.nii.gz", True), ("a.nrrd", True), ("a.dcm", False), ("a.ome.zarr", False)],
)
def test_names_of_classes_lie_beside_labels_that_do_not_hold_them(name: str, beside: bool) -> None:
    assert RunFiles(Path(name)).has_legend() is beside
    assert not RunFiles(Path(name), legend=False).has_legend()


def test_what_a_run_wrote_before_it_broke_off_is_its_own_the_next_time(
    run: FinishedRun, tmp_path: Path
) -> None:
    labels, table, maps = (tmp_path / name for name in ("out.nii.gz", "out.csv", "maps"))
    write_all(RunFiles(labels, table=table), run, [INPUT])
    first = hash_of(table)
    files = RunFiles(labels, table=table, tokens=maps)
    maps.write_text("where the maps would go")
    with pytest.raises(OSError, match="maps"):
        write_all(files, run, [INPUT])
    maps.unlink()
    known = {file.sha256 for file in read_receipt(tmp_path / "out.receipt.json").files}
    assert {first, hash_of(table), hash_of(tmp_path / "out_dseg.tsv")} <= known
    check_run_files(files, run.network, [])
    written = write_all(files, run, [INPUT])
    assert written.receipt is not None
    assert len(written.receipt.files) == len({file.name for file in written.receipt.files})


def test_a_file_that_a_person_made_during_the_run_stays(run: FinishedRun, tmp_path: Path) -> None:
    files = RunFiles(tmp_path / "out.nii.gz", table=tmp_path / "out.csv")
    check_run_files(files, run.network, [])
    (tmp_path / "out.csv").write_text("mine")
    with pytest.raises(OwnershipError, match=r"out\.csv: is there already, and not as"):
        write_all(files, run, [INPUT])
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
    assert (tmp_path / "out.csv").read_text() == "mine"
    assert files.table in write_all(replace(files, overwrite=True), run, [INPUT]).files


@pytest.mark.parametrize("place", ["out.nii.gz", "out.nii.gz/maps", "out.csv"])
def test_a_folder_of_results_within_a_file_of_them_is_refused_before_the_run(
    run: FinishedRun, tmp_path: Path, place: str
) -> None:
    files = RunFiles(tmp_path / "out.nii.gz", table=tmp_path / "out.csv", tokens=tmp_path / place)
    with pytest.raises(OwnershipError, match="is named for two outputs"):
        check_run_files(files, run.network, [])
