"""Tables of figures are whole in a pipe, and cut into parts, never into digits, in a terminal."""

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from napari_tokensparse.benchmarks.report import Report, Row
from napari_tokensparse.commands.bench_tables import print_report
from napari_tokensparse.commands.figures import Figures, parts, print_figures

HEADS = ("preset", "variant", "backend", "keep ratio", *(f"figure {n}" for n in range(8)))
ROWS = tuple(
    ("btcv-lite", "scd", "openvino", f"{ratio}", *(f"{ratio + n:.4f}" for n in range(8)))
    for ratio in (0.25, 0.5)
)
FIGURES = Figures("One window", HEADS, 4, ROWS, "what to know")


def printed(width: int, terminal: bool) -> str:
    file = io.StringIO()
    print_figures(
        Console(file=file, width=width, force_terminal=terminal, color_system=None), FIGURES
    )
    return file.getvalue()


def test_a_pipe_gets_the_whole_table_with_a_row_in_a_line() -> None:
    lines = printed(80, terminal=False).splitlines()
    (row,) = [line for line in lines if "0.5000" in line]
    for cell in ROWS[1]:
        assert cell in row
    assert "…" not in "".join(lines)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_narrow_terminal_gets_every_figure_whole_in_parts_that_fit(width: int) -> None:
    text = printed(width, terminal=True)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for row in ROWS:
        for cell in row[4:]:
            assert cell in text
    assert "preset btcv-lite, variant scd, backend openvino" in " ".join(text.split())


def test_each_part_names_its_rows() -> None:
    cut = list(parts(FIGURES, 70))
    assert len(cut) > 1
    assert all(part.heads[0] == "keep ratio" for part in cut)
    assert [head for part in cut for head in part.heads[1:]] == list(HEADS[4:])
    *_, last = parts(FIGURES, 40)
    assert last.title.count("further columns") == 1


def test_a_table_that_fits_is_left_as_it_is() -> None:
    assert list(parts(FIGURES, 200)) == [FIGURES]


def test_a_report_of_every_section_is_whole_at_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    common = {"preset": "btcv-lite", "variant": "scd", "backend": "openvino", "keep_ratio": 0.25}
    rows = [
        Row(section, part, **common, seconds=12.3456, spread=0.125, gmacs=165.25, peak_mb=1234.0)
        for section in ("macs", "inference", "bfloat16", "int8", "training", "volume")
        for part in ("total", "patch embedding", "blocks", "pruning", "completion", "decoder")
    ]
    large = {"preset": "nano", "backend": "bfloat16", "shape": (512, 512, 400), "windows": 294}
    for variant, seconds in (("scd", 21.5), ("monai-inferer", 57.5)):
        rows.append(Row("volume", "total", variant=variant, **large, seconds=seconds))
    rows += [Row("preview", part, **common, seconds=0.3, gmacs=1.0) for part in ("full", "update")]
    machine = {"cpu": "a processor", "threads": 1, "torch": "2"}
    print_report(Report(machine, 10.0, tuple(rows)))
    said = capsys.readouterr().out
    assert "…" not in said
    assert "a processor, 1 thread, torch 2" in re.sub(r"\x1b\[[0-9;]*m", "", said)
    assert said.count("12.3456") == 3 * 6
    assert said.count("165.25") == 6
    plain = re.sub(r"\x1b\[[\d;]*m", "", said)  # without its colours
    assert max(map(cell_len, plain.splitlines())) <= 80
    assert "2.67" in said  # MONAI's time by ours
