"""Which transforms a model folder may ask for, and with which arguments; nothing else is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, ValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KEY = "image"


def _dtype_name(value: Any) -> Any:
    """Name a type of numpy, which Python may give where a folder gives its name."""
    return np.dtype(value).name if isinstance(value, type | np.dtype) else value


_Millimetres = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Voxels = Annotated[int, Field(ge=0, le=512)]
_Float = Annotated[Literal["float32", "float64"] | None, BeforeValidator(_dtype_name)]
_PerAxis = tuple[_Voxels, _Voxels, _Voxels]
_Mode = Literal["bilinear", "nearest", 0, 1, 2, 3, 4, 5]
_PerChannel = FiniteFloat | list[FiniteFloat]


class DefinitionError(ValueError):
    """A transform that is not on the list, or an argument that it may not have."""


class _Definition(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False)

    target: str = Field(alias="_target_")
    keys: Literal["image"]
    allow_missing_keys: bool = False


class _Orientation(_Definition):
    axcodes: Annotated[str, Field(pattern="^[LRPAIS]{3}$")] | None = None
    as_closest_canonical: bool = False
    labels: tuple[tuple[str, str], tuple[str, str], tuple[str, str]] | None = None
    lazy: Literal[False] = False


class _Spacing(_Definition):
    pixdim: _Millimetres | Annotated[list[_Millimetres], Field(min_length=1, max_length=3)]
    diagonal: bool = False
    mode: _Mode = "bilinear"
    padding_mode: Literal["border", "zeros", "reflection"] = "border"
    align_corners: bool = False
    dtype: _Float = None
    scale_extent: bool = False
    recompute_affine: bool = False
    lazy: Literal[False] = False


class _Crop(_Definition):
    source_key: Literal["image"]
    channel_indices: _Voxels | list[_Voxels] | None = None
    margin: _Voxels | _PerAxis = 0
    allow_smaller: bool = True
    k_divisible: Annotated[int, Field(ge=1, le=512)] = 1
    lazy: Literal[False] = False


class _Normalize(_Definition):
    subtrahend: _PerChannel | None = None
    divisor: _PerChannel | None = None
    nonzero: bool = False
    channel_wise: bool = False
    dtype: _Float = None


class _Range(_Definition):
    a_min: FiniteFloat
    a_max: FiniteFloat
    b_min: FiniteFloat | None = None
    b_max: FiniteFloat | None = None
    clip: bool = False
    dtype: _Float = None


class _Percentiles(_Definition):
    lower: Annotated[float, Field(ge=0, le=100)]
    upper: Annotated[float, Field(ge=0, le=100)]
    b_min: FiniteFloat | None
    b_max: FiniteFloat | None
    clip: bool = False
    relative: bool = False
    channel_wise: bool = False
    dtype: _Float = None


class _DivisiblePad(_Definition):
    k: Annotated[int, Field(ge=1, le=512)]
    mode: Literal["constant", "edge"] = "constant"
    method: Literal["symmetric", "end"] = "symmetric"
    lazy: Literal[False] = False


class _Zoom(_Definition):
    zoom: Annotated[float, Field(gt=0, le=1)]
    mode: Literal["area"]
    keep_size: Literal[False]
    dtype: _Float = None
    lazy: Literal[False] = False


_KINDS: dict[str, type[_Definition]] = {
    "CropForegroundd": _Crop,
    "DivisiblePadd": _DivisiblePad,
    "NormalizeIntensityd": _Normalize,
    "Orientationd": _Orientation,
    "ScaleIntensityRanged": _Range,
    "ScaleIntensityRangePercentilesd": _Percentiles,
    "Spacingd": _Spacing,
    "Zoomd": _Zoom,
}
ALLOWED = tuple(_KINDS)
"""MONAI transforms that a model folder may ask for. All keep axes axes."""


def working_spacing(definitions: Sequence[Mapping[str, Any]]) -> tuple[float, ...] | None:
    """Return the voxel size in mm that checked definitions lead to, per axis; None for any."""
    sides: tuple[float, ...] | None = None
    for definition in definitions:
        if definition["_target_"] == "Spacingd":
            given = definition["pixdim"]
            sides = tuple(given) if isinstance(given, (list, tuple)) else (given,)
        elif definition["_target_"] == "Zoomd" and sides is not None:
            sides = tuple(side / definition["zoom"] for side in sides)
    return sides


def check_definition(definition: Mapping[str, Any]) -> None:
    """Refuse a transform that is not on the list, or has an argument that it does not need.

    Raises
    ------
    DefinitionError
        In one line: its name, the argument and what it must be.
    """
    name = definition.get("_target_")
    if not isinstance(name, str) or name not in _KINDS:
        raise DefinitionError(f"transform {name!r}: must be one of {', '.join(ALLOWED)}")
    if any(sign in text for text in _texts(definition) for sign in "$@%"):
        raise DefinitionError(f"transform {name!r}: expressions are not evaluated")
    if definition.get("keys") != KEY or definition.get("source_key", KEY) != KEY:
        raise DefinitionError(f"transform {name!r}: works on {KEY!r} alone")
    try:
        _KINDS[name].model_validate(dict(definition))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][:1])
        raise DefinitionError(f"transform {name!r}: {where}: {first['msg']}") from error


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [t for pair in value.items() for part in pair for t in _texts(part)]
    if isinstance(value, (list, tuple)):
        return [t for part in value for t in _texts(part)]
    return []
