"""Volumes written to files, in the format that the file's name says, on the input's own grid."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokensparse.common.files import write_error, written_whole
from napari_tokensparse.common.ownership import OwnershipError, check_apart
from napari_tokensparse.outputs.omezarr import (
    check_omezarr,
    image_of,
    is_zarr_output,
    write_omezarr,
)
from napari_tokensparse.volumes.volume import SUFFIXES as NIFTI_SUFFIXES
from napari_tokensparse.volumes.volume import ZARR_SUFFIX, VolumeError, write_nifti

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.volumes.volume import Volume

SEG_SUFFIX = ".dcm"
"""What names of DICOM segmentations end in."""
SUFFIXES = (*NIFTI_SUFFIXES, ".nrrd", SEG_SUFFIX)
"""What names may end in, in small letters or capitals."""

_MOST_NAME = 240  # of 255 that file systems take
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


def check_output(
    path: str | os.PathLike[str], like: Volume | None = None, info: ModelInfo | None = None
) -> Path:
    """Refuse where no volume could be written, before a run rather than after it.

    Parameters
    ----------
    path
        Where to.
    like
        Whose grid it will be, once that is known: DICOM SEG can only be written of DICOM.
    info
        Of the model whose labels they are to be, for DICOM SEG.

    Raises
    ------
    VolumeError
        The suffix is none of `SUFFIXES`, there is no such folder, the path is itself a folder or
        among the slices of a series, or DICOM SEG cannot be written.
    """
    path = Path(path)
    if "\0" in str(path):
        raise VolumeError(f"{str(path)!r}: is no path; name a file")
    if is_zarr_output(path):
        check_omezarr(path, like)
        return path
    if not path.name.lower().endswith(SUFFIXES):
        raise VolumeError(
            f"{path}: must end in .nii.gz, .nii, .nrrd or .ome.zarr (of a DICOM series, also .dcm)"
        )
    if path.parent.is_file():
        raise VolumeError(f"{path.parent}: is a file, and no folder; choose another place")
    if not path.parent.is_dir():
        raise VolumeError(f"{path.parent}: no such folder; create it first")
    if path.is_dir():
        raise VolumeError(f"{path}: is a folder; name a file")
    if len(os.fsencode(path.name)) > _MOST_NAME:
        raise VolumeError(
            f"{path}: its name is longer than {_MOST_NAME} bytes, and files beside it add to it; "
            "shorten it"
        )
    if not os.access(path.parent, os.W_OK):
        raise VolumeError(f"{path.parent}: may not be written to; choose another folder")
    if like is not None:
        _check_series(path, like)
    if like is not None and path.name.lower().endswith(SEG_SUFFIX):
        from napari_tokensparse.outputs.dicomseg import check_seg

        check_seg(path, like, _described(path, info))
    return path


def _check_series(path: Path, like: Volume) -> None:
    """Refuse a place among the slices of a series, which it would make unreadable."""
    try:
        check_apart([path], [file.parent for file in like.slices[:1]])
    except OwnershipError as error:
        raise VolumeError(str(error)) from error


def write_volume(
    path: str | os.PathLike[str],
    array: ArrayLike,
    like: Volume,
    *,
    labels: bool | None = None,
    info: ModelInfo | None = None,
) -> Path:
    """Write an array on another volume's grid; the file appears only once it is complete.

    NIfTI takes the source header's geometry as it is, bit for bit (`write_nifti`). NRRD states the
    affine: ``space`` left-posterior-superior, ``space directions`` and ``space origin`` in mm,
    gzip-compressed. DICOM SEG refers to the slices it was made from (`write_seg`). OME-Zarr is for
    labels (`write_omezarr`).

    Parameters
    ----------
    path
        Where to, ending in ``.nii.gz``, ``.nii``, ``.nrrd``, ``.dcm`` or ``.ome.zarr``.
    array
        Shape (i, j, k), that of ``like``, in its voxel order. Floats are stored as float32.
    like
        Whose grid it is.
    labels
        Whether integers are labels: stored in the smallest type that holds them, in NIfTI with the
        intent "label". Others keep their type. Integers and booleans are labels if not given.
    info
        What DICOM SEG says of the classes and the algorithm; other formats do not need it.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    VolumeError
        In one line: the shape differs, or the file cannot be written there (`check_output`).
    """
    path, array = check_output(path), np.asarray(array)
    _check_series(path, like)
    if array.shape != like.shape:
        raise VolumeError(
            f"{path.name}: array of shape {array.shape}: must be {like.shape}, as {like.name} is"
        )
    try:
        if is_zarr_output(path):
            return write_omezarr(path, array, like, info)
        if path.name.lower().endswith(NIFTI_SUFFIXES):
            return write_nifti(path, array, like, labels=labels)
        if path.name.lower().endswith(SEG_SUFFIX):
            from napari_tokensparse.outputs.dicomseg import write_seg

            return write_seg(path, array, like, _described(path, info))
        return _write_nrrd(path, _stored(array, labels), like)
    except OSError as error:
        raise VolumeError(str(write_error(path, error))) from error


def output_stem(path: str | os.PathLike[str]) -> str:
    """Return a file's name without its folder and volume suffix.

    Examples
    --------
    >>> output_stem("out/scan.one.nii.gz"), output_stem("scan.NRRD")
    ('scan.one', 'scan')
    """
    name, suffixes = Path(path).name, (f".ome{ZARR_SUFFIX}", ZARR_SUFFIX, *SUFFIXES)
    return next((name[: -len(s)] for s in suffixes if name.lower().endswith(s)), name)


def beside(labels: Path, ending: str) -> Path:
    """Return where what belongs to labels lies: beside them, called after them.

    What belongs to labels within an OME-Zarr image lies beside the image, for a zarr store is of
    zarr's own files: ``scan_brain.receipt.json`` for ``scan.ome.zarr/labels/brain``.
    """
    image = image_of(labels)
    if image is not None:
        return image.with_name(f"{output_stem(image)}_{labels.name}{ending}")
    return labels.with_name(f"{output_stem(labels)}{ending}")


def _described(path: Path, info: ModelInfo | None) -> ModelInfo:
    if info is None:
        raise VolumeError(f"{path.name}: DICOM SEG is for labels that a model made; write .nii.gz")
    return info


def _stored(array: NDArray[Any], labels: bool | None) -> NDArray[Any]:
    """Return an array of the type that NRRD holds."""
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    if labels is False and array.dtype.kind != "b":
        return array
    ends = (np.min_scalar_type(int(end)) for end in (array.min(), array.max()))
    return array.astype(np.result_type(*ends), copy=False)


def _write_nrrd(path: Path, array: NDArray[Any], like: Volume) -> Path:
    import nrrd  # here, for no other file needs it

    axes, origin = like.affine[:3, :3], like.affine[:3, 3]
    header = {
        "space": "left-posterior-superior",
        "space directions": (_RAS_TO_LPS @ axes).T,  # a row for each voxel axis
        "space origin": _RAS_TO_LPS @ origin,
        "space units": ["mm"] * 3,
        "kinds": ["domain"] * 3,
        "encoding": "gzip",
    }
    with written_whole(path) as part:
        nrrd.write(str(part), array, header, compression_level=6, index_order="F")
    return path
