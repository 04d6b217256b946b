"""What speaks against segmenting a volume with a model, told before anything is run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokensparse.model.expected import Expected
from napari_tokensparse.segmenting.looks import is_head, looks_of
from napari_tokensparse.volumes.background import (
    NEGATIVE,
    background_by_sign,
    border_value,
    negative_share,
)
from napari_tokensparse.volumes.placement import NOTE_NO_LENGTHS
from napari_tokensparse.volumes.volume import is_lazy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.segmenting.looks import Looks
    from napari_tokensparse.volumes.volume import Volume

_LARGEST_BRAIN_ML = 2400.0
_OUTSIDE = 0.02  # share of values beyond the range that a model expects, from which on it is told
_NARROW = 0.02  # share of that range that values fill, up to which it is told
_BULK = (1.0, 99.0)  # percentiles
_EVERY = 16  # voxels along each axis: those that are looked at first


def concerns(volume: Volume, info: ModelInfo, strip: bool | None = None) -> tuple[str, ...]:
    """Return a line for each thing about a volume that the model was not made for.

    Parameters
    ----------
    volume
        Raw, as read.
    info
        Of the model.
    strip
        Whether a whole head is stripped of its skull first; as the model says if not given.

    Returns
    -------
    tuple of str
        Empty where nothing is odd. The check looks at every voxel of a small volume and at every
        n-th of a large one, and runs nothing.
    """
    uniform = _uniform(volume)
    if uniform:
        return (f"{volume.name}: {uniform}",)
    wanted = info.expects or Expected()
    values, others, background = "", ["", ""], _background(volume, info)
    if info.expects is not None or info.foreground_ml is not None:
        looks = looks_of(volume)
        values = _modality(volume, looks, wanted) or _intensity(looks, wanted)
        size = _foreground(looks, info, wanted) or _field_of_view(looks, wanted)
        if is_head(looks, info) and info.strips(strip):
            size, background = "", ()  # what is taken off leaves a brain on a background of 0
        others = [size, _spacing(volume, wanted)]

    def told(parts: Iterable[str]) -> list[str]:
        return [f"{volume.name}: {part.format(info.name)}" for part in parts if part]

    # The wrong modality comes first: it is why the others are there.
    return (*told([values]), *background, *_scale(volume, info), *told(others))


def _uniform(volume: Volume) -> str:
    """Say so where nothing is to be seen, as in an empty file or one that is a channel short."""
    if is_lazy(volume.array):
        return ""
    flat = [n for n, channel in enumerate(volume.array) if _is_flat(channel)]
    if not flat:
        return ""
    values = ", ".join(dict.fromkeys(f"{volume.array[n, 0, 0, 0]:g}" for n in flat))
    if len(flat) == len(volume.array):
        return f"every voxel of it is {values}: there is nothing to segment; check the file"
    numbers = ", ".join(str(n) for n in flat)
    return f"every voxel of channel {numbers}, from 0, is {values}; expect wrong labels"


def _is_flat(channel: NDArray[Any]) -> bool:
    """Whether all voxels are the same; nearly always a few say that they are not."""
    first = channel[0, 0, 0]
    few = channel[::_EVERY, ::_EVERY, ::_EVERY]
    return bool((few == first).all() and (channel == first).all())


def _background(volume: Volume, info: ModelInfo) -> tuple[str, ...]:
    """Say so where nothing tells background, and the model needs it."""
    if not background_by_sign(info.preprocessing):
        return ()
    unclear = [channel for channel in volume.array if border_value(channel) is None]
    share = max(map(negative_share, unclear), default=0.0)
    if share < NEGATIVE:
        return ()
    return (
        f"{volume.name}: {share:.0%} of it are below 0 and its border is not of one value, so that "
        f"nothing tells background, which {info.name} takes to be 0 with all else above it; expect "
        "wrong labels",
    )


def _scale(volume: Volume, info: ModelInfo) -> tuple[str, ...]:
    """Say so where lengths are not known, and the model goes by them."""
    if NOTE_NO_LENGTHS not in volume.notes or not _goes_by_lengths(info):
        return ()
    edges = " x ".join(f"{mm:g}" for mm in volume.spacing[::-1])
    return (
        f"{volume.name}: how large its voxels are is not known; {edges} mm are taken, and "
        f"{info.name} goes by mm: give their size, or expect wrong labels and volumes",
    )


def _goes_by_lengths(info: ModelInfo) -> bool:
    asked = info.expects or Expected()
    return (
        any(each.get("_target_") == "Spacingd" for each in info.preprocessing)
        or info.foreground_ml is not None
        or asked.spacing_mm is not None
        or asked.field_of_view_mm is not None
    )


def _foreground(looks: Looks, info: ModelInfo, wanted: Expected) -> str:
    """Say so where a scan holds more or less than the model was made for."""
    span = info.foreground_ml
    if span is None and wanted.stripped is not None:
        span = (0.0, _LARGEST_BRAIN_ML) if wanted.stripped else (_LARGEST_BRAIN_ML, np.inf)
    ml = looks.foreground_ml
    if span is None or span[0] <= ml <= span[1]:
        return ""
    what = (
        "not skull-stripped, or its background is not of one value"
        if ml > span[1]
        else "skull-stripped or mostly cut"
        if wanted.stripped is False
        else "mostly cut"
    )
    made_for = "more" if span[1] == np.inf else f"{span[0]:,.0f} to {span[1]:,.0f} ml"
    return (
        f"{ml:,.0f} ml of it are not {_listed(looks.borders)}, and {{}} is made for {made_for}: "
        f"perhaps it is {what}; expect wrong labels"
    )


def _field_of_view(looks: Looks, wanted: Expected) -> str:
    """Say so where what a scan shows is too long or too short, as of another body part or size."""
    if wanted.field_of_view_mm is None or looks.longest_mm == 0:
        return ""
    low, high = wanted.field_of_view_mm
    if low <= looks.longest_mm <= high:
        return ""
    what = (
        "too little of it is in view, or its voxels are larger than it says"
        if looks.longest_mm < low
        else "it shows something else or more, or its voxels are smaller than it says"
    )
    length = f"{looks.longest_mm:,.0f}" if looks.longest_mm >= 10 else f"{looks.longest_mm:.2g}"
    return (
        f"what it shows is {length} mm at the longest, and {{}} is made for "
        f"{low:,g} to {high:,g} mm: perhaps {what}; expect wrong labels"
    )


def _modality(volume: Volume, looks: Looks, wanted: Expected) -> str:
    """Say so where a scan is of another modality, by its file or else by its values."""
    if not wanted.modality:
        return ""
    made_for = " or ".join(wanted.modality)
    if volume.modality:
        if volume.modality in wanted.modality:
            return ""
        return (
            f"its file says {volume.modality}, and {{}} is made for {made_for}; expect wrong labels"
        )
    if looks.hounsfield and "CT" not in wanted.modality:
        return (
            f"its values are those of CT, {looks.air:.0%} of them like air near -1000, and {{}} is "
            f"made for {made_for}; expect wrong labels"
        )
    if looks.hounsfield is False and wanted.modality == ("CT",):
        return (
            "it has no values below -200, and in CT air and fat do: perhaps it is of another "
            "modality or not in Hounsfield units, and {} is made for CT; expect wrong labels"
        )
    return ""


def _intensity(looks: Looks, wanted: Expected) -> str:
    """Say so where values lie beyond what the model knows, or fill little of it."""
    if wanted.intensity is None or not looks.inside.size:
        return ""
    low, high = wanted.intensity
    beyond = int(np.count_nonzero((looks.inside < low) | (looks.inside > high)))
    share = beyond / looks.inside.size
    first, last = np.nanpercentile(looks.inside, _BULK)
    if share > _OUTSIDE:
        what = f"{share:.0%} of its values lie outside"
    elif last - first < _NARROW * (high - low):
        what = f"nearly all its values lie from {first:.4g} to {last:.4g}, a small part of"
    else:
        return ""
    return (
        f"{what} {low:,g} to {high:,g}, which {{}} is made for: perhaps they were rescaled; expect "
        "wrong labels"
    )


def _spacing(volume: Volume, wanted: Expected) -> str:
    """Say so where voxels are coarser or finer than the model was made for."""
    if wanted.spacing_mm is None or NOTE_NO_LENGTHS in volume.notes:
        return ""
    low, high = wanted.spacing_mm
    if low <= min(volume.spacing) and max(volume.spacing) <= high:
        return ""
    edges = " x ".join(f"{mm:.3g}" for mm in volume.spacing)
    return f"its voxels are {edges} mm, and {{}} is made for {low:g} to {high:g} mm"


def _listed(borders: Sequence[float]) -> str:
    return " or ".join(f"{value:g}" for value in dict.fromkeys(borders))
