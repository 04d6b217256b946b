"""Hashes that a receipt states: of what was segmented, and of labels whatever their file."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from napari_tokensparse.common.files import file_sha256
from napari_tokensparse.volumes.reading import is_zarr

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_ROWS_AT_ONCE = 16


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, that of its files' hashes, sorted.

    Of OME-Zarr all files count, with their paths, but for labels that were added to the image. A
    header ``.hdr`` has its image ``.img`` in its hash as a folder of both has.

    Raises
    ------
    OSError
        A file cannot be read.
    """
    if is_zarr(path):
        return _hash_of_tree(path)
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
    digest = hashlib.sha256()
    for rows in slabs(len(labels)):
        digest.update(np.ascontiguousarray(labels[rows], "<u2").data)
    return digest.hexdigest()


def slabs(length: int) -> Iterator[slice]:
    """Cut rows of voxels into a few at a time: a large volume need not be copied whole."""
    return (slice(at, at + _ROWS_AT_ONCE) for at in range(0, length, _ROWS_AT_ONCE))


def _hash_of_tree(path: Path) -> str:
    files = (file for file in sorted(path.rglob("*")) if file.is_file())
    names = {file.relative_to(path): file for file in files}
    lines = [
        f"{name.as_posix()} {file_sha256(file)}\n"
        for name, file in names.items()
        if name.parts[0] != "labels"
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _hash_of_all(paths: Sequence[Path]) -> str:
    hashes = sorted(map(file_sha256, paths))
    return hashlib.sha256("".join(hashes).encode()).hexdigest()
