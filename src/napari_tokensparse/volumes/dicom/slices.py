"""One slice of a DICOM series, as its headers describe it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

Kind: TypeAlias = float | str | tuple[float | str, ...]
"""What a header says of the kind of an image: a number, a word, or several."""


@dataclass(frozen=True)
class Slice:
    """What the headers say of one slice, without its pixels.

    Attributes
    ----------
    path
        Its file.
    index
        Which frame of its file it is, from 0; 0 where the file holds one.
    series, number
        SeriesInstanceUID and SeriesNumber, empty and None where missing.
    acquisition
        AcquisitionNumber.
    modality
        For example ``MR``.
    shape
        Rows and columns.
    spacing
        PixelSpacing: of rows and of columns, mm.
    orientation
        ImageOrientationPatient: along a row and along a column, LPS.
    position
        ImagePositionPatient: centre of the first voxel, LPS mm.
    rounding
        Unit of the last digit that is written of each number of that position, mm: 0.01 for 7.25.
    frames
        How many its file holds.
    scaling
        RescaleSlope and RescaleIntercept; 1 and 0 where missing.
    image
        SOPInstanceUID, empty where missing.
    image_number
        InstanceNumber.
    among
        What may tell it from another image of its place, by name, for example ``echo time``.
    """

    path: Path
    index: int
    series: str
    number: int | None
    acquisition: int | None
    modality: str
    shape: tuple[int, int]
    spacing: tuple[float, ...]
    orientation: tuple[float, ...]
    position: tuple[float, ...]
    rounding: tuple[float, ...]
    frames: int
    scaling: tuple[float, float]
    image: str
    image_number: int | None
    among: Mapping[str, Kind]

    @property
    def is_placed(self) -> bool:
        """Whether the header says where the slice lies."""
        return not self.lacking

    @property
    def lacking(self) -> tuple[str, ...]:
        """What the header does not say of where the slice lies, by the names of its elements."""
        said = {
            "ImagePositionPatient": (self.position, 3),
            "ImageOrientationPatient": (self.orientation, 6),
            "PixelSpacing": (self.spacing, 2),
        }
        return tuple(name for name, (numbers, count) in said.items() if len(numbers) != count)

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector across the slice, LPS."""
        return np.cross(self.orientation[:3], self.orientation[3:])

    @property
    def along_mm(self) -> float:
        """Where the slice lies along its own normal."""
        return float(self.normal @ np.array(self.position))
