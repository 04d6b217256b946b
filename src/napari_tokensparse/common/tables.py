"""Tables as CSV and JSON files."""

from __future__ import annotations

import csv
import json
import math
from typing import TYPE_CHECKING, Any, TypeAlias

from napari_tokensparse.common.files import written_whole
from napari_tokensparse.common.untrusted import decoded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Cell: TypeAlias = str | int | float | None
"""What a table holds; None and NaN are what is not known."""

TABLE_SUFFIXES = (".csv", ".tsv")
"""What names of tables that are read end in."""

COLUMNS = ("image", "label", "name", "fold")
"""Columns that lists of cases have, in small letters or capitals."""
NOT_UTF8 = "not UTF-8: save it as such, in Excel as 'CSV UTF-8'"

_DIGITS = 6
_DELIMITERS = ",;\t"


def read_rows(path: Path) -> tuple[tuple[str, ...], list[dict[str, str]]]:
    """Read a table whose first line names its columns; cells are cut from blanks round them.

    Commas, semicolons or tabs part its columns, whichever the first line has most of. Passed over
    are a byte-order mark, the line ``sep=;`` that Excel understands, and rows of empty cells, which
    it writes; ``Image`` and other `COLUMNS` may have capitals.

    Returns
    -------
    columns
        Their names.
    rows
        One dict each; a cell that is not there is empty.

    Raises
    ------
    OSError
        The file cannot be read.
    UnicodeDecodeError
        It is neither UTF-8 nor marked as UTF-16.
    """
    lines = decoded(path.read_bytes()).splitlines(keepends=True)
    if lines and lines[0].lower().startswith("sep="):
        del lines[0]
    first = lines[0] if lines else ""
    table = csv.DictReader(lines, delimiter=max(_DELIMITERS, key=first.count), restval="")
    columns = tuple(map(_column, table.fieldnames or ()))
    table.fieldnames = columns
    rows = [{name: row[name].strip() for name in columns} for row in table]
    return columns, [row for row in rows if any(row.values())]


def _column(name: str) -> str:
    name = name.strip()
    return name.lower() if name.lower() in COLUMNS else name


def write_csv(path: Path, headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Path:
    """Write a table as CSV in UTF-8: what is not known stays empty.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    with written_whole(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(headers)
        table.writerows([plain(cell) for cell in row] for row in rows)
    return path


def write_json(path: Path, value: Any) -> Path:
    """Write plain values as JSON.

    Raises
    ------
    OSError
        The file cannot be written.
    ValueError
        A number is NaN or infinite, which JSON does not know.
    """
    with written_whole(path) as part:
        part.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def plain(cell: Cell) -> Cell:
    """Return a cell as files hold it: a float with six decimals, or None if it is not finite.

    Examples
    --------
    >>> plain(2 / 3), plain(float("nan")), plain(3), plain("lung")
    (0.666667, None, 3, 'lung')
    """
    if isinstance(cell, float):
        return round(cell, _DIGITS) if math.isfinite(cell) else None
    return cell
