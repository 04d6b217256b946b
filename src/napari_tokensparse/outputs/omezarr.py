"""Labels as an OME-Zarr image of their own, or in the labels of the image that they are of."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokensparse.volumes.formats import reason
from napari_tokensparse.volumes.omezarr import INSTALL, ORIENTATIONS, SHOWN, orientation_of
from napari_tokensparse.volumes.placement import placement_of
from napari_tokensparse.volumes.reading import is_zarr
from napari_tokensparse.volumes.volume import ZARR_SUFFIX, VolumeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_tokensparse.model.info import LabelClass, ModelInfo
    from napari_tokensparse.volumes.volume import Volume

_CHUNK = 128  # voxels along each axis
_SMALLEST = 64  # a level is halved while one of its axes is longer


def is_zarr_output(path: Path) -> bool:
    """Whether a path names OME-Zarr: ``out.ome.zarr``, or ``IMAGE.zarr/labels/NAME``."""
    return path.name.lower().endswith(ZARR_SUFFIX) or image_of(path) is not None


def check_omezarr(path: Path, like: Volume | None) -> None:
    """Refuse where no OME-Zarr could be written, before a run rather than after it.

    Raises
    ------
    VolumeError
        Something is there, there is no such folder, zarr is missing, or the volume is oblique.
    """
    try:
        import dask.array  # noqa: F401  # to read them again
        import zarr  # noqa: F401
    except ImportError:
        raise VolumeError(f"{path.name}: {INSTALL}") from None
    if is_zarr(path) and not path.parent.name == "labels":
        raise VolumeError(
            f"{path}: is there already and is not replaced; name another, or for labels within an "
            f"image {path}/labels/NAME"
        )
    if path.exists():
        raise VolumeError(f"{path}: is there already and is not replaced; name another")
    folder = path.parent if image_of(path) is None else path.parents[1]
    if not folder.is_dir():
        raise VolumeError(f"{folder}: no such folder; create it first")
    if not os.access(folder, os.W_OK):
        raise VolumeError(f"{folder}: may not be written to; choose another folder")
    if like is not None and placement_of(like.affine, like.shape).is_oblique:
        raise VolumeError(
            f"{path.name}: {like.name} lies oblique, which OME-Zarr cannot state; name a .nii.gz "
            "file"
        )


def write_omezarr(path: Path, labels: NDArray[Any], like: Volume, info: ModelInfo | None) -> Path:
    """Write labels as a multiscale image (z, y, x) in mm, with names and colours of the classes.

    Axes are turned, without interpolation, to run up, to the back and to the left, as napari shows
    them, or within an image as that one's do; which way it is, the file says as RFC-4 has it.
    Coarser levels are every second voxel of the one before. A file of its own is OME-NGFF 0.4;
    within an image it has the version of that image, whose list of labels it joins.

    Parameters
    ----------
    path
        ``out.ome.zarr`` or ``IMAGE.zarr/labels/NAME``; must not be there.
    labels
        Shape (i, j, k), integers.
    like
        Whose grid it is.
    info
        The classes; without, there are no names and colours.

    Raises
    ------
    VolumeError
        As `check_omezarr`, or it cannot be written; nothing is left of it.
    """
    check_omezarr(path, like)
    image = image_of(path)
    version = 2 if image is None else _zarr_version(image)
    runs = SHOWN if image is None else orientation_of(image)
    shown, scale, origin = _turned(labels, like, runs)
    attributes = _attributes(path, (runs, scale, origin), shown.shape, info)
    if image is not None:
        attributes["image-label"]["source"] = {"image": "../../"}
        path.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=path.parent) as made:
        folder = Path(made) / path.name
        _write_levels(folder, shown.astype(_smallest_type(shown)), attributes, version)
        os.rename(folder, path)
    if image is not None:
        _join(path, version)
    return path


def image_of(path: Path) -> Path | None:
    """Return the image whose group of labels a path lies in."""
    parents = path.parents
    if len(parents) > 1 and path.parent.name == "labels" and is_zarr(parents[1]):
        return parents[1]
    return None


def _zarr_version(image: Path) -> int:
    return 3 if (image / "zarr.json").is_file() else 2


def _smallest_type(labels: NDArray[Any]) -> np.dtype[Any]:
    return np.min_scalar_type(int(labels.max(initial=0)))


def _level_count(shape: Sequence[int]) -> int:
    count = 1
    while max(shape) > _SMALLEST * 2 ** (count - 1) and min(shape) >= 2**count:
        count += 1
    return count


def _turned(
    labels: NDArray[Any], like: Volume, runs: Sequence[str]
) -> tuple[NDArray[Any], list[float], list[float]]:
    """Turn labels so that their axes (z, y, x) run as is said; also voxel sizes and origin, mm."""
    from nibabel.orientations import (
        apply_orientation,
        axcodes2ornt,
        inv_ornt_aff,
        io_orientation,
        ornt_transform,
    )

    along = [ORIENTATIONS[run] for run in reversed(runs)]  # of x, y, z
    codes = tuple(("LPI", "RAS")[way > 0][world] for world, way in along)
    turns = ornt_transform(io_orientation(like.affine), axcodes2ornt(codes))
    affine = like.affine @ inv_ornt_aff(turns, labels.shape)
    scale = np.linalg.norm(affine[:3, :3], axis=0)[::-1].tolist()
    origin = [way * float(affine[world, 3]) for world, way in reversed(along)]
    return np.ascontiguousarray(apply_orientation(labels, turns).T), scale, origin


def _attributes(
    path: Path,
    place: tuple[Sequence[str], Sequence[float], Sequence[float]],
    shape: Sequence[int],
    info: ModelInfo | None,
) -> dict[str, Any]:
    runs, scale, origin = place
    axes = [
        {
            "name": name,
            "type": "space",
            "unit": "millimeter",
            "orientation": {"type": "anatomical", "value": run},
        }
        for name, run in zip("zyx", runs, strict=True)
    ]
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": [side * 2**level for side in scale]},
                {"type": "translation", "translation": list(origin)},
            ],
        }
        for level in range(_level_count(shape))
    ]
    name = path.name[: -len(ZARR_SUFFIX)] if path.name.endswith(ZARR_SUFFIX) else path.name
    classes = () if info is None else sorted(info.classes, key=lambda c: c.value)
    return {
        "multiscales": [{"name": name, "axes": axes, "datasets": datasets}],
        "image-label": _image_label(classes),
    }


def _image_label(classes: Sequence[LabelClass]) -> dict[str, Any]:
    if not classes:
        return {}
    return {
        "colors": [{"label-value": c.value, "rgba": [*c.color, 255]} for c in classes],
        "properties": [{"label-value": c.value, "name": c.name} for c in classes],
    }


def _write_levels(
    folder: Path, shown: NDArray[Any], attributes: dict[str, Any], version: int
) -> None:
    import zarr

    try:
        group = zarr.open_group(folder, mode="w-", zarr_format=3 if version == 3 else 2)
        for one in attributes["multiscales"][0]["datasets"]:
            step = 2 ** int(one["path"])
            level = np.ascontiguousarray(shown[::step, ::step, ::step])
            named: dict[str, Any] = {"dimension_names": tuple("zyx")} if version == 3 else {}
            array = group.create_array(
                one["path"],
                shape=level.shape,
                dtype=level.dtype,
                chunks=tuple(min(side, _CHUNK) for side in level.shape),
                fill_value=0,
                chunk_key_encoding={"name": "default" if version == 3 else "v2", "separator": "/"},
                **named,
            )
            array[:] = level
        group.attrs.update(_versioned(attributes, version))
    except (OSError, ValueError) as error:
        raise VolumeError(f"{folder.name}: cannot be written ({reason(error)})") from error


def _versioned(attributes: dict[str, Any], version: int) -> dict[str, Any]:
    """Put attributes where OME-NGFF 0.5, or 0.4, has them."""
    if version == 3:
        return {"ome": {"version": "0.5", **attributes}}
    multiscale = {"version": "0.4", **attributes["multiscales"][0]}
    label = {"version": "0.4", **attributes["image-label"]}
    return {"multiscales": [multiscale], "image-label": label}


def _join(path: Path, version: int) -> None:
    """Add a name to the list of an image's labels; what else it says stays."""
    import zarr

    group = zarr.open_group(path.parent, mode="a", zarr_format=3 if version == 3 else 2)
    said: dict[str, Any] = dict(group.attrs)
    if version == 3:
        ome = {"version": "0.5", **said.get("ome", {})}
        group.attrs["ome"] = {**ome, "labels": [*ome.get("labels", []), path.name]}
    else:
        group.attrs["labels"] = [*said.get("labels", []), path.name]
