"""FreeSurfer's MGH and MGZ files in, through nibabel."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import numpy as np
from nibabel.freesurfer.mghformat import MGHImage

from napari_tokensparse.data.formats import checked_shape, is_one_frame, reason
from napari_tokensparse.data.niftifile import READ_ERRORS, voxels
from napari_tokensparse.data.volume import (
    NOTE_NO_ORIENTATION,
    Volume,
    VolumeError,
    check_affine,
    volume_name,
)

if TYPE_CHECKING:
    from pathlib import Path

    from napari_tokensparse.data.formats import Choice

_MEND_TIME = "; if they are channels, convert it to .nii.gz"
_GOOD_RAS = slice(28, 30)  # the header's flag that it says where the volume lies


def read_mgh(path: Path, choice: Choice) -> Volume:
    """Read an MGH or MGZ file, whose fourth axis is time; see `read_volume`.

    Raises
    ------
    VolumeError
        In one line.
    """
    content = _content(path)
    try:
        image = MGHImage.from_bytes(content)
    except (*READ_ERRORS, KeyError) as error:
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
        notes=() if any(content[_GOOD_RAS]) else (NOTE_NO_ORIENTATION,),
    )


def _content(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw
    except READ_ERRORS as error:
        raise VolumeError(
            f"{path.name}: is damaged or cut short ({reason(error)}); copy it again from its source"
        ) from error
