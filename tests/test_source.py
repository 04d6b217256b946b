"""How the source is kept: functions that fit a page, folders that fit a screen."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_LINES = 60
MOST_MODULES = 22
FOLDERS = ("src", "tests", "tools", "examples")


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count from the docstring to the end: a signature declares, and may be long."""
    assert function.end_lineno is not None
    return function.end_lineno - function.body[0].lineno + 1


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_function_is_longer_than_a_page(folder: str) -> None:
    long = [
        f"{path.relative_to(ROOT)}: {function.name} has {lines(function)} lines"
        for path in modules(folder)
        for function in functions(ast.parse(path.read_text(encoding="utf-8")))
        if lines(function) > MOST_LINES
    ]
    assert not long, "\n".join(long)


def test_a_signature_is_not_counted_and_a_docstring_is() -> None:
    (function,) = functions(
        ast.parse('def f(\n    a,\n    b,\n):\n    """Say.\n\n    More."""\n    g()')
    )
    assert lines(function) == 4


def test_no_room_holds_more_modules_than_one_looks_through() -> None:
    rooms = {path.parent for path in modules("src")}
    counts = {room.name: len([*room.glob("[!_]*.py")]) for room in rooms}
    assert max(counts.values()) <= MOST_MODULES, counts
