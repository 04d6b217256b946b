"""The npe2 writers: a layer back to a file, in the file's own voxel order and place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.volumes.volume import Volume


def write_labels(path: str, data: Any, meta: Mapping[str, Any]) -> list[str]:
    """Write a labels layer as ``.nii.gz``, ``.nii`` or ``.nrrd``, in the smallest integer type.

    Of labels that a model made, names and colours are written beside them. Those of a DICOM series
    can be written as DICOM SEG too, ``.dcm``.

    A layer that lies as our reader placed it goes back to its file's voxel order, affine and, as
    NIfTI, header. Any other is written as it is shown: axes (z, y, x) to the patient's head, back
    and left, turned and sheared as the layer is.

    Parameters
    ----------
    path
        The file.
    data
        Shape (z, y, x).
    meta
        The layer's attributes.

    Returns
    -------
    list of str
        The files written.

    Raises
    ------
    OSError
        In one line: the layer is not 3-D or the file cannot be written. (napari would swallow a
        ValueError.)
    """
    return _write(path, data, meta, labels=True)


def write_image(path: str, data: Any, meta: Mapping[str, Any]) -> list[str]:
    """Write an image layer; as `write_labels`, but integers keep their type, floats are float32."""
    return _write(path, data, meta, labels=False)


def _write(path: str, data: Any, meta: Mapping[str, Any], *, labels: bool) -> list[str]:
    from napari_tokensparse.outputs.classfiles import write_class_files
    from napari_tokensparse.outputs.writing import SEG_SUFFIX, write_volume

    info = _model(meta) if labels else None
    legend = info is not None and not path.lower().endswith(SEG_SUFFIX)
    try:
        if info is not None and legend:
            _check_class_files(Path(path), info)
        volume = layer_volume(data[0] if meta.get("multiscale") else data, meta)
        written = [write_volume(path, volume.array[0], volume, labels=labels, info=info)]
    except ValueError as error:
        raise OSError(str(error)) from error
    if info is not None and legend:
        written += write_class_files(written[0], info)
    return list(map(str, written))


def _check_class_files(path: Path, info: ModelInfo) -> None:
    """Refuse where other files have the names of those beside the labels: nobody asked for them."""
    from tempfile import TemporaryDirectory

    from napari_tokensparse.common.files import file_sha256
    from napari_tokensparse.common.ownership import check_free
    from napari_tokensparse.outputs.classfiles import class_files, write_class_files

    with TemporaryDirectory() as made:
        ours = {file_sha256(file) for file in write_class_files(Path(made) / path.name, info)}
    check_free(class_files(path), ours, mend="move it away")


def _model(meta: Mapping[str, Any]) -> ModelInfo | None:
    """Return what a layer's labels were made by, if it was a model."""
    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.volumes.placement import MODEL_KEY

    said = meta.get("metadata", {}).get(MODEL_KEY)
    return None if said is None else ModelInfo.model_validate(said)


def layer_volume(data: Any, meta: Mapping[str, Any]) -> Volume:
    """Turn a layer's data and attributes into a volume.

    Raises
    ------
    VolumeError
        The data are not a 3-D array of one number per voxel.
    """
    import numpy as np

    from napari_tokensparse.volumes.placement import volume_from_layer_data, volume_from_world
    from napari_tokensparse.volumes.volume import VolumeError

    name = meta["name"]
    if meta.get("rgb"):
        raise VolumeError(f"{name}: is a colour image; choose one with one number per voxel")
    world = _to_world(meta)
    ndim = len(world) - 1
    if ndim != 3:
        raise VolumeError(f"{name}: has {ndim} axes; choose a 3-D image, one channel")
    axes = world[:3, :3]
    scale, translate = axes.diagonal(), world[:3, 3]
    if np.array_equal(axes, np.diag(scale)) and (scale > 0).all():
        place, metadata = (scale.tolist(), translate.tolist()), meta.get("metadata", {})
        return volume_from_layer_data(data, *place, metadata, name, finite=False)[0]
    return volume_from_world(data, world, name)


def _to_world(meta: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the matrix from a layer's indices to the world, in mm where its units are lengths."""
    import numpy as np
    from napari.utils.transforms import Affine

    own = Affine(**{name: meta[name] for name in ("scale", "translate", "rotate", "shear")})
    world: NDArray[np.float64] = np.asarray(meta["affine"]) @ own.affine_matrix
    world[:-1] *= np.array([_mm(unit) for unit in meta["units"]])[:, None]
    return world


def _mm(unit: Any) -> float:
    """Return how many mm a unit is; 1 of one that is no length, such as a pixel."""
    from pint import DimensionalityError

    try:
        return float((1 * unit).to("mm").magnitude)
    except DimensionalityError:
        return 1.0
