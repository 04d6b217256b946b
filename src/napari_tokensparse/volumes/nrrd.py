"""NRRD files in, through pynrrd."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nrrd
import numpy as np

from napari_tokensparse.volumes.claims import false_claim
from napari_tokensparse.volumes.formats import checked_shape, is_one_frame, native, reason
from napari_tokensparse.volumes.volume import (
    NOTE_NO_ORIENTATION,
    Volume,
    VolumeError,
    check_affine,
    volume_name,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_tokensparse.volumes.formats import Choice

_TO_RAS = {
    **dict.fromkeys(("right-anterior-superior", "ras"), (1.0, 1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1.0, 1.0, 1.0)),
    **dict.fromkeys(("left-posterior-superior", "lps"), (-1.0, -1.0, 1.0)),
}
_MM_PER_UNIT = {"m": 1000.0, "cm": 10.0, "um": 0.001, "µm": 0.001, "micron": 0.001}
_TIME_UNITS = ("s", "sec", "seconds", "ms", "msec", "us", "usec")
_MEND_TIME = "; if they are channels, give that axis the kind list"
_SPATIAL_KINDS = ("domain", "space")
_READ_ERRORS = (
    *(OSError, EOFError, ValueError, OverflowError, LookupError, TypeError),
    *(AttributeError, StopIteration),
    *(zlib.error, nrrd.NRRDError),
)


def read_nrrd(path: Path, choice: Choice) -> Volume:
    """Read a NRRD file; see `read_volume`.

    An axis without a direction, or of another kind than ``domain`` or ``space``, is the channels.

    Raises
    ------
    VolumeError
        In one line.
    """
    try:
        _check_claim(path, nrrd.read_header(str(path)))
        array, header = nrrd.read(str(path), index_order="F")
    except VolumeError:
        raise
    except _READ_ERRORS as error:
        raise VolumeError(
            f"{path.name}: is not a NRRD file, or is cut short ({reason(error)}); "
            "copy it again from its source"
        ) from error
    if array.dtype.kind not in "iuf":
        raise VolumeError(
            f"{path.name}: holds {array.dtype} values; give one real number per voxel"
        )
    other = _other_axis(header, array.ndim, path.name)
    array = array[..., None] if other is None else np.moveaxis(array, other, -1)
    shape = checked_shape(array.shape, path.name)
    if is_one_frame(shape, choice, path.name, _MEND_TIME if _is_time(header, other) else None):
        array = array[..., [choice.frame]]
    try:
        affine, notes = _placed(header, other, path.name)
    except VolumeError:
        raise
    except (LookupError, TypeError, ValueError) as error:
        raise VolumeError(
            f"{path.name}: its directions are not those of 3 axes ({reason(error)}); correct them"
        ) from error
    return Volume(native(np.moveaxis(array, -1, 0)), affine, volume_name(path), notes=notes)


def _check_claim(path: Path, header: Mapping[str, Any]) -> None:
    """Refuse voxels that cannot be there, or that lie in another folder."""
    file = header.get("data file", header.get("datafile"))
    if file is not None and (Path(str(file)).name != str(file) or str(file) in (".", "..")):
        raise VolumeError(f"{path.name}: data file {str(file)!r}: must be a file beside it")
    voxels = path if file is None else path.with_name(str(file))
    if not voxels.is_file():
        raise VolumeError(f"{path.name}: {voxels.name} is not beside it; add it")
    claimed = math.prod(int(n) for n in header["sizes"])
    problem = false_claim(voxels, claimed)
    if problem:
        raise VolumeError(f"{path.name}: {problem}")


def _other_axis(header: Mapping[str, Any], ndim: int, name: str) -> int | None:
    """Return the axis of a 4-D file that is not one of space."""
    if ndim < 4:
        return None
    checked_shape(header["sizes"], name)
    kinds = header.get("kinds", [])
    directions = header.get("space directions")
    if directions is not None:
        others = [n for n, row in enumerate(directions) if row is None or np.isnan(row).any()]
    else:
        others = [n for n, kind in enumerate(kinds) if kind.lower() not in _SPATIAL_KINDS]
    if len(others) != 1:
        raise VolumeError(
            f"{name}: does not say which one of its 4 axes is not of space; "
            "give it the kind list, or convert it to .nii.gz"
        )
    return others[0]


def _is_time(header: Mapping[str, Any], other: int | None) -> bool:
    if other is None:
        return False
    kind, unit = (dict(enumerate(header.get(field, []))) for field in ("kinds", "units"))
    return (
        str(kind.get(other, "")).lower() == "time"
        or str(unit.get(other, "")).lower() in _TIME_UNITS
    )


def _placed(
    header: Mapping[str, Any], other: int | None, name: str
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the affine, voxels to RAS mm, and what to tell about it."""
    spatial = [axis for axis in range(3 if other is None else 4) if axis != other]
    affine = np.eye(4)
    directions = header.get("space directions")
    if directions is None:
        spacings = header.get("spacings", np.ones(len(spatial) + 1))
        affine[:3, :3] = np.diag([spacings[axis] for axis in spatial])
    else:
        affine[:3, :3] = np.array([directions[axis] for axis in spatial], dtype=np.float64).T
    affine[:3, 3] = header.get("space origin", np.zeros(3))
    units = header.get("space units", ["mm"] * 3)
    affine[:3] *= np.array([_MM_PER_UNIT.get(str(unit).lower(), 1.0) for unit in units])[:, None]
    signs = _TO_RAS.get(str(header.get("space", "")).lower())
    if directions is None or signs is None:
        check_affine(affine, name)
        return affine, (NOTE_NO_ORIENTATION,)
    affine[:3] *= np.array(signs)[:, None]
    check_affine(affine, name)
    return affine, ()
