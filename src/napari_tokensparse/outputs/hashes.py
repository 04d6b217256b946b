"""Hashes that a receipt states: of what was segmented, and of labels whatever their file."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from napari_tokensparse.common.files import file_sha256

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_ROWS_AT_ONCE = 16


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, that of its files' hashes, sorted.

    A header ``.hdr`` has its image ``.img`` in its hash as a folder of both has.

    Raises
    ------
    OSError
        A file cannot be read.
    """
    if path.is_dir():
        return _hash_of_all([p for p in path.iterdir() if p.is_file() and p.name[0] != "."])
    image = path.with_suffix(".img")
    if path.suffix == ".hdr" and image.is_file():
        return _hash_of_all([path, image])
    return file_sha256(path)


def labels_hash(labels: NDArray[np.integer]) -> str:
    """Return the SHA-256 of labels (i, j, k) as little-endian ``uint16`` in C order.

    Examples
    --------
    >>> labels_hash(np.zeros((2, 2, 2), np.uint8)) == hashlib.sha256(bytes(16)).hexdigest()
    True
    """
    found = hashlib.sha256()
    for rows in slabs(len(labels)):
        found.update(np.ascontiguousarray(labels[rows], "<u2").data)
    return found.hexdigest()


def slabs(length: int) -> Iterator[slice]:
    """Cut rows of voxels into a few at a time: a large volume need not be copied whole."""
    return (slice(at, at + _ROWS_AT_ONCE) for at in range(0, length, _ROWS_AT_ONCE))


def _hash_of_all(paths: Sequence[Path]) -> str:
    hashes = sorted(map(file_sha256, paths))
    return hashlib.sha256("".join(hashes).encode()).hexdigest()
