"""Arrays that are computed block by block when they are asked for, as dask's are.

Such an array is never asked for as a whole: each block is read once, and goes straight to where the
model's preprocessing begins, on the grid that the model sees.
"""

from __future__ import annotations

from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.spatial.array import SpatialResample

from napari_tokensparse.volumes.volume import check_finite

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from monai.transforms.transform import Transform
    from numpy.typing import DTypeLike, NDArray
    from torch import Tensor

_VOXELS_AT_ONCE = 2**22  # that are resampled together, unless one row of blocks holds more
_SAME_AFFINE = 1e-3  # MONAI's own tolerance, within which it does not resample


def read_blocks(array: Any, dtype: DTypeLike, name: str) -> NDArray[Any]:
    """Read a whole array into one of another type, a block at a time.

    Parameters
    ----------
    array
        A dask array ``(C, i, j, k)``.
    dtype
        Of the result.
    name
        What to call it in an error.

    Raises
    ------
    VolumeError
        A block contains NaN or infinity.
    """
    values = np.empty(array.shape, dtype)
    for where, block in _blocks(array, name):
        values[where] = block
    return values


def resample_blocks(array: Any, frame: NDArray[np.float64], to: Transform, name: str) -> MetaTensor:
    """Resample an array as MONAI does, a few rows of blocks at a time.

    The rows lie along the axis that has the most blocks. In memory are the result, those rows as
    doubles and what MONAI makes of them.

    Parameters
    ----------
    array
        A dask array ``(C, i, j, k)``.
    frame
        (4, 4) voxel to mm, diagonal but for a permutation of axes.
    to
        Spacingd: linear, with MONAI's own choices for all else.
    name
        What to call it in an error.

    Returns
    -------
    MetaTensor
        ``(C, h, w, d)`` float32 with its affine.

    Raises
    ------
    VolumeError
        As `read_blocks`.
    """
    shape, affine = _target(array.shape[1:], frame, to)
    if shape == array.shape[1:] and np.allclose(affine, frame, atol=_SAME_AFFINE):
        values = torch.from_numpy(read_blocks(array, np.float32, name))
        return MetaTensor(values, affine=torch.from_numpy(frame))
    out = torch.empty(len(array), *shape)
    axis = int(np.argmax([len(sizes) for sizes in array.chunks[1:]]))
    to_input = np.linalg.solve(frame, affine)
    places = to_input[axis, axis] * np.arange(shape[axis]) + to_input[axis, 3]
    resample: Any = SpatialResample(padding_mode="border", dtype=np.float64)
    done = 0
    for first, rows in _overlapping_rows(array, axis, name):
        end = first + rows.shape[1 + axis]
        # A row takes from the input rows before and after it.
        last = end == array.shape[1 + axis]
        ready = len(places) if last else int(np.searchsorted(places, end - 1))
        if ready > done:
            size = [*shape[:axis], ready - done, *shape[axis + 1 :]]
            out.narrow(1 + axis, done, ready - done).copy_(
                resample(
                    MetaTensor(torch.from_numpy(rows), affine=_moved(frame, axis, first)),
                    dst_affine=_moved(affine, axis, done),
                    spatial_size=size,
                ).as_tensor()
            )
        done = ready
    return MetaTensor(out, affine=torch.from_numpy(affine))


def _target(
    shape: Sequence[int], frame: NDArray[np.float64], to: Transform
) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Ask MONAI which grid it would resample to; no voxel is looked at."""
    nothing = MetaTensor(torch.zeros(1).expand(1, *shape), affine=torch.from_numpy(frame))
    spacing: Any = to
    pending = spacing({"image": nothing}, lazy=True)["image"]
    return tuple(map(int, pending.peek_pending_shape())), np.asarray(pending.peek_pending_affine())


def _overlapping_rows(array: Any, axis: int, name: str) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield rows of blocks as doubles, with the last one of before, and the number of the first."""
    sizes = array.chunks[1 + axis]
    in_a_row = array.size // array.shape[1 + axis]
    ends = [0]
    for end in np.cumsum(sizes).tolist():
        if (end - ends[-1]) * in_a_row >= _VOXELS_AT_ONCE or end == array.shape[1 + axis]:
            ends.append(end)
    where: list[Any] = [slice(None)] * 4
    before: NDArray[Any] | None = None
    for start, stop in pairwise(ends):
        where[1 + axis] = slice(start, stop)
        rows = read_blocks(array[tuple(where)], np.float64, name)
        if before is not None:
            rows = np.concatenate([before, rows], axis=1 + axis)
        yield stop - rows.shape[1 + axis], rows
        before = rows.take([-1], axis=1 + axis)


def _blocks(array: Any, name: str) -> Iterator[tuple[tuple[slice, ...], NDArray[Any]]]:
    """Yield every block once, with where it lies."""
    spans = [
        [slice(end - size, end) for size, end in zip(sizes, np.cumsum(sizes).tolist(), strict=True)]
        for sizes in array.chunks
    ]
    for where in product(*spans):
        block = np.asarray(array[where])
        check_finite(block, name)
        yield where, block


def _moved(affine: NDArray[np.float64], axis: int, by: int) -> Tensor:
    """Return the affine of an array that begins so many voxels further along an axis."""
    shift = np.eye(4)
    shift[axis, 3] = by
    return torch.from_numpy(affine @ shift)
