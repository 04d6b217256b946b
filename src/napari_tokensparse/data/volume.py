"""NIfTI files in and out, without ever changing their grid.

A :class:`Volume` keeps the file's own voxel order; only its affine says where the voxels lie. What
is written back takes every geometry field of the source header as it is, bit for bit.
"""

from __future__ import annotations

import os
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Header, Nifti1Image, Nifti1Pair
from nibabel.nifti2 import Nifti2Header, Nifti2Image
from nibabel.spatialimages import HeaderDataError

if TYPE_CHECKING:
    from nibabel.arrayproxy import ArrayProxy
    from numpy.typing import ArrayLike, NDArray

SUFFIXES = (".nii.gz", ".nii")
NOTE_NO_ORIENTATION = (
    "the file does not say how it is oriented (its sform and qform codes are 0): "
    "left and right are assumed, not known"
)

_LABEL_INTENT = 1002
_MM_PER_UNIT = {"meter": 1000.0, "micron": 0.001}
_LABEL_DTYPES = (np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64)
_GEOMETRY_FIELDS = (
    *("pixdim", "xyzt_units", "dim_info", "qform_code", "sform_code"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z"),
)
_READ_ERRORS = (OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError)


class VolumeError(ValueError):
    """A file or an array that is not a usable volume; the message is one plain line."""


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3-D image of one or more channels, in the voxel order of its file.

    Attributes
    ----------
    array
        Shape (C, i, j, k): integers as stored, or floats.
    affine
        Shape (4, 4): voxel index (i, j, k, 1) to RAS millimetres.
    name
        What to call it: ``scan`` for ``scan.nii.gz``.
    channel_names
        One per channel, or empty.
    header
        The source file's header, whose geometry fields are copied into what is written back.
    notes
        What a person should know about this volume, one sentence each.

    Raises
    ------
    VolumeError
        If the array is not 4-D or the affine is not an invertible 4 x 4 matrix.
    """

    array: NDArray[Any]
    affine: NDArray[np.float64]
    name: str
    channel_names: tuple[str, ...] = ()
    header: Nifti1Header | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no function here could use."""
        if self.array.ndim != 4:
            raise VolumeError(
                f"{self.name}: array of shape {self.array.shape}: must be (channels, i, j, k)"
            )
        if len(self.channel_names) not in (0, len(self.array)):
            raise VolumeError(
                f"{self.name}: {len(self.channel_names)} channel names for "
                f"{len(self.array)} channels: give one for each"
            )
        _check_affine(self.affine, self.name)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (i, j, k)."""
        _, i, j, k = self.array.shape
        return i, j, k

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along (i, j, k) in mm."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return i, j, k

    @property
    def is_labels(self) -> bool:
        """Whether the file declares its integers to be labels (NIfTI intent code 1002)."""
        return (
            self.header is not None
            and int(self.header["intent_code"]) == _LABEL_INTENT
            and self.array.dtype.kind in "iu"
        )


def read_volume(path: str | os.PathLike[str], *, finite: bool = True) -> Volume:
    """Read a ``.nii`` or ``.nii.gz`` file.

    A fourth axis is read as channels. The affine is the sform where its code is set, else the
    qform, else NIfTI's fallback, with a note; a file in metres or micrometres gets one in mm.

    Parameters
    ----------
    path
        The file.
    finite
        Whether to refuse NaN and infinity.

    Returns
    -------
    Volume
        Array (C, i, j, k) of the file's type, native byte order; float32 where the file states a
        scaling.

    Raises
    ------
    VolumeError
        If there is no such file, it is not NIfTI or is cut short, it is not a 3-D or 4-D image of
        integers or real numbers, it contains NaN or infinity, or its affine is not invertible.
    """
    path = Path(path)
    image = _open(path)
    shape = _checked_shape(image.shape, path.name)
    _check_dtype(image.header, path.name)
    affine = _affine_mm(image, path.name)
    array = _data(image, path.name).reshape(shape, order="F")
    if finite:
        check_finite(array, path.name)
    known = int(image.header["sform_code"]) > 0 or int(image.header["qform_code"]) > 0
    return Volume(
        array=array[None] if array.ndim == 3 else np.moveaxis(array, -1, 0),
        affine=affine,
        name=volume_name(path),
        header=image.header,
        notes=() if known else (NOTE_NO_ORIENTATION,),
    )


def write_nifti(
    path: str | os.PathLike[str], array: ArrayLike, like: Volume, *, labels: bool | None = None
) -> Path:
    """Write an array on another volume's grid; the file appears only once it is complete.

    The header's geometry (pixdim, qform, sform, their codes and the units) is the source header's,
    bit for bit. Nothing else is copied: its text fields and extensions may name a patient.

    Parameters
    ----------
    path
        Where to, ending in ``.nii`` or ``.nii.gz``.
    array
        Shape (i, j, k), that of ``like``. Floats are stored as float32.
    like
        Whose grid it is.
    labels
        Whether integers are labels: stored in the smallest type that holds them, with the intent
        "label". Others keep their type. Integers and booleans are labels if not given.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    VolumeError
        If the shape differs, the suffix is not NIfTI's, or the folder does not exist.
    """
    path = Path(path)
    array = np.asarray(array)
    if array.shape != like.shape:
        raise VolumeError(
            f"{path.name}: array of shape {array.shape}: must be {like.shape}, as {like.name} is"
        )
    if not path.name.lower().endswith(SUFFIXES):
        raise VolumeError(f"{path.name}: must end in .nii or .nii.gz")
    if not path.parent.is_dir():
        raise VolumeError(f"{path.parent}: no such folder; create it first")
    is_labels = array.dtype.kind in "iub" if labels is None else labels
    if is_labels or array.dtype.kind not in "iu":
        array = _compact(array)
    return _save(_image(array, like, is_labels and array.dtype.kind in "iu"), path)


def volume_name(path: str | os.PathLike[str]) -> str:
    """Return the file's name without its folder and NIfTI suffix."""
    name = Path(path).name
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def check_finite(array: NDArray[Any], name: str) -> None:
    """Refuse NaN and infinity; integers always pass.

    Raises
    ------
    VolumeError
        With how many voxels are affected.
    """
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    what = "NaN" if np.isnan(array).any() else "infinity"
    count = int(array.size - np.isfinite(array).sum())
    raise VolumeError(f"{name}: contains {what} ({count} voxels); replace them, for example by 0")


def header_from_bytes(block: bytes) -> Nifti1Header:
    """Rebuild a NIfTI-1 or NIfTI-2 header from its ``binaryblock`` (348 or 540 bytes)."""
    if len(block) == Nifti2Header.template_dtype.itemsize:
        return Nifti2Header(block, check=False)
    return Nifti1Header(block, check=False)


def _open(path: Path) -> Nifti1Pair:
    if not path.is_file():
        raise VolumeError(f"{path}: no such file; check the path")
    try:
        image = nib.load(path, mmap=False)
    except _READ_ERRORS as error:
        raise VolumeError(
            f"{path.name}: is not a NIfTI file ({_reason(error)}); give a .nii or .nii.gz file"
        ) from error
    if not isinstance(image, Nifti1Pair):
        raise VolumeError(
            f"{path.name}: is not a NIfTI file ({type(image).__name__}); convert it to .nii.gz"
        )
    return image


def _checked_shape(shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    """Drop trailing axes of length one beyond the third."""
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


def _check_dtype(header: Nifti1Header, name: str) -> None:
    if header.get_data_dtype().kind not in "iuf":
        kind = header.get_value_label("datatype")
        raise VolumeError(f"{name}: holds {kind} values; give one real number per voxel")


def _affine_mm(image: Nifti1Pair, name: str) -> NDArray[np.float64]:
    affine = np.array(image.affine, dtype=np.float64)
    try:
        unit = image.header.get_xyzt_units()[0]
    except KeyError:
        raise VolumeError(
            f"{name}: unit code {int(image.header['xyzt_units'])} is not NIfTI's; set it to mm (2)"
        ) from None
    affine[:3] *= _MM_PER_UNIT.get(unit, 1.0)
    _check_affine(affine, name)
    return affine


def _check_affine(affine: NDArray[np.float64], name: str) -> None:
    if affine.shape != (4, 4):
        raise VolumeError(f"{name}: affine of shape {affine.shape}: must be (4, 4)")
    if not np.isfinite(affine).all():
        raise VolumeError(f"{name}: its affine contains NaN or infinity; correct sform or qform")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if spacing.min() == 0 or abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-6:
        raise VolumeError(
            f"{name}: its affine is not invertible (voxel size "
            f"{' x '.join(f'{s:g}' for s in spacing)} mm); correct the sform or qform"
        )


def _data(image: Nifti1Pair, name: str) -> NDArray[Any]:
    proxy = cast("ArrayProxy", image.dataobj)
    try:
        if (proxy.slope, proxy.inter) == (1.0, 0.0):
            array = proxy.get_unscaled()
        else:
            array = np.asarray(proxy, dtype=np.float32)
    except _READ_ERRORS as error:
        raise VolumeError(
            f"{name}: is damaged or cut short ({_reason(error)}); copy it again from its source"
        ) from error
    return np.asarray(array, dtype=array.dtype.newbyteorder("="))


def _reason(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def _compact(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    low, high = int(array.min()), int(array.max())
    for dtype in _LABEL_DTYPES:
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return array.astype(dtype, copy=False)
    raise VolumeError(f"label {high}: does not fit in a 64-bit integer")


def _image(array: NDArray[Any], like: Volume, is_labels: bool) -> Nifti1Image:
    if like.header is None:
        image = Nifti1Image(array, like.affine, dtype=array.dtype)
        image.header.set_xyzt_units("mm")
    else:
        kind: Any = Nifti2Image if isinstance(like.header, Nifti2Header) else Nifti1Image
        header = kind.header_class(endianness=like.header.endianness)
        header.set_data_dtype(array.dtype)
        image = kind(array, None, header)
        for field in _GEOMETRY_FIELDS:  # only now: the image resets some of them
            image.header[field] = like.header[field]
    if is_labels:
        image.header.set_intent("label")
    return image


def _save(image: Nifti1Image, path: Path) -> Path:
    suffix = ".nii.gz" if path.name.lower().endswith(".gz") else ".nii"
    part = path.with_name(f".{uuid.uuid4().hex}{suffix}")
    try:
        nib.save(image, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path
