"""The npe2 writers: a layer back to a file, in the file's own voxel order and place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_tokensparse.model.info import ModelInfo


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
    from napari_tokensparse.widgets.layervolumes import layer_volume

    info = _model(meta) if labels else None
    legend = info is not None and not path.lower().endswith(SEG_SUFFIX)
    try:
        if info is not None and legend:
            _check_class_files(Path(path), info)
        finest = data[0] if meta.get("multiscale") else data
        volume, _ = layer_volume(finest, meta, finite=False)
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
