"""What a trained model says of itself: channels, classes, preprocessing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from napari_tokensparse.model.expected import Expected

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_NAME = 200
HIGHEST_LABEL = 65535
"""Of a class: labels are written as 16 bits at most."""


def _plain_name(name: str) -> str:
    """Refuse what a terminal or a table would take for more than a name."""
    if not name.isprintable() or not 0 < len(name) <= MAX_NAME:
        raise ValueError(f"must be 1 to {MAX_NAME} printable characters")
    return name


def _file_name(name: str) -> str:
    """Refuse a name that is a path: folders and files are called by it."""
    if name in (".", "..") or any(sign in name for sign in "/\\"):
        raise ValueError("must be a name, not a path")
    return name


def _name_or_none(name: str) -> str:
    return _file_name(_plain_name(name)) if name else name


_Channel = Annotated[int, Field(ge=0, le=255)]
Colour = tuple[_Channel, _Channel, _Channel]
Name = Annotated[str, AfterValidator(_plain_name)]
Code = tuple[Name, Name, Name]
Blending = Literal["gaussian", "constant"]


class LabelClass(BaseModel):
    """One class as a label file shows it.

    Attributes
    ----------
    value : int
        Value in the label volume, from 1 to 65,535.
    name : str
        Name that other tools know, e.g. ``Left-Hippocampus``.
    color : tuple of int
        RGB, 0 to 255.
    codes : tuple of tuple of str or None
        What DICOM calls its category, its type and, where it is one of a pair, its side, each by
        value, scheme and meaning, e.g. ``("91723000", "SCT", "Anatomical Structure")``,
        ``("5366008", "SCT", "Hippocampus")`` and ``("7771000", "SCT", "Left")``. None: those of
        its name, if `napari_tokensparse.model.anatomy` has it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: Annotated[int, Field(ge=1, le=HIGHEST_LABEL)]
    name: Name
    color: Colour
    codes: tuple[Code, Code] | tuple[Code, Code, Code] | None = None


