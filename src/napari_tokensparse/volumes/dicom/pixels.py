"""The voxels of slices in order, decoded by pydicom and scaled as each slice says."""

from __future__ import annotations

import shlex
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokensparse.common.extras import lacking
from napari_tokensparse.volumes.formats import native, reason
from napari_tokensparse.volumes.volume import VolumeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokensparse.volumes.dicom.slices import Slice


def read_pixels(ordered: Sequence[Slice], name: str, pydicom: Any) -> NDArray[Any]:
    """Read slices that make one volume.

    Parameters
    ----------
    ordered
        The slices, in order.
    name
        What to call the volume in an error.
    pydicom
        The module (`napari_tokensparse.volumes.dicom.folder.quiet_pydicom`).

    Returns
    -------
    NDArray
        Shape (i, j, k), i along a row, as stored; float32 where a slice states a scaling.

    Raises
    ------
    VolumeError
        In one line: a file is damaged, is compressed by what no installed codec decodes, or is in
        colour.
    """
    voxels: NDArray[Any] | None = None
    for n, frame in enumerate(_frames(ordered, pydicom)):
        if frame.shape != ordered[n].shape:
            raise VolumeError(f"{name}: is in colour; give a series with one number per voxel")
        if voxels is None:
            voxels = np.empty((len(ordered), *frame.shape), frame.dtype)
        elif frame.dtype != voxels.dtype:
            voxels = voxels.astype(np.result_type(voxels, frame))
        voxels[n] = frame
    assert voxels is not None  # two slices at least make a volume
    return _rescaled(native(voxels), ordered).transpose(2, 1, 0)


def _frames(ordered: Sequence[Slice], pydicom: Any) -> Iterator[NDArray[Any]]:
    """Yield the pixels of each slice, (row, column); a file is opened once for all in a row."""
    for path, slices in groupby(ordered, lambda one: one.path):
        try:
            data = pydicom.dcmread(path, force=True)
            _check_codec(data, path, pydicom)
            for one in slices:
                yield (
                    data.pixel_array
                    if one.frames == 1
                    else pydicom.pixels.pixel_array(data, index=one.index)
                )
        except VolumeError:
            raise
        except Exception as error:  # each codec has errors of its own
            raise VolumeError(
                f"{path.name}: its pixels cannot be read ({reason(error)}); copy it again, or "
                "decompress it"
            ) from None


def _check_codec(data: Any, path: Path, pydicom: Any) -> None:
    """Refuse a way of compression that nothing installed decodes, by its name.

    A file without its own description does not say how it is written: as it was read, then.
    """
    meta = data.file_meta
    if "TransferSyntaxUID" not in meta:
        explicit, little = data.original_encoding[0] is False, data.original_encoding[1]
        uid = pydicom.uid
        plain = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
        meta.TransferSyntaxUID = plain if explicit else uid.ImplicitVRLittleEndian
    way = meta.TransferSyntaxUID
    try:
        decoder = pydicom.pixels.get_decoder(way)
    except NotImplementedError:
        raise VolumeError(
            f"{path.name}: its pixels are compressed as {way.name}, which nothing decodes here; "
            "decompress it"
        ) from None
    if not decoder.is_available:
        purpose = f"reading pixels compressed as {way.name}"
        raise VolumeError(
            f"{path.name}: {_how_to_decode(purpose, decoder.missing_dependencies)}, or decompress it"
        )


def _how_to_decode(purpose: str, plugins: Sequence[str]) -> str:
    """Say which packages decode, of the lines in which pydicom lists those it could use."""
    if any(plugin.startswith("gdcm") for plugin in plugins):
        return lacking(purpose, "python-gdcm", "dicom")
    packages = plugins[0].partition("requires ")[2].split(" and ")
    return f"{purpose} needs {' and '.join(packages)}: pip install {shlex.join(packages)}"


def _rescaled(voxels: NDArray[Any], ordered: Sequence[Slice]) -> NDArray[Any]:
    """Apply each slice's slope and intercept: in float32, half of what doubles take."""
    slopes, intercepts = np.array([one.scaling for one in ordered], dtype=np.float32).T
    if (slopes == 1.0).all() and (intercepts == 0.0).all():
        return voxels
    scaled = voxels.astype(np.float32)
    scaled *= slopes[:, None, None]
    scaled += intercepts[:, None, None]
    return scaled
