"""What scans a model was made for: how they were taken, and what they show."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    low, high = pair
    if low >= high:
        raise ValueError(f"from {low:g} to {high:g}: the first must be the smaller")
    return pair


_Millimetres = Annotated[FiniteFloat, Field(ge=0)]
_Modality = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2,8}$")]
Range = Annotated[tuple[FiniteFloat, FiniteFloat], AfterValidator(_rising)]
Lengths = Annotated[tuple[_Millimetres, _Millimetres], AfterValidator(_rising)]


class Expected(BaseModel):
    """What scans a model was made for; whatever is left out is not asked for.

    Attributes
    ----------
    modality : tuple of str
        DICOM's codes (PS3.3, C.7.3.1.1.1) of what it takes: ``("MR",)``, ``("CT",)``.
    intensity : tuple of float or None
        Range that the scan's own values fill, from and to: of CT, -1024 and 3071 HU.
    stripped : bool or None
        Whether heads are skull-stripped, or come with their skull.
    spacing_mm : tuple of float or None
        Shortest and longest edge of a voxel.
    field_of_view_mm : tuple of float or None
        How long what is not background is along the axis where it is longest, from and to.

    Examples
    --------
    >>> str(Expected(modality=("MR",), stripped=True, spacing_mm=(0.5, 6)))
    'MR, skull-stripped, voxels of 0.5 to 6 mm'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    modality: tuple[_Modality, ...] = ()
    intensity: Range | None = None
    stripped: bool | None = None
    spacing_mm: Lengths | None = None
    field_of_view_mm: Lengths | None = None

    def __str__(self) -> str:
        """Say it in a few words; empty where nothing is asked for."""
        said = [" or ".join(self.modality)]
        if self.stripped is not None:
            said.append("skull-stripped" if self.stripped else "with the skull")
        if self.intensity is not None:
            said.append(f"values from {_from_to(self.intensity)}")
        if self.spacing_mm is not None:
            said.append(f"voxels of {_from_to(self.spacing_mm)} mm")
        if self.field_of_view_mm is not None:
            said.append(f"{_from_to(self.field_of_view_mm)} mm at the longest")
        return ", ".join(filter(None, said))


def _from_to(pair: tuple[float, float]) -> str:
    return f"{pair[0]:,g} to {pair[1]:,g}"


HOUNSFIELD = Expected(modality=("CT",), intensity=(-1024, 3071))
"""CT in Hounsfield units, as 12 bits hold them."""
STRIPPED_MR = Expected(modality=("MR",), stripped=True)
