"""The npe2 writers: a layer back to a file, in the file's own voxel order and place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


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
        The file; ``.nii.gz`` is added to a name without a suffix.
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
        In one line: the layer is not 3-D, or the file is an open scan or cannot be written.
    """
    return _write(path, data, meta, labels=True)


def write_image(path: str, data: Any, meta: Mapping[str, Any]) -> list[str]:
    """Write an image layer; as `write_labels`, but integers keep their type, floats are float32."""
    return _write(path, data, meta, labels=False)


def _write(path: str, data: Any, meta: Mapping[str, Any], *, labels: bool) -> list[str]:
    from napari import current_viewer

    from napari_tokensparse.widgets.layerfiles import open_scans, write_layer

    viewer = current_viewer()
    scans = [] if viewer is None else open_scans(viewer.layers)
    return list(map(str, write_layer(path, data, meta, labels=labels, scans=scans)))
