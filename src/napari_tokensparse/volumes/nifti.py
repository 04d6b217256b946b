"""NIfTI files in, through nibabel."""

from __future__ import annotations

import logging
import math
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Header, Nifti1Image, Nifti1Pair
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError

from napari_tokensparse.volumes.claims import false_claim, read_checked
from napari_tokensparse.volumes.formats import (
    checked_shape,
    is_one_frame,
    native,
    other_half,
    reason,
)
from napari_tokensparse.volumes.volume import (
    NOTE_NO_ORIENTATION,
    Volume,
    VolumeError,
    check_affine,
    volume_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nibabel.arrayproxy import ArrayProxy
    from nibabel.filebasedimages import FileBasedImage
    from nibabel.spatialimages import SpatialImage
    from numpy.typing import NDArray

    from napari_tokensparse.volumes.formats import Choice

FORMS_DISAGREE_MM = 0.1
"""From how far apart the corners of qform and sform lie a note says so; less is rounding."""
READ_ERRORS = (
    *(OSError, EOFError, ValueError, OverflowError, zlib.error),
    *(ImageFileError, HeaderDataError),
)
"""What nibabel raises on files that are damaged or something else."""

_ROUNDED_QUATERNION = 1e-4
"""By how much the square of a quaternion's length may exceed 1 for rounding, in a text for one."""
_WITHIN = 1 - 1e-7  # of float32's next value, so that it is not longer than 1 again
_MM_PER_UNIT = {"meter": 1000.0, "micron": 0.001}
_TIME_UNITS = ("sec", "msec", "usec")
_MEND_TIME = "; if they are channels, take the unit of time out of its header"


def read_nifti(path: Path, choice: Choice) -> Volume:
    """Read a NIfTI file or pair of files; see `read_volume`.

    Raises
    ------
    VolumeError
        In one line.
    """
    image, mended = _open(path)
    shape = checked_shape(_without_time(image.shape), path.name)
    _check_dtype(image.header, path.name)
    _check_claim(image, path)
    affine, notes = _placed(image, path.name)
    mend = _MEND_TIME if _has_time(image) else None
    frame = choice.frame if is_one_frame(shape, choice, path.name, mend) else None
    return Volume(
        array=voxels(image, shape, frame, path.name),
        affine=affine,
        name=volume_name(path),
        header=image.header,
        notes=(*notes, *mended),
    )


def voxels(
    image: SpatialImage, shape: tuple[int, ...], frame: int | None, name: str
) -> NDArray[Any]:
    """Return (channel, i, j, k), native; of one frame alone, no more is read.

    Raises
    ------
    VolumeError
        The file is cut short.
    """
    proxy = cast("ArrayProxy", image.dataobj)
    scaled = (proxy.slope, proxy.inter) != (1.0, 0.0)
    stored = (proxy.shape, proxy.dtype, first_byte(image), proxy.slope, proxy.inter)

    def read(source: Any) -> NDArray[Any]:
        same = type(proxy)(source, stored, mmap=False)
        if frame is not None:
            at = (frame,) if proxy.shape[3] > 1 else (0, frame)
            return np.asarray(same[:, :, :, *at, ...])
        return np.asarray(same, np.float32) if scaled else np.asarray(same.get_unscaled())

    try:
        with np.errstate(over="ignore", invalid="ignore"):  # infinite values are refused later
            source = proxy.file_like
            array = read_checked(Path(source), read) if isinstance(source, str) else read(source)
        shape = shape if frame is None else shape[:3]
    except READ_ERRORS as error:
        raise VolumeError(
            f"{name}: is damaged or cut short ({reason(error)}); copy it again from its source"
        ) from error
    array = native(array.astype(np.float32, copy=False) if scaled else array)
    array = array.reshape(shape, order="F")
    return array[None] if array.ndim == 3 else np.moveaxis(array, -1, 0)


def first_byte(image: SpatialImage) -> int:
    """Return where voxels begin; no earlier than a single file's header ends, where it says 0."""
    proxy = cast("ArrayProxy", image.dataobj)
    if not isinstance(image, Nifti1Image):
        return int(proxy.offset)
    return max(int(proxy.offset), int(image.header.single_vox_offset))


def _open(path: Path) -> tuple[Nifti1Pair, list[str]]:
    """Open a file; also what nibabel had to mend in its header, a sentence each."""
    if path.suffix.lower() in (".hdr", ".img") and not other_half(path).is_file():
        raise VolumeError(f"{path.name}: {other_half(path).name} is not beside it; add it")
    mended: list[str] = []
    try:
        with gathered_log(mended), np.errstate(all="ignore"):
            image = _loaded(path, mended)
    except READ_ERRORS as error:
        mend = _misnamed(path) or _misturned(error) or "give a .nii or .nii.gz file"
        raise VolumeError(f"{path.name}: is not a NIfTI file ({reason(error)}); {mend}") from error
    if not isinstance(image, Nifti1Pair):
        raise VolumeError(
            f"{path.name}: is not a NIfTI file ({type(image).__name__}); convert it to .nii.gz"
        )
    if first_byte(image) > cast("ArrayProxy", image.dataobj).offset:
        mended.append("its header says that voxels begin at byte 0; they were read from behind it")
    return image, mended


def _loaded(path: Path, mended: list[str]) -> FileBasedImage:
    """Load a file; a quaternion that rounding made a little longer than 1 is shortened to 1."""
    try:
        return nib.load(path, mmap=False)
    except ValueError as error:
        if not _misturned(error):
            raise
    kinds = (Nifti1Header, Nifti2Header)
    before = [kind.quaternion_threshold for kind in kinds]
    try:
        for kind in kinds:
            kind.quaternion_threshold = np.float64(_ROUNDED_QUATERNION)
        image = nib.load(path, mmap=False)
    finally:
        for kind, threshold in zip(kinds, before, strict=True):
            kind.quaternion_threshold = threshold
    header = cast("Nifti1Header", image.header)
    parts = np.array([header[f"quatern_{part}"] for part in "bcd"], dtype=np.float64)
    for part, value in zip("bcd", parts / np.linalg.norm(parts) * _WITHIN, strict=True):
        header[f"quatern_{part}"] = value
    mended.append("its quaternion was longer than 1 by rounding, and was taken as of length 1")
    return image


def _misturned(error: Exception) -> str | None:
    """Say what to do about a quaternion that is none; None of another error."""
    is_turn = "w2 should be positive" in str(error)
    return "its qform is no rotation: write it anew, or the sform" if is_turn else None


def _misnamed(path: Path) -> str | None:
    """Say what to call a file whose name is wrong about its compression, or of no form it knows."""
    stem = volume_name(path)
    ending = path.name[len(stem) :]
    if ending not in (ending.lower(), ending.upper()):
        return f"call it {stem}{ending.lower()}"
    try:
        with path.open("rb") as file:
            start = file.read(348)
    except OSError:
        return None
    name, packed = path.name, path.name.lower().endswith(".gz")
    if packed and start[344:347] in (b"n+1", b"ni1"):
        return f"it is not compressed: call it {name[:-3]}"
    if not packed and start[:2] == b"\x1f\x8b":
        return f"it is compressed: call it {name}.gz"
    return None


@contextmanager
def gathered_log(lines: list[str]) -> Iterator[None]:
    """Gather what nibabel logs, which else would go to the terminal."""
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(  # type: ignore[method-assign]
        f"the file's header is not as it should be: {record.getMessage()}"
    )
    logger = nib.imageglobals.logger
    before = logger.propagate, logger.handlers
    logger.propagate, logger.handlers = False, [handler]
    try:
        yield
    finally:
        logger.propagate, logger.handlers = before


def _check_claim(image: Nifti1Pair, path: Path) -> None:
    """Refuse a header that claims more than there is, before memory is asked for."""
    proxy = cast("ArrayProxy", image.dataobj)
    claimed = first_byte(image) + math.prod(proxy.shape) * proxy.dtype.itemsize
    problem = false_claim(Path(image.file_map["image"].filename or path), claimed)
    if problem:
        raise VolumeError(f"{path.name}: {problem}")


def _check_dtype(header: nib.nifti1.Nifti1Header, name: str) -> None:
    if header.get_data_dtype().kind not in "iuf":
        kind = header.get_value_label("datatype")
        raise VolumeError(f"{name}: holds {kind} values; give one real number per voxel")


def _placed(image: Nifti1Pair, name: str) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the affine in mm, and what to tell about it."""
    affine = np.array(image.affine, dtype=np.float64)
    affine[:3] *= _mm_per_unit(image, name)
    check_affine(affine, name)
    codes = [int(image.header[code]) for code in ("sform_code", "qform_code")]
    if not any(codes):
        return affine, (NOTE_NO_ORIENTATION,)
    return affine, _disagreement(image, affine, name) if all(codes) else ()


def _mm_per_unit(image: Nifti1Pair, name: str) -> float:
    try:
        unit = image.header.get_xyzt_units()[0]
    except KeyError:
        raise VolumeError(
            f"{name}: unit code {int(image.header['xyzt_units'])} is not NIfTI's; set it to mm (2)"
        ) from None
    return _MM_PER_UNIT.get(unit, 1.0)


def _disagreement(image: Nifti1Pair, sform: NDArray[np.float64], name: str) -> tuple[str, ...]:
    """Compare where the qform puts the corners of the volume with where the sform does."""
    try:
        qform = np.array(image.get_qform(), dtype=np.float64)
    except (ValueError, HeaderDataError):
        return ("the qform is not a rotation; the sform was used",)
    qform[:3] *= _mm_per_unit(image, name)
    last = np.array(image.shape[:3]) - 1
    corners = np.array([[*(corner * last), 1] for corner in np.ndindex(2, 2, 2)])
    apart = float(np.linalg.norm(((qform - sform) @ corners.T)[:3], axis=0).max())
    if apart <= FORMS_DISAGREE_MM:
        return ()
    return (f"qform and sform differ by up to {apart:.1f} mm; the sform was used",)


def _without_time(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Drop the axis of time where it has one step and the fifth axis holds the channels."""
    return (*shape[:3], shape[4]) if len(shape) == 5 and shape[3] == 1 else shape


def _has_time(image: Nifti1Pair) -> bool:
    """Whether the fourth axis has steps of time."""
    header = image.header
    return (
        image.shape[3:4] != (1,)
        and header.get_xyzt_units()[1] in _TIME_UNITS
        and float(header["pixdim"][4]) > 0
    )
