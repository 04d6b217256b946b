"""Volumes: read from any file, and written as NIfTI, without ever changing their grid.

A :class:`Volume` keeps the file's own voxel order; only its affine says where the voxels lie. What
is written back takes every geometry field of a NIfTI source header as it is, bit for bit.

nibabel is imported where a file is at hand: with pydicom, which it imports, it takes a third of the
time in which the Segment widget opens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokensparse.common.files import written_whole
from napari_tokensparse.common.untrusted import PlainError

if TYPE_CHECKING:
    import os

    from nibabel.nifti1 import Nifti1Header, Nifti1Image
    from numpy.typing import ArrayLike, NDArray

SUFFIXES = (".nii.gz", ".nii")
"""What names of NIfTI files that are written end in."""
READ_SUFFIXES = (*SUFFIXES, ".hdr", ".img", ".nrrd", ".nhdr", ".mgz", ".mgh")
"""What names of files that are read may end in, in small letters or capitals."""
ZARR_SUFFIX = ".zarr"
"""What names of folders of OME-Zarr end in, in small letters or capitals."""
NOTE_NO_ORIENTATION = (
    "the file does not say how it is oriented (in NIfTI: its sform and qform codes are 0): "
    "left and right are assumed, not known"
)

_LABEL_INTENT = 1002
_LABEL_DTYPES = (np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64)
_GEOMETRY_FIELDS = (
    *("pixdim", "xyzt_units", "dim_info", "qform_code", "sform_code"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z"),
)


class VolumeError(PlainError):
    """A file or an array that is not a usable volume; the message is one plain line."""


class TimeSeriesError(VolumeError):
    """A file that says that its fourth axis is time, and none of its ``frames`` was chosen."""

    def __init__(self, line: str, frames: int) -> None:
        super().__init__(line)
        self.frames = frames


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3-D image of one or more channels, in the voxel order of its file.

    Attributes
    ----------
    array
        Shape (C, i, j, k): integers as stored, or floats. A dask array will do, too: it is read
        block by block, and never as a whole where the model's grid is another one.
    affine
        Shape (4, 4): voxel index (i, j, k, 1) to RAS millimetres.
    name
        What to call it: ``scan`` for ``scan.nii.gz``.
    channel_names
        One per channel, or empty.
    header
        The source file's NIfTI header, whose geometry fields are copied into what is written back.
    notes
        What a person should know about this volume, one sentence each.
    slices
        Of a DICOM series, the file of each slice along k; else empty.
    axes_as_shown
        Whether (i, j, k) are the axes (x, y, z) of a napari layer, which it keeps wherever the
        affine turns them.
    modality
        DICOM's code of how it was taken, such as ``MR`` or ``CT``; empty where no file says so.

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
    slices: tuple[Path, ...] = ()
    axes_as_shown: bool = False
    modality: str = ""

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
        check_affine(self.affine, self.name)

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
    def voxel_mm3(self) -> float:
        """Volume of a voxel in mm³."""
        return voxel_mm3(self.affine)

    @property
    def is_labels(self) -> bool:
        """Whether the file declares its integers to be labels (NIfTI intent code 1002)."""
        return (
            self.header is not None
            and int(self.header["intent_code"]) == _LABEL_INTENT
            and self.array.dtype.kind in "iu"
        )


def voxel_mm3(affine: NDArray[np.float64]) -> float:
    """Return the volume of a voxel in mm³ from its affine (4, 4)."""
    return abs(float(np.linalg.det(affine[:3, :3])))


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
    WriteError
        (an ``OSError``) The file cannot be written.
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
    """Return the name of a file, or of a folder, without where it lies and its suffix."""
    name = Path(path).name or Path(path).resolve().name
    for suffix in (f".ome{ZARR_SUFFIX}", ZARR_SUFFIX, *READ_SUFFIXES):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def is_lazy(array: Any) -> bool:
    """Whether an array is computed block by block, as dask's are, only when it is asked for."""
    return hasattr(array, "__dask_graph__")


def check_finite(array: NDArray[Any], name: str) -> None:
    """Refuse NaN and infinity; integers always pass, and lazy arrays, checked as they are read.

    Raises
    ------
    VolumeError
        With how many voxels are affected.
    """
    if array.dtype.kind != "f" or is_lazy(array) or np.isfinite(array).all():
        return
    what = "NaN" if np.isnan(array).any() else "infinity"
    count = int(array.size - np.isfinite(array).sum())
    raise VolumeError(f"{name}: contains {what} ({count} voxels); replace them, for example by 0")


def check_affine(affine: NDArray[np.float64], name: str) -> None:
    """Refuse what is not an invertible matrix of voxel indices to mm.

    Raises
    ------
    VolumeError
        In one line.
    """
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


def header_from_bytes(block: bytes) -> Nifti1Header:
    """Rebuild a NIfTI-1 or NIfTI-2 header from its ``binaryblock`` (348 or 540 bytes)."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    if len(block) == Nifti2Header.template_dtype.itemsize:
        return Nifti2Header(block, check=False)
    return Nifti1Header(block, check=False)


def _compact(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    low, high = int(array.min()), int(array.max())
    for dtype in _LABEL_DTYPES:
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return array.astype(dtype, copy=False)
    raise VolumeError(f"label {high}: does not fit in a 64-bit integer")


def _image(array: NDArray[Any], like: Volume, is_labels: bool) -> Nifti1Image:
    from nibabel.nifti1 import Nifti1Image
    from nibabel.nifti2 import Nifti2Header, Nifti2Image

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
    from nibabel.openers import ImageOpener

    with written_whole(path) as part, ImageOpener(str(part), "wb") as file:
        # As nib.save does it, which leaves its file open where the disk is full.
        image.to_stream(file)  # type: ignore[arg-type]  # an Opener is as good as a file
    return path
