import csv
import json
from pathlib import Path

import pytest

from napari_tokensparse.common.tables import read_rows, write_csv, write_json, written_whole


def test_csv_leaves_the_unknown_empty_and_quotes_what_needs_it(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "t.csv", ["class", "mm³"], [["a, b", 1 / 3], ["c", float("nan")], ["d", None]]
    )
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [["class", "mm³"], ["a, b", "0.333333"], ["c", ""], ["d", ""]]


def test_json_refuses_nan_and_leaves_the_file_before(tmp_path: Path) -> None:
    path = write_json(tmp_path / "t.json", {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_not_finished_never_appears(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    with pytest.raises(KeyError), written_whole(path) as part:
        assert part.suffix == ".csv"
        part.write_text("half")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("image,label\nÄ.nii,b\n", "utf-8"),
        ('sep=;\r\n"Image";" LABEL "\r\n"Ä.nii";b\r\n;\r\n\r\n', "utf-8-sig"),
        ("Image\tLabel\r\nÄ.nii\tb\r\n\t\r\n", "utf-16"),
        ("image;label\rÄ.nii;b\r", "utf-16-be"),
    ],
)
def test_lists_are_read_as_programs_write_them(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "cases.csv"
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    path.write_bytes((mark + text).encode(encoding))
    assert read_rows(path) == (("image", "label"), [{"image": "Ä.nii", "label": "b"}])
