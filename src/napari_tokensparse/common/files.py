"""Files that are written whole or not at all, and the line that says why one could not be."""

from __future__ import annotations

import errno
import hashlib
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_POINTERS = {
    b"version https://git-lfs.github.com/": "git lfs pull",
    b"/annex/objects/": "git annex get",
}
"""What files begin with that only stand for others, and how to get those."""

_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


class WriteError(OSError):
    """A file that cannot be written: ``WriteError(errno, reason, file)``; what was there is intact.

    Its text is one line with the file, the reason and what to do.
    """

    def __str__(self) -> str:
        """Say it in one line."""
        first = "free some space, or " if is_full(self) else ""
        return f"{self.filename}: cannot be written ({self.strerror}); {first}choose another place"


def is_full(error: OSError) -> bool:
    """Whether an error says that there is no space left."""
    return error.errno in _FULL


def write_error(path: Path, error: BaseException) -> WriteError:
    """Say of an error, or of the one behind it, that a file could not be written for it."""
    behind: BaseException | None = error
    while behind is not None and not isinstance(behind, OSError):
        behind = behind.__cause__ or behind.__context__
    cause = error if behind is None else behind
    said = getattr(cause, "strerror", None) or " ".join(str(cause).split()) or type(cause).__name__
    return WriteError(getattr(cause, "errno", None), said, str(path))


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def how_to_fetch(path: Path) -> str | None:
    """Return what gets the content of a file that only stands for it, as Git LFS leaves them.

    None where it is the content itself, or cannot be read: whatever reads it says why.
    """
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError:
        return None
    return next((how for begins, how in _POINTERS.items() if start.startswith(begins)), None)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary path with the same suffix; it is renamed to ``path`` at the end, if any.

    Whatever goes wrong, the temporary file is removed and an older file is left as it was.

    Raises
    ------
    WriteError
        (an ``OSError``) The folder does not exist, cannot be written to, or is full.
    """
    suffix = ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix
    part = path.with_name(f".{uuid.uuid4().hex}{suffix}")
    try:
        yield part
        part.replace(path)
    except WriteError:
        raise
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        part.unlink(missing_ok=True)
