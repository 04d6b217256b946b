"""OME-Zarr images in, 0.4 (zarr v2) and 0.5 (zarr v3), through zarr and dask.

An image is a pyramid: the same scan at several voxel sizes. One level of it is read, block by
block, as it is asked for. OME-NGFF (https://ngff.openmicroscopy.org/0.5) states voxel sizes and
units. Which way the axes run in the patient some files state as its RFC-4 has it (``orientation``);
of others x is taken to run to the left, y to the back and z up, with a note.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokensparse.common.extras import lacking
from napari_tokensparse.volumes.formats import checked_shape, is_one_frame, native, reason
from napari_tokensparse.volumes.volume import (
    NOTE_NO_ORIENTATION,
    Volume,
    VolumeError,
    volume_name,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokensparse.volumes.formats import Choice

INSTALL = lacking("OME-Zarr", "zarr and dask", "zarr")
NOTE_NO_UNIT = "the file states no unit of its voxel sizes: millimetres are assumed"
_MM = {
    **{"angstrom": 1e-7, "nanometer": 1e-6, "micrometer": 1e-3, "millimeter": 1.0},
    **{"centimeter": 10.0, "decimeter": 100.0, "meter": 1000.0, "inch": 25.4, "foot": 304.8},
}
_MEND_TIME = ""
ORIENTATIONS = {
    **{"left-to-right": (0, 1), "right-to-left": (0, -1)},
    **{"posterior-to-anterior": (1, 1), "anterior-to-posterior": (1, -1)},
    **{"inferior-to-superior": (2, 1), "superior-to-inferior": (2, -1)},
}
"""RFC-4's words for where an axis leads: which one of RAS it is, and whether it runs its way."""
SHOWN = ("inferior-to-superior", "anterior-to-posterior", "right-to-left")
"""How (z, y, x) are taken to run where nothing is stated, and as napari shows them."""
_SPACE = ("z", "y", "x")


@dataclass(frozen=True)
class _Level:
    """One level: where its array lies, and its voxels along (z, y, x) in mm."""

    path: str
    spacing: tuple[float, ...]
    origin: tuple[float, ...]


@dataclass(frozen=True)
class _Image:
    """What the metadata of a multiscale image say."""

    axes: tuple[str, ...]
    runs: tuple[str, ...]  # how (z, y, x) do, as one of ORIENTATIONS
    levels: tuple[_Level, ...]
    channels: tuple[str, ...]
    notes: tuple[str, ...]


def read_omezarr(path: Path, choice: Choice) -> Volume:
    """Read the level of an OME-Zarr image that is nearest to ``choice.spacing``, or the finest.

    Raises
    ------
    VolumeError
        In one line: it is no OME-Zarr image of a volume, a unit is unknown, or zarr is missing.
    """
    if choice.series is not None:
        raise VolumeError(
            f"{path.name}: series {choice.series}: only a DICOM folder has a choice of series"
        )
    group, image = _opened(path)
    at = nearest_level([level.spacing for level in image.levels], choice.spacing)
    volume = _volume(group, image, at, path, choice)
    if len(image.levels) == 1:
        return volume
    size = " × ".join(f"{mm:g}" for mm in volume.spacing)
    note = f"level {at + 1} of {len(image.levels)} of the pyramid was read ({size} mm)"
    return Volume(**{**vars(volume), "notes": (*volume.notes, note)})


def read_levels(path: Path, *, time_is_channels: bool = False) -> list[Volume]:
    """Read every level of an OME-Zarr image, the finest first; see `read_omezarr`."""
    from napari_tokensparse.volumes.formats import Choice

    group, image = _opened(path)
    choice = Choice(time_is_channels=time_is_channels)
    return [_volume(group, image, at, path, choice) for at in range(len(image.levels))]


def holds_image(path: Path) -> bool:
    """Say quickly whether a folder says that it is a multiscale image."""
    return _says(path, b'"multiscales"')


