from dataclasses import replace
from pathlib import Path

import pytest

from napari_tokensparse.benchmarks.report import (
    Report,
    Row,
    by_dense,
    by_monai,
    compare,
    growth,
    half_quartile_range,
    read_report,
)

ROW = Row("inference", "total", "btcv", "scd", "plain", 0.25, seconds=2.0, gmacs=50.0, peak_mb=300)
DENSE = replace(ROW, variant="dense", keep_ratio=1.0, seconds=5.0, gmacs=100.0)
VOLUME = Row("volume", "write", "nano", "monai-inferer", "plain", shape=(8, 9, 10), windows=3)


def report(rate: float, *rows: Row) -> Report:
    return Report({"cpu": "one", "threads": 2, "memory_gb": 7.5}, rate, rows)


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    written = report(40.0, ROW, VOLUME)
    path.write_text(written.to_json(), encoding="utf-8")
    assert read_report(path) == written


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not a report of tokensparse bench --json (Invalid JSON"),
        ('{"machine": {}, "rows": []}', "(gemm_gmac_s: Field required)"),
        ('{"machine": {}, "gemm_gmac_s": 1, "rows": [{"part": "x"}]}', "(rows: 0: section: Field"),
    ],
)
def test_a_file_that_is_no_report_is_named_in_one_line(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "no.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"no\.json") as caught:
        read_report(path)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"gone\.json: cannot be read \(No such file"):
        read_report(tmp_path / "gone.json")


def test_median_and_half_the_quartiles_distance_of_the_repeats() -> None:
    row = ROW.timed([5.0, 1.0, 2.0, 4.0, 3.0])
    assert (row.seconds, row.spread) == (3.0, 1.0)
    assert half_quartile_range([7.0]) == 0.0


def test_efficiency_is_one_where_the_network_is_as_fast_as_the_matrix_product() -> None:
    assert ROW.with_efficiency(25.0).efficiency == 1.0
    assert ROW.with_efficiency(100.0).efficiency == 0.25
    assert replace(ROW, gmacs=None).with_efficiency(25.0).efficiency is None
    assert replace(ROW, seconds=None).with_efficiency(25.0).efficiency is None


def test_times_of_two_runs_are_compared_in_units_of_the_matrix_product() -> None:
    old = report(20.0, replace(ROW, seconds=8.0, gmacs=200.0, peak_mb=100.0), VOLUME)
    new = report(40.0, DENSE, ROW, VOLUME)
    first, second = compare(new, old)  # the old run has no dense one
    assert (first.row, first.time, first.gmacs, first.memory) == (ROW, 0.5, 0.25, 3.0)
    assert (second.row, second.time, second.gmacs, second.memory) == (VOLUME, None, None, None)


def test_rows_are_compared_with_the_same_keep_ratio_backend_and_shape_only() -> None:
    others = [
        replace(ROW, keep_ratio=0.5),
        replace(ROW, backend="other"),
        replace(ROW, part="decoder"),
        replace(ROW, shape=(1, 1, 1)),
    ]
    assert compare(report(1.0, *others), report(1.0, ROW)) == []


def test_a_lite_preset_is_set_against_the_dense_baseline_of_its_model() -> None:
    lite = replace(ROW, preset="btcv-lite", seconds=1.0, gmacs=20.0)
    rows = (ROW, lite, replace(DENSE, backend="other", seconds=1.0), DENSE)
    assert by_dense(rows, ROW) == (0.4, 0.5)
    assert by_dense(rows, lite) == (0.2, 0.2)
    assert by_dense(rows[:2], ROW) == (None, None)


def test_a_volume_is_set_beside_monais_of_the_same_backend_and_the_smallest_of_its_kind() -> None:
    def volume(backend: str, depth: int, variant: str, seconds: float, mb: float) -> Row:
        shape = (8, 8, depth)
        found = Row("volume", "total", "nano", variant, backend, seconds=seconds, shape=shape)
        return replace(found, peak_mb=mb, windows=depth // 8)

    rows = (
        volume("plain", 8, "scd", 2.0, 10.0),
        volume("plain", 8, "monai-inferer", 5.0, 40.0),
        volume("plain", 24, "scd", 9.0, 15.0),
        volume("bfloat16", 8, "scd", 1.0, 8.0),
        volume("bfloat16", 8, "monai-inferer", 4.0, 32.0),
    )
    assert by_monai(rows, rows[0]) == (2.5, 0.25)
    assert by_monai(rows, rows[2]) == (None, None)
    assert by_monai(rows, rows[3]) == (4.0, 0.25)
    assert [growth(rows, rows[n]) for n in (0, 2, 3)] == [1.0, 1.5, 1.0]
