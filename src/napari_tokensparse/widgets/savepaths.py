"""Where what is saved of a scan goes by default: beside it, and called after it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from napari_tokensparse.volumes.samples import sample_path

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_tokensparse.widgets.results import Results

_PLUGIN = "napari-tokensparse"


def layer_file(layer: Image) -> Path | None:
    """Return the file that our own reader read a layer from; None of any other layer."""
    source = layer.source
    if source.sample is not None and source.sample[0] == _PLUGIN:
        return sample_path()
    ours = source.path is not None and source.reader_plugin == _PLUGIN
    return Path(str(source.path)) if ours else None


def labels_path(name: str, file: Path | None) -> Path:
    """Return where labels go by default: ``<scan>_labels.nii.gz`` beside the scan.

    Of a DICOM series that is beside its folder, called after the layer; of a layer of no file, and
    of the sample, in the person's own folder.

    Parameters
    ----------
    name
        Of the layer.
    file
        It was read from.
    """
    return path_beside(name, file, "labels.nii.gz")


def path_beside(name: str, file: Path | None, ending: str) -> Path:
    """Return where something of a scan goes by default: ``<scan>_<ending>``, as for `labels_path`.

    Examples
    --------
    >>> path_beside("a scan", None, "curve.png").name
    'a_scan_curve.png'
    """
    from napari_tokensparse.outputs.writing import output_stem

    stem = re.sub(r"[^\w.+-]+", "_", name)
    folder = Path.home()
    if file is not None and file != sample_path() and os.access(file.parent, os.W_OK):
        folder = file.parent
        stem = stem if file.is_dir() else output_stem(file)
    return folder / f"{stem}_{ending}"


def suggested_path(image: Image | None, ending: str) -> Path:
    """Return `path_beside` the file that an image layer was read from; None is no image yet."""
    if image is None:
        return Path.home() / ending
    return path_beside(str(image.name), layer_file(image), ending)


def suggested_file(results: Results, ending: str) -> Path:
    """Return `suggested_path` of the image of the latest result."""
    return suggested_path(None if results.latest is None else results.latest.image, ending)