def holds_labels(path: Path) -> bool:
    """Say quickly whether a folder says that its image is one of labels."""
    return _says(path, b'"image-label"')


def _says(path: Path, key: bytes) -> bool:
    files = [path / name for name in (".zattrs", "zarr.json") if (path / name).is_file()]
    return any(key in file.read_bytes()[: 2**20] for file in files)


def nearest_level(spacings: Sequence[Sequence[float]], wanted: Sequence[float] | None) -> int:
    """Return which level has the voxels nearest in size to those wanted; the finest if none are.

    Sizes are compared as ratios, axis by axis; of two equally near levels the finer one is taken.

    Examples
    --------
    >>> levels = [(1, 1, 1), (2, 2, 2), (4, 4, 4)]
    >>> nearest_level(levels, (3, 3, 3)), nearest_level(levels, None)
    (2, 0)
    """
    if wanted is None:
        return 0
    sides = tuple(wanted) * 3 if len(wanted) == 1 else tuple(wanted)
    # The model's axes are not the file's: their sizes are compared in order of size.
    off = [
        sum(abs(math.log(a / b)) for a, b in zip(sorted(one), sorted(sides), strict=True))
        for one in spacings
    ]
    return off.index(min(off))


def _opened(path: Path) -> tuple[Any, _Image]:
    try:
        import dask.array  # noqa: F401  # both, or neither is of use
        import zarr
    except ImportError:
        raise VolumeError(f"{path.name}: {INSTALL}") from None
    try:
        group = zarr.open_group(path, mode="r")
        attributes: dict[str, Any] = dict(group.attrs)
        said = attributes.get("ome", attributes)
        if "multiscales" not in said:
            raise VolumeError(
                f"{path.name}: is no OME-Zarr image (no multiscales); give the image's own folder, "
                f"for example {path.name}/0"
            )
        return group, _image(said, path.name)
    except VolumeError:
        raise
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise VolumeError(
            f"{path.name}: is not an OME-Zarr image that can be read ({reason(error)})"
        ) from error


def _image(said: Mapping[str, Any], name: str) -> _Image:
    multiscale = said["multiscales"][0]
    axes = [{"name": axis} if isinstance(axis, str) else dict(axis) for axis in multiscale["axes"]]
    names = tuple(str(axis["name"]).lower() for axis in axes)
    if names[-3:] != _SPACE or not set(names[:-3]) <= {"t", "c"}:
        raise VolumeError(f"{name}: has axes {', '.join(names)}; give a volume of t, c, z, y, x")
    units = [str(axis["unit"]).lower() for axis in axes[-3:] if axis.get("unit")]
    unknown = next((unit for unit in units if unit not in _MM), None)
    if unknown is not None:
        raise VolumeError(f"{name}: unit {unknown}: must be one of {', '.join(_MM)}")
    mm = [_MM[str(axis.get("unit") or "millimeter").lower()] for axis in axes[-3:]]
    levels = [_level(one, multiscale, len(names), mm, name) for one in multiscale["datasets"]]
    levels.sort(key=lambda level: math.prod(level.spacing))
    omero = said.get("omero") or {}
    channels = tuple(str(one.get("label", "")) for one in omero.get("channels", []))
    runs = _runs(axes[-3:])
    notes = ((NOTE_NO_ORIENTATION,) if runs is None else ()) + (NOTE_NO_UNIT,) * (len(units) < 3)
    return _Image(names, runs or SHOWN, tuple(levels), channels, notes)


def _runs(axes: Sequence[Mapping[str, Any]]) -> tuple[str, ...] | None:
    """Read which way (z, y, x) run; None where that is not stated of all three."""
    said = [axis.get("orientation", axis.get("anatomicalOrientation")) for axis in axes]
    values = [one.get("value") if isinstance(one, dict) else one for one in said]
    runs = tuple(value for value in values if isinstance(value, str) and value in ORIENTATIONS)
    return runs if len({ORIENTATIONS[value][0] for value in runs}) == 3 else None


