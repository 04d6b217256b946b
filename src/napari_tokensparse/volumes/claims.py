"""What a file claims to hold, against what it can hold: checked before memory is asked for."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import BufferedIOBase
    from pathlib import Path

    from numpy.typing import NDArray

_MOST_PACKED = 1032  # bytes that one byte of deflate can stand for
_PACKED = (".gz", ".mgz", ".nrrd", ".raw")  # or may be
_MOST_AFTER = 64  # MiB after the last voxel
_GIB = 2**30


def false_claim(path: Path, claimed: int) -> str | None:
    """Say why a file cannot hold what its header claims, or memory cannot; None if both can.

    Parameters
    ----------
    path
        The file with the voxels.
    claimed
        Bytes of the unpacked file.
    """
    size = path.stat().st_size
    if claimed > size * (_MOST_PACKED if path.name.lower().endswith(_PACKED) else 1):
        return (
            f"is damaged or cut short (its header claims {claimed} bytes, more than a file of "
            f"{size} can hold); copy it again from its source"
        )
    free = psutil.virtual_memory().available
    if claimed > free:
        return (
            f"claims {claimed / _GIB:.3g} GiB of voxels, and {free / _GIB:.3g} GiB of memory are "
            "free: crop it, or close other programs"
        )
    return None


def read_checked(path: Path, read: Callable[[Path | BufferedIOBase], NDArray[Any]]) -> NDArray[Any]:
    """Read voxels from a file and, where it is gzip, go on to its checksum.

    Libraries stop at the last voxel, and so read a damaged file as if it were whole.

    Parameters
    ----------
    path
        The file with the voxels; gzip if it ends in ``.gz``.
    read
        Reads them from a path, or from an open file.

    Raises
    ------
    OSError, EOFError, zlib.error
        The file is damaged or cut short, or goes on long after its voxels.
    """
    if not path.name.lower().endswith(".gz"):
        return read(path)
    with gzip.open(path) as file:
        array = read(file)
        for _ in range(_MOST_AFTER):
            if not file.read(2**20):
                return array
    raise OSError("it goes on long after its voxels")
