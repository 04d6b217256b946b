"""Masks of overlapping regions in files, one for each, called after the region."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from napari_tokensparse.segmenting.result import SegmentError
from napari_tokensparse.volumes.volume import write_nifti

if TYPE_CHECKING:
    from pathlib import Path

    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.segmenting.result import Segmentation
    from napari_tokensparse.volumes.volume import Volume


def check_regions(info: ModelInfo) -> None:
    """Refuse a model without regions, before a run rather than after it.

    Raises
    ------
    SegmentError
        The model's classes exclude one another.
    """
    if info.exclusive:
        raise SegmentError(
            f"regions: the classes of model {info.name} exclude one another, so there are no "
            "masks beside the labels; leave --regions out"
        )


def region_file_names(info: ModelInfo) -> tuple[str, ...]:
    """Return a file name for each region: its name in small letters, words joined by ``-``.

    Where two come out alike, or one is empty, every name ends in its region's label value.

    Examples
    --------
    For classes "Whole tumour" and "TC": ``("whole-tumour.nii.gz", "tc.nii.gz")``.
    """
    stems = ["-".join(re.findall(r"\w+", c.name.lower())) for c in info.classes]
    if len(set(stems)) < len(stems) or not all(stems):
        stems = [
            f"{stem or 'region'}-{c.value}" for stem, c in zip(stems, info.classes, strict=True)
        ]
    return tuple(f"{stem}.nii.gz" for stem in stems)


def write_regions(folder: Path, result: Segmentation, like: Volume, info: ModelInfo) -> list[Path]:
    """Write one mask per region, 1 inside and 0 outside, on the input's own grid.

    Parameters
    ----------
    folder
        Made if it is not there.
    result
        Of a model with overlapping regions.
    like
        What was segmented.
    info
        Of the model, which names the regions.

    Returns
    -------
    list of Path
        The files written, as the model lists its regions.

    Raises
    ------
    SegmentError
        The model's classes exclude one another.
    VolumeError, OSError
        A file cannot be written.
    """
    check_regions(info)
    assert result.regions is not None  # or its classes would exclude one another
    folder.mkdir(parents=True, exist_ok=True)
    return [
        write_nifti(folder / name, mask.view(np.uint8), like)
        for name, mask in zip(region_file_names(info), result.regions, strict=True)
    ]
