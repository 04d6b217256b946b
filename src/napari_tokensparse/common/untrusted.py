"""What a stranger may have written: JSON and YAML as plain values within limits, and names.

The parsers of both formats take more than a config ever needs: names given twice, numbers that are
none, values that stand for a million others. Here such a file is refused in one line.
"""

from __future__ import annotations

import codecs
import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MAX_JSON_BYTES = 32 * 2**20
"""A list of 10⁵ cases is a third of it."""
MAX_YAML_BYTES = 2**18
MAX_DEPTH = 32
_MAX_DIGITS = 30
_MAX_SCALAR = 10_000
_LONGEST_VALUE = 200  # characters of one that an error shows
_YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError)


def json_object(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises
    ------
    ValueError, OSError
        In one line, which does not name the file: it cannot be read, is larger than
        ``MAX_JSON_BYTES``, is not JSON, names something twice, nests deeper than ``MAX_DEPTH``, or
        holds a number that is not finite or has more than 30 digits.
    """
    text = _text(path, MAX_JSON_BYTES)
    try:
        content = json.loads(
            text,
            object_pairs_hook=_without_doubles,
            parse_constant=_no_number,
            parse_float=_finite,
            parse_int=_short,
        )
    except RecursionError:
        raise ValueError(f"nests deeper than {MAX_DEPTH} levels") from None
    if not isinstance(content, dict):
        raise ValueError("must hold one JSON object")
    _check_depth(content)
    return content


def yaml_mapping(path: Path, what: str) -> dict[Any, Any]:
    """Read a file that holds one YAML mapping, which may be JSON; errors say ``what`` it must hold.

    Raises
    ------
    ValueError, OSError
        In one line, which does not name the file: as `json_object`, or it asks for an object of
        Python, or one value stands in several places (``&``, ``*``).
    """
    content = yaml_value(_text(path, MAX_YAML_BYTES))
    if not isinstance(content, dict):
        raise ValueError(f"must hold {what}")
    return content


def yaml_value(text: str) -> Any:
    """Read plain values from YAML.

    Raises
    ------
    ValueError
        As `yaml_mapping`.
    """
    try:
        return yaml.load(text, _PlainLoader)  # a SafeLoader
    except _YAML_ERRORS as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def printable(line: str) -> str:
    """Write out what a terminal would obey rather than show; a file may be called so."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


class PlainError(ValueError):
    """An error of one plain line, whatever the file that it names is called."""

    def __init__(self, line: str) -> None:
        super().__init__(printable(line))


class _PlainLoader(yaml.SafeLoader):
    """Values as they stand there: none that refers to another, none twice, none too long."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Build the next node, within the limits."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ValueError("one value may not stand in several places (& and *): write it out")
        if len(getattr(event, "value", None) or "") > _MAX_SCALAR:
            raise ValueError(f"holds a value of more than {_MAX_SCALAR} characters")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError(f"nests deeper than {MAX_DEPTH} levels")
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Make a dict, each name once."""
        _check_once(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


def decoded(content: bytes) -> str:
    """Decode text in UTF-8; Windows' programs put a byte-order mark before it, or write UTF-16.

    Raises
    ------
    UnicodeDecodeError
        It is neither UTF-8 nor marked as UTF-16.
    """
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if marked else "utf-8-sig")


def _text(path: Path, most: int) -> str:
    if path.exists() and not path.is_file():
        raise ValueError("is not a file")
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"is larger than {most} bytes")
    return decoded(content)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _check_once(name for name, _ in pairs)
    return dict(pairs)


def _check_once(names: Iterable[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} is given more than once")


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:_MAX_DIGITS]} is too large a number")
    return number


def _short(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"holds a number of {len(text)} digits")
    return int(text)


def _check_depth(content: Any) -> None:
    level, depth = [content], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"nests deeper than {MAX_DEPTH} levels")
        inner: list[Any] = []
        for value in level:
            inner += value.values() if isinstance(value, dict) else value
        level = [value for value in inner if isinstance(value, dict | list)]


def one_line(error: Exception | str) -> str:
    """Say in one line what does not fit in a config; any other text with single spaces."""
    from pydantic import ValidationError  # typer needs none of it for a text of help

    if not isinstance(error, ValidationError):
        return " ".join(str(error).split())
    return "; ".join(
        f"{'.'.join(map(str, e['loc']))} {_shown(e['input'])}: {e['msg']}" if e["loc"] else e["msg"]
        for e in error.errors()
    )


def _shown(value: object) -> str:
    """Write a value that a file holds, of which there may be a great deal."""
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
