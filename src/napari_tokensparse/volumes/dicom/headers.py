"""The headers of one DICOM file as slices: one, or one for each frame of an enhanced file.

What is read of the headers is listed in `TAGS`; no name, date or number of a patient is among them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from napari_tokensparse.volumes.dicom.slices import Kind, Slice

if TYPE_CHECKING:
    from pathlib import Path

    Get = Callable[[str, str], Any]

_SIEMENS_B_VALUE, _GE_B_VALUE, _GE_IMAGE_TYPE = (0x0019, 0x100C), (0x0043, 0x1039), (0x0043, 0x102F)
_GE_IMAGE_TYPES = ("magnitude", "phase", "real", "imaginary")
_GE_B_VALUE_ABOVE = 10**9  # it adds this to some

# What may tell images of one place apart, what is tried first going first: its name, where it is in
# an ordinary header, and where in the functional groups of an enhanced one (PS3.3, C.7.6.16).
_KINDS = {
    "time point": ("TemporalPositionIdentifier", "FrameContentSequence.TemporalPositionIndex"),
    "trigger time": (
        "TriggerTime",
        "CardiacSynchronizationSequence.NominalCardiacTriggerDelayTime",
    ),
    "echo time": ("EchoTime", "MREchoSequence.EffectiveEchoTime"),
    "b-value": ("DiffusionBValue", "MRDiffusionSequence.DiffusionBValue"),
    "image type": ("ImageType", "*FrameTypeSequence.FrameType"),
    "component": ("ComplexImageComponent", "*FrameTypeSequence.ComplexImageComponent"),
    "echo": ("EchoNumbers", ""),
    "inversion time": ("InversionTime", "MRModifierSequence.InversionTimes"),
    "flip angle": ("FlipAngle", "MRTimingAndRelatedParametersSequence.FlipAngle"),
    "gradient": (
        "DiffusionGradientOrientation",
        "MRDiffusionSequence.DiffusionGradientDirectionSequence.DiffusionGradientOrientation",
    ),
    "diffusion": ("", "MRDiffusionSequence.DiffusionDirectionality"),
    "kernel": ("ConvolutionKernel", "CTReconstructionSequence.ConvolutionKernel"),
    "sequence name": ("SequenceName", ""),
    "tube voltage": ("KVP", "CTXRayDetailsSequence.KVP"),
    "cardiac phase": (
        "NominalPercentageOfCardiacPhase",
        "CardiacSynchronizationSequence.NominalPercentageOfCardiacPhase",
    ),
    "frame time": ("FrameReferenceTime", ""),
}
_FRAME_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")

TAGS = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "Modality"),
    *("AcquisitionNumber", "InstanceNumber", "NumberOfFrames", "Rows", "Columns", "PixelSpacing"),
    *("ImageOrientationPatient", "ImagePositionPatient", "RescaleSlope", "RescaleIntercept"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *(keyword for keyword, _ in _KINDS.values() if keyword),
    *(_SIEMENS_B_VALUE, _GE_B_VALUE, _GE_IMAGE_TYPE),
)


def slices_of(path: Path, header: Any) -> list[Slice]:
    """Read a pydicom header; what is missing is empty."""
    frames = int(_number(header.get("NumberOfFrames")) or 1)
    each = header.get("PerFrameFunctionalGroupsSequence")
    if frames == 1 and not each:
        kinds = {**_kinds(header, _plain(header)), **_private_kinds(header)}
        return [_slice(path, header, _plain(header), (0, 1), kinds)]
    shared = list(header.get("SharedFunctionalGroupsSequence") or ())
    slices = []
    for n in range(frames):
        # A frame that no group speaks of says nowhere where it lies.
        groups = [*([each[n]] if each and n < len(each) else []), *shared]
        get = _grouped(groups)
        slices.append(_slice(path, header, get, (n, frames), _kinds(header, get)))
    return slices


def _slice(
    path: Path, header: Any, get: Get, frame: tuple[int, int], among: dict[str, Kind]
) -> Slice:
    position = get("ImagePositionPatient", "PlanePositionSequence")
    slope = _number(get("RescaleSlope", "PixelValueTransformationSequence"))
    intercept = _number(get("RescaleIntercept", "PixelValueTransformationSequence"))
    return Slice(
        path=path,
        index=frame[0],
        frames=frame[1],
        series=str(header.get("SeriesInstanceUID", "")),
        number=_whole(header.get("SeriesNumber")),
        acquisition=_whole(header.get("AcquisitionNumber")),
        modality=_code(header.get("Modality")),
        shape=(int(header.Rows), int(header.Columns)),
        spacing=_numbers(get("PixelSpacing", "PixelMeasuresSequence")),
        orientation=_numbers(get("ImageOrientationPatient", "PlaneOrientationSequence")),
        position=_numbers(position),
        rounding=tuple(map(_last_digit, _several(position))),
        scaling=(1.0 if slope is None else slope, intercept or 0.0),
        image=str(header.get("SOPInstanceUID", "")),
        image_number=_whole(header.get("InstanceNumber")),
        among=among,
    )


def _plain(header: Any) -> Get:
    return lambda keyword, sequence: header.get(keyword)


def _grouped(groups: Sequence[Any]) -> Get:
    """Look a keyword up in a sequence of the functional groups, those of the frame first."""

    def get(keyword: str, sequences: str) -> Any:
        for group in groups:
            items: list[Any] = [group]
            for sequence in filter(None, sequences.split(".")):
                names = _FRAME_TYPES if sequence.startswith("*") else (sequence,)
                items = [i for one in items for name in names for i in one.get(name) or ()][:1]
            if items and items[0].get(keyword) is not None:
                return items[0].get(keyword)
        return None

    return get


def _kinds(header: Any, get: Get) -> dict[str, Kind]:
    kinds: dict[str, Kind] = {}
    for name, (keyword, path) in _KINDS.items():
        sequences, _, last = path.rpartition(".")
        value = header.get(keyword) if keyword else None
        inside = get(last, sequences) if last else None
        kind = _kind(value if inside is None else inside)
        if kind is not None:
            kinds[name] = kind
    return kinds


def _private_kinds(header: Any) -> dict[str, Kind]:
    """Read what makers of scanners write in places of their own."""
    kinds: dict[str, Kind] = {}
    siemens, ge, kind = (
        _first(header[tag].value) if tag in header else None
        for tag in (_SIEMENS_B_VALUE, _GE_B_VALUE, _GE_IMAGE_TYPE)
    )
    value = siemens if siemens is not None else ge
    if value is not None and "DiffusionBValue" not in header:
        kinds["b-value"] = value % _GE_B_VALUE_ABOVE
    if kind is not None and kind in range(len(_GE_IMAGE_TYPES)):
        kinds["component"] = _GE_IMAGE_TYPES[int(kind)]
    return kinds


def _first(value: Any) -> float | None:
    """Return the first number of a private element, whose type the file may not tell."""
    if isinstance(value, bytes):
        value = value.decode("ascii", "ignore").strip(" \0").split("\\")
    values = [value] if isinstance(value, str | int | float) else list(value or ())
    try:
        return float(values[0]) if values else None
    except (TypeError, ValueError):
        return None


def _kind(value: Any) -> Kind | None:
    """Return a number, a word or several as plain values; None for what is empty."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Sequence) or hasattr(value, "__iter__"):
        parts = [_kind(each) for each in value]
        plain = tuple(part for part in parts if isinstance(part, str | float))
        return (plain[0] if len(plain) == 1 else plain) or None
    return float(value)


def _numbers(value: Any) -> tuple[float, ...]:
    return tuple(map(_float, _several(value)))


def _several(value: Any) -> Sequence[Any]:
    """Return the values of an element that may hold one or none."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return value
    return () if value is None or value == "" else (value,)


def _number(value: Any) -> float | None:
    return None if value is None or value == "" else _float(value)


def _float(value: Any) -> float:
    """Return a number; some scanners wrote the decimal comma of their country."""
    return float(value.replace(",", ".") if isinstance(value, str) else value)


def _code(value: Any) -> str:
    """Return a code string, as the standard allows them; empty for anything else."""
    return str(value) if re.fullmatch(r"[A-Z0-9_ ]{1,16}", str(value or "")) else ""


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _last_digit(value: Any) -> float:
    """Return the unit of the last digit that is written of a number: 0.01 for 1.25."""
    digits = str(getattr(value, "original_string", value)).strip().replace(",", ".")
    try:
        exponent = Decimal(digits).as_tuple().exponent
    except InvalidOperation:
        return 0.0
    return float(10.0**exponent) if isinstance(exponent, int) else 0.0
