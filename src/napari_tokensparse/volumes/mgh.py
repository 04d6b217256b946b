"""FreeSurfer's MGH and MGZ files in, through nibabel."""

from __future__ import annotations

import gzip
import math
import struct
from typing import TYPE_CHECKING

import numpy as np
from nibabel.freesurfer.mghformat import MGHError, MGHImage

from napari_tokensparse.volumes.claims import false_claim
from napari_tokensparse.volumes.formats import checked_shape, is_one_frame, reason
from napari_tokensparse.volumes.nifti import READ_ERRORS, gathered_log, voxels
from napari_tokensparse.volumes.volume import (
    NOTE_NO_ORIENTATION,
    Volume,
    VolumeError,
    check_affine,
    volume_name,
)

if TYPE_CHECKING:
    from pathlib import Path

    from napari_tokensparse.volumes.formats import Choice

_MEND_TIME = "; if they are channels, convert it to .nii.gz"
_HEADER = 284
_MOST_AFTER = 2**24  # bytes of scan parameters and tags
_BYTES = {0: 1, 1: 4, 3: 4, 4: 2}  # of a voxel, by type
_GOOD_RAS = slice(28, 30)  # the header's flag that it says where the volume lies


def read_mgh(path: Path, choice: Choice) -> Volume:
    """Read an MGH or MGZ file, whose fourth axis is time; see `read_volume`.

    Raises
    ------
    VolumeError
        In one line.
    """
    content = _content(path)
    mended: list[str] = []
    try:
        with gathered_log(mended):
            image = MGHImage.from_bytes(content)
    except (*READ_ERRORS, KeyError, MGHError) as error:
        raise VolumeError(
            f"{path.name}: is not an MGH file ({reason(error)}); give a .mgz or .mgh file"
        ) from error
    shape = checked_shape(image.shape, path.name)
    frame = choice.frame if is_one_frame(shape, choice, path.name, _MEND_TIME) else None
    affine = np.array(image.affine, dtype=np.float64)
    check_affine(affine, path.name)
    return Volume(
        array=voxels(image, shape, frame, path.name),
        affine=affine,
        name=volume_name(path),
        notes=(*(() if any(content[_GOOD_RAS]) else (NOTE_NO_ORIENTATION,)), *mended),
    )


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            start = file.read(_HEADER)
            claimed = _claimed(start)
            problem = false_claim(path, claimed) if claimed > 0 else None
            if problem:
                raise VolumeError(f"{path.name}: {problem}")
            content = start + file.read(max(0, claimed - len(start)) + _MOST_AFTER)
            if file.read(1):
                raise OSError("it goes on long after its voxels")
            return content
    except VolumeError:
        raise
    except READ_ERRORS as error:
        raise VolumeError(
            f"{path.name}: is damaged or cut short ({reason(error)}); copy it again from its source"
        ) from error


def _claimed(header: bytes) -> int:
    """Bytes of the whole file, as its header has it."""
    if len(header) < _HEADER:
        return 0
    version, *shape, kind = struct.unpack(">6i", header[:24])
    if version != 1:
        return 0  # nibabel says what is wrong
    claimed: int = math.prod(max(0, n) for n in shape)
    return _HEADER + claimed * _BYTES.get(kind, 4)
