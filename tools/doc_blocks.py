"""Test the code blocks of README.md and docs/: a plugin for pytest, made with sybil.

    python tools/with_display.py python -m pytest -p tools.doc_blocks README.md docs

Python blocks are run, those of a page one after the other in one namespace, in a folder with the
files that the pages name: a scan, its true labels, a small data set. Of shell blocks every
``tokensparse`` command is checked: there is such a command, it has these options, and it takes
these values. On the pages of `RUN_FOR_REAL` it is run, too. A comment that begins with
``invisible-code-block: python`` holds what a reader need not see.
"""

from __future__ import annotations

import os
import runpy
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from sybil import Sybil
from sybil.parsers.myst import CodeBlockParser, PythonCodeBlockParser, SkipParser
from typer.core import TyperGroup

from napari_tokensparse.cli import app
from napari_tokensparse.volumes.samples import sample_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest
    from sybil import Example
    from typer.core import TyperCommand

ROOT = Path(__file__).parents[1]
RUN_FOR_REAL = {"quickstart.md"}
OPENS_A_WINDOW = ["demo"]
TIMEOUT_S = 120
OPERATORS = {"&&", "||", "|", ";", "&", ">", ">>", "<"}


def pytest_configure(config: pytest.Config) -> None:
    """Let MONAI warn those who have it run a model folder, and of a decoder it does not need."""
    config.addinivalue_line("filterwarnings", "ignore:parsing config_file:UserWarning")
    config.addinivalue_line("filterwarnings", "ignore:NvImgCodecPydicomReader:UserWarning")


def commands(block: str) -> Iterator[list[str]]:
    """Yield the arguments of every ``tokensparse`` command of a shell block."""
    for line in block.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        command: list[str] = []
        for word in [*lexer, ";"]:
            if word in OPERATORS:
                yield from _arguments(command)
                command = []
            else:
                command.append(word)


def _arguments(command: list[str]) -> Iterator[list[str]]:
    for place, word in enumerate(command):
        if word == "napari_tokensparse.cli" or word.rpartition("/")[2] == "tokensparse":
            yield command[place + 1 :]
            return


def check(command: TyperCommand | TyperGroup, arguments: list[str]) -> None:
    """Parse a command line without running it.

    Raises
    ------
    ValueError
        There is no such command.
    click.UsageError
        An option does not exist, lacks a value or has a wrong one, or something is missing.
    """
    if not isinstance(command, TyperGroup) or not arguments:
        command.make_context(command.name, arguments)
        return
    known = command.commands.get(arguments[0])
    if known is None:
        raise ValueError(f"{arguments[0]!r}: no such command; there are {list(command.commands)}")
    check(known, arguments[1:])


def evaluate(example: Example) -> None:
    """Check a shell block's commands, and run them where that is asked for."""
    for arguments in commands(str(example.parsed)):
        check(typer.main.get_command(app), arguments)
        if Path(example.path).name in RUN_FOR_REAL and arguments != OPENS_A_WINDOW:
            tokensparse(*arguments)


def tokensparse(*arguments: str) -> None:
    """Run a command, and fail where it fails."""
    ours = [sys.executable, "-m", "napari_tokensparse.cli", *arguments]
    subprocess.run(ours, check=True, timeout=TIMEOUT_S)


def let_the_window_work(until: Callable[[], bool]) -> None:
    """Let napari work until something is so."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + TIMEOUT_S
    while not until():
        assert time.monotonic() < end, "the window is not done"
        QApplication.processEvents()
        time.sleep(0.01)


def enter_folder(namespace: dict[str, Any]) -> None:
    """Make a page's folder with the files that pages name, and go there."""
    folder = Path(tempfile.mkdtemp())
    shutil.copy(sample_path(), folder / "scan.nii.gz")
    shutil.copy(ROOT / "tests/data/sample_labels.nii.gz", folder / "truth.nii.gz")
    tubes = runpy.run_path(str(ROOT / "tests/tubes.py"))
    tubes["write_msd"](folder / "Task04_Hippocampus", cases=2, validation=1, shape=(32, 32, 16))
    os.environ["TOKENSPARSE_MODELS"] = str(folder / "models")
    namespace.update(let_the_window_work=let_the_window_work, tokensparse=tokensparse)
    namespace.update(ROOT=ROOT, _left=os.getcwd())
    os.chdir(folder)


def leave_folder(namespace: dict[str, Any]) -> None:
    """Go back, and remove the page's folder."""
    folder = os.getcwd()
    os.chdir(namespace["_left"])
    shutil.rmtree(folder)


pytest_collect_file = Sybil(
    [PythonCodeBlockParser(), CodeBlockParser("sh", evaluate), SkipParser()],
    path=str(ROOT),
    patterns=["README.md", "docs/*.md"],
    setup=enter_folder,
    teardown=leave_folder,
).pytest()
