"""Any file or folder to a volume: what reads it is chosen by its name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from napari_tokensparse.common.files import how_to_fetch
from napari_tokensparse.volumes.formats import Choice, other_half
from napari_tokensparse.volumes.volume import (
    READ_SUFFIXES,
    ZARR_SUFFIX,
    Volume,
    VolumeError,
    check_finite,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    Reader = Callable[[Path, Choice], Volume]


def read_volume(
    path: str | os.PathLike[str],
    *,
    frame: int | None = None,
    series: str | int | None = None,
    finite: bool = True,
    time_is_channels: bool = False,
    spacing: Sequence[float] | None = None,
) -> Volume:
    """Read a NIfTI, NRRD or MGH file, a folder that holds a DICOM series, or OME-Zarr.

    So is a DICOM file that holds all slices of a volume, as enhanced files do.

    A fourth axis is read as channels, unless the file says that it is time. The affine of NIfTI is
    the sform where its code is set, else the qform, else NIfTI's fallback, with a note; a file in
    metres or micrometres gets one in mm.

    Parameters
    ----------
    path
        The file, its name ending in one of `READ_SUFFIXES`, or the folder.
    frame
        Which one of a time series, of a fourth axis, or of the images of each place of a DICOM
        series to read: from 0.
    series
        Which series of a DICOM folder to read: its number or its SeriesInstanceUID. Only needed
        where there are several.
    finite
        Whether to refuse NaN and infinity.
    time_is_channels
        Whether the frames of a time series are the channels of one case after all.
    spacing
        Of OME-Zarr's pyramid, the level with about these voxel sizes in mm is read, block by block
        as it is asked for; the finest if none are given.

    Returns
    -------
    Volume
        Array (C, i, j, k) of the file's type, native byte order; float32 where the file states a
        scaling.

    Raises
    ------
    VolumeError
        In one line: there is no such file, it is of another format or cut short, it is not a 3-D
        or 4-D image of integers or real numbers, it is a time series and no frame was given, it
        contains NaN or infinity, its affine is not invertible, or the slices of a DICOM series do
        not make one volume.
    """
    path = Path(path)
    sides = None if spacing is None else tuple(spacing)
    volume = reader_of(path)(path, Choice(frame, series, time_is_channels, sides))
    if finite:
        check_finite(volume.array, path.name)
    return volume


def reader_of(path: Path) -> Reader:
    """Choose by the name what reads a file or a folder.

    Raises
    ------
    VolumeError
        It does not exist, or its name is of no format that is read.
    """
    if is_zarr(path):
        from napari_tokensparse.volumes.omezarr import read_omezarr

        return read_omezarr
    if path.is_dir():
        from napari_tokensparse.volumes.dicom.folder import read_dicom

        return read_dicom
    if not path.is_file():
        raise VolumeError(f"{path}: {_absent(path)}")
    _check_content(path)
    name = path.name.lower()
    if name.endswith((".nrrd", ".nhdr")):
        from napari_tokensparse.volumes.nrrd import read_nrrd

        return _of_a_file(read_nrrd)
    if name.endswith((".mgz", ".mgh")):
        from napari_tokensparse.volumes.mgh import read_mgh

        return _of_a_file(read_mgh)
    if name.endswith(READ_SUFFIXES):
        from napari_tokensparse.volumes.nifti import read_nifti

        return _of_a_file(read_nifti)
    if name.endswith((".dcm", ".ima")):
        from napari_tokensparse.volumes.dicom.folder import read_frames

        return read_frames
    raise VolumeError(
        f"{path.name}: must end in {', '.join(READ_SUFFIXES)}, or be a folder of DICOM files"
    )


def _absent(path: Path) -> str:
    if path.is_symlink():
        return (
            f"is a link to {path.readlink()}, which is not there; fetch its content, for example "
            "with datalad get, git annex get or dvc pull"
        )
    if re.match(r"\w{2,}:/", path.as_posix()):  # one letter is a drive
        return "is no file of this machine; download it, and name what that gives"
    return "no such file; check the path"


def _check_content(path: Path) -> None:
    """Refuse a file that only stands for another one, as Git LFS and git-annex leave them.

    Raises
    ------
    VolumeError
        In one line: how to get what it stands for.
    """
    fetch = how_to_fetch(path)
    if fetch is not None:
        raise VolumeError(f"{path.name}: only stands for the scan; fetch that with {fetch}")


def is_zarr(path: Path) -> bool:
    """Whether a path is a folder that calls itself a zarr store: ``scan.ome.zarr``.

    So does one within another's group of labels: ``scan.ome.zarr/labels/brain``.
    """
    within = path.parent.name == "labels" and path.parents[1].name.lower().endswith(ZARR_SUFFIX)
    return path.is_dir() and (within or path.name.lower().endswith(ZARR_SUFFIX))


def could_be_volume(path: Path) -> bool:
    """Say quickly whether `read_volume` would try: by the name, and whether a folder has DICOM.

    The header of a pair must begin as NIfTI's do: others give other files .hdr and .img.
    """
    if is_zarr(path):
        from napari_tokensparse.volumes.omezarr import holds_image

        return holds_image(path)
    if path.is_dir():
        from napari_tokensparse.volumes.dicom.folder import holds_dicom

        return holds_dicom(path)
    name = path.name.lower()
    if name.endswith((".hdr", ".img")):
        return _begins_as_nifti(path if name.endswith(".hdr") else other_half(path))
    return name.endswith(READ_SUFFIXES)


def _begins_as_nifti(header: Path) -> bool:
    try:
        with header.open("rb") as file:
            start = file.read(348)
    except OSError:
        return False
    return start[344:347] == b"ni1" or start[4:7] == b"ni2"


def _of_a_file(reader: Reader) -> Reader:
    def read(path: Path, choice: Choice) -> Volume:
        if choice.series is not None:
            raise VolumeError(
                f"{path.name}: series {choice.series}: only a DICOM folder has a choice of series"
            )
        return reader(path, choice)

    return read
