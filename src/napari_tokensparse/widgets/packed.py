"""Arrays of few values, such as labels, kept in a small part of the memory that they need."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FAST = 1  # labels of a brain take a twentieth with it


@dataclass(frozen=True, eq=False)
class Packed:
    """An array as compressed bytes: plain values, so it may stand in a layer's metadata.

    Attributes
    ----------
    content
        Its values in C order, compressed.
    shape
        Its axes.
    dtype
        NumPy's name of its type.
    """

    content: bytes
    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, array: NDArray[Any]) -> Packed:
        """Pack an array, in whatever order it lies in memory."""
        values = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        return cls(zlib.compress(values.data, _FAST), array.shape, array.dtype.str)

    def array(self) -> NDArray[Any]:
        """Return a new array that may be written to."""
        values = np.frombuffer(bytearray(zlib.decompress(self.content)), np.dtype(self.dtype))
        return values.reshape(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that are kept."""
        return len(self.content)
