"""Let the process keep the memory that a network frees and takes again.

glibc gives every large array fresh pages from the system and gives them back when it is freed. A
network's maps are such arrays: the page faults take a quarter of a forward pass on a CPU, a fifth
of a training step. Kept memory is given back at the end. Elsewhere (macOS, Windows, musl) nothing
is changed.
"""

from __future__ import annotations

import ctypes
import platform
import threading
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Of malloc.h: what mallopt sets.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_KEEPING = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1}
# What glibc's own adapting comes to in a process that frees large arrays.
_USUAL = {_MMAP_MAX: 65_536, _TRIM_THRESHOLD: 64 << 20, _MMAP_THRESHOLD: 32 << 20}

_lock = threading.Lock()
_holders = 0


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep freed memory with the process while inside.

    It serves the main thread most; other threads still get fresh pages for arrays of some sizes.
    May be nested and entered by several threads; the last to leave gives the memory back.

    Examples
    --------
    >>> with kept_memory():
    ...     maps = [bytearray(2**26) for _ in range(3)]
    """
    _hold(1)
    try:
        yield
    finally:
        _hold(-1)


def _hold(change: int) -> None:
    """Count who keeps memory; the first and the last one switch."""
    global _holders
    if not _is_glibc():
        return
    with _lock:
        before, _holders = _holders, _holders + change
        libc = ctypes.CDLL(None)
        if before == 0 or _holders == 0:
            for parameter, value in (_KEEPING if before == 0 else _USUAL).items():
                libc.mallopt(parameter, value)
        if _holders == 0:
            libc.malloc_trim(0)


@cache
def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"  # reads the interpreter's file
