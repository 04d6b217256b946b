"""Pins as a person gives them before a run, by masks: which tokens of that run lie under them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_tokensparse.segmenting.pins import tokens_under, written
from napari_tokensparse.segmenting.result import SegmentError
from napari_tokensparse.segmenting.stripping import brain_of
from napari_tokensparse.segmenting.windowing import windowed
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.turning import turned_like

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.segmenting.options import Options
    from napari_tokensparse.segmenting.tokenmaps import TokenPlaces
    from napari_tokensparse.volumes.volume import Volume

_LIST = re.compile(r"[\d,\s-]+")


def places_of(
    volume: Volume, model: SCD, overlap: float | None = None, strip: bool | None = None
) -> TokenPlaces:
    """Return where the voxels of a volume lie on the token grid of a run, before it.

    Parameters are those of `pins_under`: a head that is stripped lies on the grid of its brain.
    """
    info = model.info
    seen = brain_of(volume, model) if info.strips(strip) else volume
    laid = windowed(seen, model.config, info, info.overlap if overlap is None else overlap)
    return laid.places(volume.shape)


def pins_under(
    mask: NDArray[np.generic],
    volume: Volume,
    model: SCD,
    overlap: float | None = None,
    strip: bool | None = None,
) -> str | None:
    """Write the numbers of the tokens that hold a voxel of a mask, before a run.

    Parameters
    ----------
    mask
        ``(i, j, k)`` on the volume's grid; what is not 0 is inside.
    volume, model
        What is to be segmented, and by what.
    overlap
        Of the windows of that run; the model's if not given.
    strip
        Whether that run takes the skull off a head first; as the model says if not given.

    Returns
    -------
    str or None
        For ``pin`` or ``drop`` of `segment`; None if the mask is empty.

    Raises
    ------
    SegmentError
        The mask has another shape than the volume.
    """
    return written(tokens_under(mask, places_of(volume, model, overlap, strip)))


def mask_file(text: str | None) -> Path | None:
    """Return the file of a mask that pins are given by; None for numbers of tokens, or nothing."""
    return None if text is None or _LIST.fullmatch(text) else Path(text)


def read_pins(text: str, volume: Volume, model: SCD, options: Options) -> str | None:
    """Read pins of a run as a person gives them: numbers of tokens, or the file of a mask.

    Raises
    ------
    SegmentError, VolumeError
        In one line: the mask cannot be read, or lies on another grid than the scan.
    """
    file = mask_file(text)
    if file is None:
        return text
    mask = turned_like(read_volume(file), volume)
    if mask.shape != volume.shape or not np.allclose(mask.affine, volume.affine, atol=1e-3):
        raise SegmentError(
            f"{mask.name}: pins must lie on the grid of {volume.name}; resample it to that"
        )
    return pins_under(mask.array[0], volume, model, options.overlap, options.strip)
