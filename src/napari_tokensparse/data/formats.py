"""Which reader is for which file, and what all of them are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_tokensparse.data.volume import READ_SUFFIXES, TimeSeriesError, VolumeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokensparse.data.volume import Volume

    Reader = Callable[[Path, "Choice"], Volume]


@dataclass(frozen=True)
class Choice:
    """What to read of a file that holds more than one volume; see `read_volume`."""

    frame: int | None = None
    series: str | int | None = None
    time_is_channels: bool = False


def reader_of(path: Path) -> Reader:
    """Choose by the name what reads a file or a folder.

    Raises
    ------
    VolumeError
        It does not exist, or its name is of no format that is read.
    """
    if path.is_dir():
        from napari_tokensparse.data.dicomfolder import read_dicom

        return read_dicom
    if not path.is_file():
        raise VolumeError(f"{path}: no such file; check the path")
    name = path.name.lower()
    if name.endswith((".nrrd", ".nhdr")):
        from napari_tokensparse.data.nrrdfile import read_nrrd

        return _of_a_file(read_nrrd)
    if name.endswith((".mgz", ".mgh")):
        from napari_tokensparse.data.mghfile import read_mgh

        return _of_a_file(read_mgh)
    if name.endswith(READ_SUFFIXES):
        from napari_tokensparse.data.niftifile import read_nifti

        return _of_a_file(read_nifti)
    if name.endswith((".dcm", ".ima")):
        raise VolumeError(f"{path.name}: is one DICOM file; give the folder of its series")
    raise VolumeError(
        f"{path.name}: must end in {', '.join(READ_SUFFIXES)}, or be a folder of DICOM files"
    )


def could_be_volume(path: Path) -> bool:
    """Say quickly whether `read_volume` would try: by the name, and whether a folder has DICOM.

    The header of a pair must begin as NIfTI's do: others give other files .hdr and .img.
    """
    if path.is_dir():
        from napari_tokensparse.data.dicomfolder import holds_dicom

        return holds_dicom(path)
    name = path.name.lower()
    if name.endswith((".hdr", ".img")):
        return _begins_as_nifti(path if name.endswith(".hdr") else other_half(path))
    return name.endswith(READ_SUFFIXES)


def other_half(path: Path) -> Path:
    """Return the ``.img`` of a ``.hdr`` and the reverse, in capitals where that one is."""
    other = {".hdr": ".img", ".img": ".hdr"}[path.suffix.lower()]
    return path.with_suffix(other.upper() if path.suffix.isupper() else other)


def _begins_as_nifti(header: Path) -> bool:
    try:
        with header.open("rb") as file:
            start = file.read(348)
    except OSError:
        return False
    return start[344:347] == b"ni1" or start[4:7] == b"ni2"


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
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def _of_a_file(reader: Reader) -> Reader:
    def read(path: Path, choice: Choice) -> Volume:
        if choice.series is not None:
            raise VolumeError(
                f"{path.name}: series {choice.series}: only a DICOM folder has a choice of series"
            )
        return reader(path, choice)

    return read
