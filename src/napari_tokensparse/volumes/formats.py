"""Which reader is for which file, and what all of them are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_tokensparse.volumes.volume import TimeSeriesError, VolumeError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Choice:
    """What to read of a file that holds more than one volume; see `read_volume`."""

    frame: int | None = None
    series: str | int | None = None
    time_is_channels: bool = False
    spacing: tuple[float, ...] | None = None


def other_half(path: Path) -> Path:
    """Return the ``.img`` of a ``.hdr`` and the reverse, in capitals where that one is."""
    other = {".hdr": ".img", ".img": ".hdr"}[path.suffix.lower()]
    return path.with_suffix(other.upper() if path.suffix.isupper() else other)


def is_one_frame(shape: Sequence[int], choice: Choice, name: str, mend: str | None) -> bool:
    """Whether one frame of a fourth axis, the last, is to be read, rather than all as channels.

    Parameters
    ----------
    shape
        As `checked_shape` returns it.
    choice
        What is asked for.
    name
        The file's.
    mend
        How to make channels of the frames of a time series; None where the fourth axis is not time.

    Raises
    ------
    VolumeError
        There is no such frame.
    TimeSeriesError
        None was chosen of a time series.
    """
    count = shape[3] if len(shape) == 4 else 1
    if choice.frame is not None:
        if not 0 <= choice.frame < count:
            raise VolumeError(f"{name}: frame {choice.frame}: must be 0 to {count - 1}")
        return count > 1
    if count > 1 and mend is not None and not choice.time_is_channels:
        raise TimeSeriesError(
            f"{name}: is a time series of {count} frames; pick one with --frame N, 0 to "
            f"{count - 1} (frame=N in Python){mend}",
            count,
        )
    return False


def checked_shape(shape: Sequence[int], name: str) -> tuple[int, ...]:
    """Drop trailing axes of length one beyond the third.

    Raises
    ------
    VolumeError
        What is left is neither 3-D nor 4-D.
    """
    shape = tuple(shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    text = " x ".join(map(str, shape))
    if len(shape) < 3 or min(shape[:3]) < 2:
        raise VolumeError(
            f"{name}: is a 2-D image ({text}); give a volume with at least 2 voxels along each axis"
        )
    if len(shape) > 4:
        raise VolumeError(f"{name}: has {len(shape)} axes ({text}); give 3-D, or 4-D with channels")
    return shape


def native(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array in this machine's byte order."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def reason(error: BaseException) -> str:
    """Return what an error says in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    said = 1 + lines[0].endswith(":")  # what a colon announces is on the next line
    return " ".join(lines[:said])
