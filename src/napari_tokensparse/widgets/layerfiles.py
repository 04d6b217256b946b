"""Layers to files: what napari's own dialog and the widgets write them with, and where to.

Every dialog of ours that asks for a file is `ask_for_file`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_tokensparse.volumes.placement import MODEL_KEY
from napari_tokensparse.volumes.samples import SAMPLE_KEY, sample_path
from napari_tokensparse.widgets.layervolumes import layer_volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from napari.layers import Layer
    from qtpy.QtWidgets import QWidget

    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.widgets.results import Results

DEFAULT_SUFFIX = ".nii.gz"
_PLUGIN = "napari-tokensparse"
_ENDING = re.compile(r"\*(\.[\w.]+)")
_DOUBLED = re.compile(r"\.nii\.(nrrd|dcm|zarr|ome\.zarr)$", re.IGNORECASE)


def write_layer(
    path: str | Path,
    data: Any,
    meta: Mapping[str, Any],
    *,
    labels: bool,
    scans: Iterable[Path] = (),
    replace: bool = False,
) -> list[Path]:
    """Write a layer in the format that the file's name says, ``.nii.gz`` where it says none.

    Parameters
    ----------
    path
        The file.
    data
        Shape (z, y, x); of a multiscale layer, all levels.
    meta
        The layer's attributes.
    labels
        Whether they are labels. Of those that a model made, names and colours are written beside.
    scans
        Files of the scans that are open, which are never written over.
    replace
        Whether files of names and colours that are not as we wrote them are replaced too.

    Returns
    -------
    list of Path
        The files written, the layer's first.

    Raises
    ------
    OSError
        In one line: the layer is not 3-D, the file is a scan or cannot be written. (napari would
        swallow a ValueError.)
    """
    from napari_tokensparse.common.ownership import check_apart, check_free
    from napari_tokensparse.outputs.classfiles import write_class_files
    from napari_tokensparse.outputs.omezarr import is_zarr_output
    from napari_tokensparse.outputs.writing import SEG_SUFFIX, write_volume

    named, path = Path(path), with_suffix(Path(path))
    info = model_of(meta) if labels else None
    holds_them = path.name.lower().endswith(SEG_SUFFIX) or is_zarr_output(path)
    legend = info is not None and not holds_them
    try:
        check_apart([path], scans)
        if path != named and not replace:  # the dialog asked of the name without a suffix
            check_free([path], (), mend="give it whole, with its suffix")
        if info is not None and legend and not replace:
            _check_class_files(path, info)
        finest = data[0] if meta.get("multiscale") else data
        volume, _ = layer_volume(finest, meta, finite=False)
        written = [write_volume(path, volume.array[0], volume, labels=labels, info=info)]
    except ValueError as error:
        raise OSError(str(error)) from error
    if info is not None and legend:
        written += write_class_files(written[0], info)
    return written


def ask_for_file(
    parent: QWidget,
    title: str,
    suggested: Path,
    lines: Sequence[str],
    said: Callable[[str], None] = lambda _: None,
) -> tuple[Path, str] | None:
    """Ask where to save something, and in which format.

    A name without an ending gets that of the line that was chosen; and where another line is
    chosen Qt turns ``a.nii.gz`` into ``a.nii.nrrd``: that is ``a.nrrd``. A file that the dialog
    could not ask about is replaced only if a person says so.

    Parameters
    ----------
    parent, title
        Of the dialog.
    suggested
        The file that it opens with.
    lines
        Formats, such as ``Table (*.csv)``; the first ending of each counts.
    said
        Takes a line where a file was not replaced.

    Returns
    -------
    tuple of Path and str, or None
        The file and the chosen line; None where the person went back.
    """
    text, line = QFileDialog.getSaveFileName(parent, title, str(suggested), ";;".join(lines))
    if not text:
        return None
    line = line or lines[0]
    ending = _ENDING.search(line)
    assert ending is not None  # each line has one
    given, own = Path(text), ending[1]

    def single(doubled: re.Match[str]) -> str:
        return own if own.endswith(doubled[1].lower()) else f".{doubled[1]}"

    path = with_suffix(given.with_name(_DOUBLED.sub(single, given.name)), own)
    there = path != given and path.exists()
    if there and not may_replace(parent, {path: "the name that was given, with its format"}, said):
        return None
    return path, line


def may_replace(parent: QWidget, there: Mapping[Path, str], said: Callable[[str], None]) -> bool:
    """Ask before files are replaced that no dialog asked about.

    Parameters
    ----------
    parent
        Of the dialog.
    there
        The files, and what each is; where there are none nothing is asked.
    said
        Takes a line where they stay.
    """
    if not there:
        return True
    lines = "\n".join(f"{path.name}: {what}" for path, what in there.items())
    buttons = QMessageBox.StandardButton
    answer = QMessageBox.question(
        parent,
        "Replace files?",
        f"There already:\n\n{lines}\n\nReplace {'them' if len(there) > 1 else 'it'}?",
        buttons.Yes | buttons.No,
        buttons.No,
    )
    if answer != buttons.Yes:
        said(f"Not saved: {next(iter(there)).name} is there already; choose another name.")
    return bool(answer == buttons.Yes)


def with_suffix(path: Path, suffix: str = DEFAULT_SUFFIX) -> Path:
    """Return a path whose name says a format: this one where it says none.

    Examples
    --------
    >>> [with_suffix(Path(name)).name for name in ("a.nrrd", "a labels", "a keep 0.25")]
    ['a.nrrd', 'a labels.nii.gz', 'a keep 0.25.nii.gz']
    """
    says_one = path.suffix[1:2].isalpha()
    return path if says_one else path.with_name(path.name + suffix)


def open_scans(layers: Iterable[Layer]) -> list[Path]:
    """Return the files and folders that image layers were read from, by whatever reader."""
    paths = [layer.source.path for layer in layers if isinstance(layer, Image)]
    return [Path(str(path)) for path in paths if path]


def model_of(meta: Mapping[str, Any]) -> ModelInfo | None:
    """Return what a layer's labels were made by, if it was a model."""
    from napari_tokensparse.model.info import ModelInfo

    said = meta.get("metadata", {}).get(MODEL_KEY)
    return None if said is None else ModelInfo.model_validate(said)


def _check_class_files(path: Path, info: ModelInfo) -> None:
    """Refuse where other files have the names of those beside the labels: nobody asked for them."""
    from tempfile import TemporaryDirectory

    from napari_tokensparse.common.files import file_sha256
    from napari_tokensparse.common.ownership import check_free
    from napari_tokensparse.outputs.classfiles import class_files, write_class_files

    with TemporaryDirectory() as made:
        ours = {file_sha256(file) for file in write_class_files(Path(made) / path.name, info)}
    check_free(class_files(path), ours, mend="move it away")


def layer_file(layer: Image) -> Path | None:
    """Return the file that our own reader read a layer from; None of any other layer."""
    source = layer.source
    if source.sample is not None:
        return sample_path() if source.sample == (_PLUGIN, SAMPLE_KEY) else None
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
