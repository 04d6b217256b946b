"""A stranger's zip archive, unpacked into a folder that holds nothing else."""

from __future__ import annotations

import lzma
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_FILES = 1000
MOST_BYTES = 4 * 2**30
"""Of a model, unpacked."""
_CHUNK = 2**20
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError,
)  # fmt: skip


class ArchiveError(ValueError):
    """An archive that is not unpacked; one plain line says why."""


def unpack(archive: Path, folder: Path, name: str, most: int = MOST_BYTES) -> None:
    """Unpack a zip archive: plain files and folders, within the folder.

    Parameters
    ----------
    archive
        The file.
    folder
        Must exist and be empty. On an error it may hold some of the files.
    name
        What the archive is called in errors.
    most
        Bytes that its files may have together.

    Raises
    ------
    ArchiveError
        It is no zip archive, is damaged, encrypted or too large, or an entry would lie elsewhere,
        is a link, or is there twice.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
            _check(entries, name, most)
            for entry in entries:
                _write(opened, entry, folder / entry.filename)
    except _DAMAGED as error:
        raise ArchiveError(f"{name}: not a zip archive that can be read ({error})") from error


def _check(entries: Sequence[zipfile.ZipInfo], name: str, most: int) -> None:
    if len(entries) > MOST_FILES:
        raise ArchiveError(f"{name}: has {len(entries)} files; at most {MOST_FILES} are unpacked")
    size = sum(entry.file_size for entry in entries)
    if size > most:
        raise ArchiveError(f"{name}: would take {size} bytes; at most {most} are unpacked")
    seen: set[str] = set()
    for entry in entries:
        problem = _problem(entry, seen)
        if problem:
            raise ArchiveError(f"{name}: {entry.filename!r} {problem}; nothing is unpacked")
        seen.add(entry.filename.rstrip("/").casefold())


def _problem(entry: zipfile.ZipInfo, seen: set[str]) -> str:
    """Say what speaks against an entry; empty for a good one."""
    path = PurePosixPath(entry.filename)
    mode = stat.S_IFMT(entry.external_attr >> 16)
    if entry.flag_bits & 1:
        return "is encrypted"
    if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if path.is_absolute() or ".." in path.parts or not path.parts:
        return "lies outside the folder"
    if any(c in entry.filename for c in "\\:") or not entry.filename.isprintable():
        return "has a name that not every system takes"
    if entry.filename.rstrip("/").casefold() in seen:
        return "is there twice"
    return ""


def _write(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    if entry.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(entry) as source, target.open("xb") as file:
        while chunk := source.read(_CHUNK):
            file.write(chunk)
