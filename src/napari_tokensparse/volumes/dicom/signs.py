"""What a file must begin with to be DICOM, told from its first bytes alone.

Files of older scanners, and those that passed through some archives, lack the preamble of 128 bytes
and the letters ``DICM``: they begin with their first element.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_START = 132
_FIRST_GROUPS = (0x0002, 0x0008)  # of the file's own description, and of what identifies an image
_LAST_FIRST_ELEMENT = 0x0018  # no file begins with one after its SOPInstanceUID
_REPRESENTATIONS = (b"UL", b"OB", b"UI", b"CS", b"SH", b"DA", b"TM", b"DT", b"LO")
_MOST_BYTES = 1024  # of a first value


def begins_as_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do, with a preamble or without."""
    start = _start(path)
    return start[128:] == b"DICM" or _is_first_element(start)


def has_preamble(path: Path) -> bool:
    """Whether a file begins with 128 bytes of anything, then ``DICM``."""
    return _start(path)[128:] == b"DICM"


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_START)
    except OSError:
        return b""


def _is_first_element(start: bytes) -> bool:
    """Whether bytes are the first element of a data set (PS3.5, 7.1), little endian."""
    if len(start) < _START:
        return False
    group, element, length = struct.unpack("<HHI", start[:8])
    if group not in _FIRST_GROUPS or element > _LAST_FIRST_ELEMENT:
        return False
    if start[4:6] in _REPRESENTATIONS:
        return True
    value = start[8 : 8 + length]
    if element == 0:
        return bool(length == 4)
    return length % 2 == 0 and length <= _MOST_BYTES and value.rstrip(b"\0").isascii()
