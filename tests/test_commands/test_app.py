"""The way in: what holds for every command."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from napari_tokensparse.commands.app import main


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
