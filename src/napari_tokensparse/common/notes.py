"""What a person should know of the volumes of many cases, each thing said once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_NAMED = 5


def gathered(notes: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    """Return a line for each note, with the cases that it is about.

    Parameters
    ----------
    notes
        Name of each case, and what to know of it.

    Examples
    --------
    >>> gathered([("a", ["cut"]), ("b", ["cut", "oblique"]), ("c", [])])
    ['a, b: cut', 'b: oblique']
    """
    cases: dict[str, list[str]] = {}
    for name, said in notes:
        for note in said:
            cases.setdefault(note, []).append(name)
    return [f"{_names(names)}: {note}" for note, names in cases.items()]


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