class ModelInfo(BaseModel):
    """Everything beside the network that segmenting a volume needs.

    Attributes
    ----------
    name : str
        What the model is called in combos, cards and receipts.
    channels : tuple of str
        What each image channel is, e.g. ``("T1",)``.
    classes : tuple of LabelClass
        One per output channel; with exclusive classes output channel 0 is background and comes
        extra.
    exclusive : bool
        Whether the classes exclude one another (arg-max) or are overlapping regions
        (sigmoid > 0.5, painted over one another).
    paint_order : tuple of int
        Output channels in the order in which overlapping regions are painted; their own if empty.
    regions : tuple of tuple of int
        Per overlapping region, the values of a raw label file that make it up, e.g. ``(2, 3)`` for
        a tumour core: what such a model was trained on and is evaluated against. Empty: unknown.
    preprocessing : tuple of dict
        MONAI transform definitions on the key ``image``, in order.
    background : float
        Intensity of background after preprocessing: windows of nothing else are not run, and
        volumes smaller than a window are padded with it.
    overlap : float
        Share of a window that the next one covers, in [0, 1).
    blending : str
        Weight of a voxel where windows overlap: ``gaussian``, most in a window's middle, or
        ``constant``.
    foreground_ml : tuple of float or None
        How much of a scan, in ml from and to, is not 0 where it is what the model was made for,
        e.g. a skull-stripped brain. None: anything.
    expects : Expected or None
        What scans it was made for besides. None: anything.
    sharpen : bool
        Whether labels are sharpened at the scan's own resolution unless a run says otherwise. Only
        of exclusive classes.
    least_confidence : float
        In [0, 1): how probable a connected piece of a class must be at its surest voxel to count,
        unless a run says otherwise; 0 counts every piece. Only of exclusive classes.
    strip : bool
        Whether a whole head, which is a scan with more than ``foreground_ml``, is stripped of its
        skull first, unless a run says otherwise.
    strip_by : str
        Name of the model by whose labels that is done, as ``load_model`` knows it, whose classes
        make up the brain; empty: the model's own do. It sees the channels that it names, or else
        the first.
    weights_sha256 : str
        Hash of the weights file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[Name, AfterValidator(_file_name)]
    channels: tuple[Name, ...]
    classes: tuple[LabelClass, ...]
    exclusive: bool = True
    paint_order: tuple[int, ...] = ()
    regions: tuple[tuple[int, ...], ...] = ()
    preprocessing: tuple[dict[str, Any], ...] = ()
    background: FiniteFloat = 0.0
    overlap: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5
    blending: Blending = "gaussian"
    foreground_ml: tuple[FiniteFloat, FiniteFloat] | None = None
    expects: Expected | None = None
    sharpen: bool = False
    least_confidence: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    strip: bool = False
    strip_by: Annotated[str, AfterValidator(_name_or_none)] = ""
    weights_sha256: str = ""

    @model_validator(mode="after")
    def _check_classes(self) -> ModelInfo:
        values = [c.value for c in self.classes]
        twice = next((v for v in values if values.count(v) > 1), None)
        if twice is not None and self.exclusive:
            raise ValueError(f"classes: value {twice} is given to more than one")
        if self.paint_order and sorted(self.paint_order) != list(range(len(values))):
            raise ValueError(
                f"paint_order {self.paint_order}: must name each of the {len(values)} classes once"
            )
        return self

    @model_validator(mode="after")
    def _check_regions(self) -> ModelInfo:
        if not self.regions:
            return self
        if self.exclusive:
            raise ValueError(
                f"regions {self.regions}: only overlapping classes have them; set exclusive=False"
            )
        if len(self.regions) != len(self.classes) or not all(self.regions):
            raise ValueError(
                f"regions {self.regions}: give the label values of each of the "
                f"{len(self.classes)} classes"
            )
        return self

    @model_validator(mode="after")
    def _check_exclusive(self) -> ModelInfo:
        if self.sharpen and not self.exclusive:
            raise ValueError("sharpen true: only exclusive classes can be sharpened; set it false")
        if self.least_confidence and not self.exclusive:
            raise ValueError(
                f"least_confidence {self.least_confidence:g}: is of exclusive classes; set it to 0"
            )
        return self

    @model_validator(mode="after")
    def _check_strip(self) -> ModelInfo:
        if self.strip and self.foreground_ml is None:
            raise ValueError(
                "strip true: foreground_ml must say how much a brain is; or set it false"
            )
        return self

    def sharpens(self, asked: bool | None) -> bool:
        """Whether a run sharpens its labels: as asked, or else as the model says.

        Raises
        ------
        ValueError
            It is asked of a model of overlapping regions.
        """
        if asked and not self.exclusive:
            raise ValueError(
                f"model {self.name}: its regions overlap, and only classes that exclude one "
                "another can be sharpened; leave sharpen out"
            )
        return self.sharpen if asked is None else asked

    def least_confidence_of(self, asked: float | None) -> float:
        """How sure of a piece a run must be for it to count: as asked, or else as the model says.

        Raises
        ------
        ValueError
            It is outside [0, 1), or asked of a model of overlapping regions.
        """
        if asked is None:
            return self.least_confidence
        if not 0.0 <= asked < 1.0:  # also refuses NaN
            raise ValueError(f"least confidence {asked:g}: must be in [0, 1)")
        if asked and not self.exclusive:
            raise ValueError(
                f"model {self.name}: its regions overlap, and only classes that exclude one "
                "another have a least confidence; leave it out"
            )
        return float(asked)

    def strips(self, asked: bool | None) -> bool:
        """Whether a run takes the skull off a head first: as asked, or else as the model says.

        Raises
        ------
        ValueError
            It is asked of a model that does not say how much a brain is.
        """
        if asked and self.foreground_ml is None:
            raise ValueError(
                f"model {self.name}: does not say how much of a scan a brain is (foreground_ml), "
                "which tells a head from it; leave strip out"
            )
        return self.strip if asked is None else asked

    @property
    def expectation(self) -> str:
        """What scans it was made for, in a few words; empty where it takes anything."""
        said = []
        if self.expects is not None:
            plain = (*self.expects.modality, "image")  # these say no more than the modality
            named = (name for name in self.channels if not re.fullmatch(r"channel \d+", name))
            said += [name for name in named if name not in plain]
        said.append("brain or whole head" if self.strip else "")
        said.append("" if self.expects is None else str(self.expects))
        if self.foreground_ml is not None and not self.strip:
            low, high = self.foreground_ml
            said.append(f"up to {high:,g} ml" if low <= 0 else f"{low:,g} to {high:,g} ml")
        return ", ".join(filter(None, said))

    def class_names(self, asked: Sequence[str]) -> tuple[str, ...]:
        """Return the names of classes that are given by name or value, or all for ``all``.

        Raises
        ------
        ValueError
            There is no such class.
        """
        known = {str(c.value): c.name for c in self.classes} | {
            c.name: c.name for c in self.classes
        }
        if list(asked) == ["all"] and "all" not in known:
            return tuple(dict.fromkeys(c.name for c in self.classes))
        for name in asked:
            if name not in known:
                names = ", ".join(c.name for c in self.classes)
                raise ValueError(f"class {name!r}: model {self.name} has {names}; or say all")
        return tuple(dict.fromkeys(known[name] for name in asked))

    def channels_of(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return the output channel of each class, by name."""
        of = {c.name: channel for channel, c in reversed([*enumerate(self.classes)])}
        return tuple(of[name] + self.exclusive for name in names)

    @property
    def label_values(self) -> tuple[int, ...]:
        """Label value of each output channel; 0 is background."""
        values = tuple(c.value for c in self.classes)
        return (0, *values) if self.exclusive else values
