"""Tables of figures in a terminal: none is cut, however narrow the terminal is.

Where a table is wider than the terminal, what is the same in every row goes to its title, and the
other columns go below one another, each part with the names of its rows. A pipe gets the table
whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_FRAME = 3  # characters of each column beside its cells; one more at the end


@dataclass(frozen=True)
class Figures:
    """A table whose first columns name its rows.

    Attributes
    ----------
    title
        What it shows.
    heads
        Of all columns.
    names
        How many of the columns name a row.
    rows
        A cell for each column.
    caption
        What to know of it.
    """

    title: str
    heads: tuple[str, ...]
    names: int
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


def print_figures(console: Console, figures: Figures) -> None:
    """Print a table, in parts where the terminal is narrower."""
    whole = _width(_columns(figures))
    if not console.is_terminal:
        wide = Console(file=console.file, width=max(whole, console.width))
        wide.print(_table(figures))
        return
    for part in parts(figures, console.width):
        console.print(_table(part))


def parts(figures: Figures, width: int) -> Iterator[Figures]:
    """Cut a table into parts that fit into a width, as far as its single columns do."""
    if _width(_columns(figures)) <= width:
        yield figures
        return
    figures = _without_same(figures)
    columns, names, title = _columns(figures), range(figures.names), figures.title
    chosen: list[int] = []
    for at in range(figures.names, len(columns)):
        if chosen and _width([columns[n] for n in (*names, *chosen, at)]) > width:
            yield _cut(figures, (*names, *chosen))
            figures, chosen = replace(figures, title=f"{title} (further columns)"), []
        chosen.append(at)
    yield _cut(figures, (*names, *chosen))


def _without_same(figures: Figures) -> Figures:
    """Put what is the same in every row into the title."""
    columns = _columns(figures)
    same = [n for n in range(figures.names) if len(set(columns[n][1:])) == 1]
    if len(same) == figures.names:
        same = same[1:]  # a row needs a name
    said = ", ".join(f"{columns[n][0]} {columns[n][1]}" for n in same if columns[n][1])
    left = [n for n in range(len(columns)) if n not in same]
    cut = _cut(figures, left)
    title = f"{figures.title}: {said}" if said else figures.title
    return replace(cut, title=title, names=figures.names - len(same))


def _columns(figures: Figures) -> list[tuple[str, ...]]:
    """Return the cells of each column, its head first."""
    return list(zip(figures.heads, *figures.rows, strict=True))


def _cut(figures: Figures, columns: Sequence[int]) -> Figures:
    return replace(
        figures,
        heads=tuple(figures.heads[n] for n in columns),
        rows=tuple(tuple(row[n] for n in columns) for row in figures.rows),
    )


def _width(columns: Sequence[Sequence[str]]) -> int:
    return 1 + sum(_FRAME + max(map(cell_len, column)) for column in columns)


def _table(figures: Figures) -> Table:
    table = Table(title=figures.title, caption=figures.caption or None)
    for at, head in enumerate(figures.heads):
        table.add_column(head, no_wrap=True, justify="left" if at < figures.names else "right")
    for row in figures.rows:
        table.add_row(*row)
    return table
