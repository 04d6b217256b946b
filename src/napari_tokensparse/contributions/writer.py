"""The npe2 writers: a layer back to a file, in the file's own voxel order and place."""

from __future__ import annotations

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
    try:
        finest = data[0] if meta.get("multiscale") else data
        volume, _ = layer_volume(finest, meta, finite=False)
        written = [write_volume(path, volume.array[0], volume, labels=labels, info=info)]
    except ValueError as error:
        raise OSError(str(error)) from error
    if info is not None and not path.lower().endswith(SEG_SUFFIX):
        written += write_class_files(written[0], info)
    return list(map(str, written))


def _model(meta: Mapping[str, Any]) -> ModelInfo | None:
    """Return what a layer's labels were made by, if it was a model."""
    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.volumes.placement import MODEL_KEY

    said = meta.get("metadata", {}).get(MODEL_KEY)
    return None if said is None else ModelInfo.model_validate(said)
