"""The way in: what holds for every command."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer

from napari_tokensparse.commands.app import main
from napari_tokensparse.commands.errors import plain_errors
from napari_tokensparse.common.files import write_error

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("encoding", ["cp1252", "cp932", "cp437", "ascii"])
def test_no_console_is_too_poor_for_what_is_printed(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = {name: io.BytesIO() for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        text = io.TextIOWrapper(stream, encoding=encoding, write_through=True)
        monkeypatch.setattr(sys, name, text)
    for arguments in (["models"], ["segment", "--help"], ["segment", "ζ→.nii", "-o", "ß.nii"]):
        monkeypatch.setattr(sys, "argv", ["tokensparse", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == (1 if "-o" in arguments else 0)
    printed, errors = (stream.getvalue().decode(encoding, "replace") for stream in streams.values())
    assert "brain-structures" in printed
    assert "keep-ratio" in printed
    assert errors.startswith("tokensparse: ") and ".nii: no such file" in errors


GONE = """
import os, sys
os.mkdir("gone")
os.chdir("gone")
os.rmdir("../gone")
from napari_tokensparse.commands.app import app, main
(main if sys.argv.pop() == "main" else app)()
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows lets nobody remove a folder in use")
def test_a_folder_that_is_gone_is_said_to_be_so(
    run_python: Callable[..., Any], nano: Path, tmp_path: Path
) -> None:
    (tmp_path / "gone.py").write_text(GONE)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.nii").write_bytes(b"read by no one")
    line = ("segment", tmp_path / "in", "-o", tmp_path / "out", "--model", nano)
    run = run_python(tmp_path / "gone.py", *line, "main", cwd=tmp_path)
    assert (run.returncode, run.stdout, run.stderr) == (
        *(1, ""),
        "tokensparse: the folder that this runs in is gone; change to another\n",
    )
    run = run_python(tmp_path / "gone.py", *line, "app", cwd=tmp_path)
    assert run.returncode == 1
    assert (  # Python's tracker of semaphores, which outlives the process, may say more after it
        "tokensparse: processes for many scans cannot be started here (FileNotFoundError: [Errno 2]"
        " No such file or directory); check TMPDIR and the limits of this account, or segment the "
        "scans one by one"
    ) in run.stderr.splitlines()


def test_whoever_reads_no_further_is_no_error_to_tell() -> None:
    """As `head` does, of a pipe."""
    read, write = os.pipe()
    os.close(read)
    try:
        line = [sys.executable, "-m", "napari_tokensparse.cli", "models", "--json"]
        done = subprocess.run(line, stdout=write, stderr=-1, timeout=300, check=False)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_full_disk_is_told_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(typer.Exit) as ended, plain_errors(debug=False):
        raise write_error(Path("maps/pruned-at.nii.gz"), full)
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err == (
        "tokensparse: maps/pruned-at.nii.gz: cannot be written (No space left on device); free "
        "some space, or choose another place\n".replace("/", os.sep)
    )


def test_the_package_itself_is_a_command(tokensparse: Any, run_python: Any, tmp_path: Path) -> None:
    by_package, by_module = (
        run(*name, "segment", "no.nii", "-o", "out.nii", cwd=tmp_path)
        for run, name in ((run_python, ("-m", "napari_tokensparse")), (tokensparse, ()))
    )
    assert by_package.returncode == by_module.returncode == 1
    assert by_package.stderr == by_module.stderr
    assert by_package.stderr.startswith("tokensparse: no.nii")