def orientation_of(path: Path) -> tuple[str, ...]:
    """Return which way the axes (z, y, x) of an OME-Zarr image run, each as one of `ORIENTATIONS`.

    Raises
    ------
    VolumeError
        It is no OME-Zarr image.
    """
    return _opened(path)[1].runs


def _level(
    one: Mapping[str, Any], multiscale: Mapping[str, Any], ndim: int, mm: Sequence[float], name: str
) -> _Level:
    """Put a level's own transformations and those of all levels together."""
    scale, origin = np.ones(ndim), np.zeros(ndim)
    steps = [
        *one.get("coordinateTransformations", []),
        *multiscale.get("coordinateTransformations", []),
    ]
    for step in steps:
        if step["type"] == "scale":
            factor = np.array(step["scale"], dtype=np.float64)
            scale, origin = scale * factor, origin * factor
        elif step["type"] == "translation":
            origin = origin + np.array(step["translation"], dtype=np.float64)
        elif step["type"] != "identity":
            raise VolumeError(
                f"{name}: coordinate transformation {step['type']}: must be a scale or translation"
            )
    spacing, at = scale[-3:] * mm, origin[-3:] * mm
    if not (np.isfinite(spacing).all() and np.isfinite(at).all() and (spacing > 0).all()):
        raise VolumeError(f"{name}: voxel size {tuple(spacing.tolist())} mm: must be above 0")
    return _Level(str(one["path"]), tuple(spacing.tolist()), tuple(at.tolist()))


def _volume(group: Any, image: _Image, at: int, path: Path, choice: Choice) -> Volume:
    import dask.array as da

    level = image.levels[at]
    try:
        array = da.from_zarr(group[level.path])
    except (KeyError, ValueError, OSError, TypeError) as error:
        raise VolumeError(
            f"{path.name}: level {level.path} cannot be read ({reason(error)}); copy it again"
        ) from error
    if array.ndim != len(image.axes) or array.dtype.kind not in "iuf":
        raise VolumeError(
            f"{path.name}: level {level.path} is {array.ndim}-D {array.dtype}; its axes are "
            f"{', '.join(image.axes)}, and values must be real numbers"
        )
    array = _with_channels(array, image.axes, path.name, choice)
    affine = np.zeros((4, 4))
    affine[3, 3] = 1.0
    along = zip(reversed(image.runs), reversed(level.spacing), reversed(level.origin), strict=True)
    for axis, (run, mm, first) in enumerate(along):  # x, y, z
        world, way = ORIENTATIONS[run]
        affine[world, axis], affine[world, 3] = way * mm, way * first
    names = image.channels if len(image.channels) == len(array) and all(image.channels) else ()
    return Volume(native(array), affine, volume_name(path), channel_names=names, notes=image.notes)


def _with_channels(
    array: NDArray[Any], axes: Sequence[str], name: str, choice: Choice
) -> NDArray[Any]:
    """Return (C, x, y, z) of an array with axes (t, c, z, y, x); t and c may be missing."""
    if "t" in axes:
        first = axes.index("t")
        moved = np.moveaxis(array, first, -1)
        frames = moved.shape[-1]
        channels = array.shape[axes.index("c")] if "c" in axes else 1
        if choice.time_is_channels and choice.frame is None and channels == 1:
            checked_shape(array.shape[-3:], name)
            return array.reshape(frames, *array.shape[-3:]).transpose(0, 3, 2, 1)
        one_frame = is_one_frame((*moved.shape[-4:-1], frames), choice, name, _MEND_TIME)
        array = moved[..., choice.frame if one_frame and choice.frame is not None else 0]
    elif choice.frame is not None:
        raise VolumeError(f"{name}: frame {choice.frame}: it has no axis of time")
    if "c" not in axes:
        array = array[None]
    checked_shape(array.shape[1:], name)
    return array.transpose(0, 3, 2, 1)
