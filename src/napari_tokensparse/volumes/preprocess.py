"""Preprocessing by MONAI's transforms, recorded so that results go back to the input's grid.

MONAI is given the volume in its own voxel frame: a signed permutation of the axes scaled by the
spacing, rather than the exact affine. An oblique or sheared volume is so processed along its own
axes, and every step is undone one axis at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch
from monai import transforms
from monai.data.meta_tensor import MetaTensor
from monai.transforms.compose import Compose
from nibabel.orientations import (
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)

from napari_tokensparse.common.untrusted import PlainError
from napari_tokensparse.volumes.background import negative_share, with_zero_background
from napari_tokensparse.volumes.blockwise import read_blocks, resample_blocks
from napari_tokensparse.volumes.definitions import KEY, DefinitionError, check_definition
from napari_tokensparse.volumes.volume import is_lazy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from monai.transforms.transform import Transform
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_tokensparse.volumes.volume import Volume

LABEL_KEY = "label"
# What moves voxels, and so moves those of a label too.
_GEOMETRIC = ("CropForegroundd", "DivisiblePadd", "Orientationd", "Spacingd", "Zoomd")
# The voxel frame is in RAS; stated, because MONAI warns that its default changes.
_ROWS_AT_ONCE = 16
_DEFAULTS = {"Orientationd": {"labels": (("L", "R"), ("P", "A"), ("I", "S"))}}


class PreprocessError(PlainError):
    """A volume or a definition that cannot be preprocessed; one plain line says why."""


@dataclass(frozen=True)
class AxisMap:
    """Where one axis of the input lies on the model's grid: ``model = slope * input + start``.

    Attributes
    ----------
    axis
        The model's axis, 0 to 2.
    slope, start
        Model voxels per input voxel, and the model coordinate of input voxel 0; whole coordinates
        are voxel centres.
    """

    axis: int
    slope: float
    start: float

    def coordinates(self, length: int) -> NDArray[np.float64]:
        """Model coordinates of the input's voxels ``0 .. length - 1``."""
        return self.slope * np.arange(length, dtype=np.float64) + self.start


@dataclass(frozen=True)
class Prepared:
    """A volume on the model's grid, and the way back.

    Attributes
    ----------
    image
        ``(C, h, w, d)`` float32.
    axes
        One map per input axis (i, j, k).
    affine
        (4, 4) model voxel to RAS mm, exact also for an oblique input.
    notes
        What a person should know of how it was brought there.
    """

    image: Tensor
    axes: tuple[AxisMap, AxisMap, AxisMap]
    affine: NDArray[np.float64]
    notes: tuple[str, ...] = ()


def preprocess(volume: Volume, definitions: Sequence[Mapping[str, Any]]) -> Prepared:
    """Bring a volume to what a model expects.

    Parameters
    ----------
    volume
        The input.
    definitions
        MONAI transforms on the key ``image``, as in a bundle's ``preprocessing``.

    Raises
    ------
    PreprocessError
        A transform is not on the allow-list, or leaves nothing of the volume.
    """
    check_resampled(volume, definitions)
    volume, notes = with_zero_background(volume, definitions)
    frame = voxel_frame(volume)
    placed, rest = _begun(volume, frame, definitions)
    image = _applied(_compose(rest), {KEY: placed}, volume.name)[KEY]
    _check_left(image, volume)
    to_model = np.linalg.inv(np.asarray(image.affine)) @ frame
    first, second, third = (_axis_map(to_model, axis) for axis in range(3))
    return Prepared(
        image.as_tensor().float(),
        (first, second, third),
        volume.affine @ np.linalg.inv(to_model),
        notes,
    )


def preprocess_pair(
    volume: Volume, label: Volume, definitions: Sequence[Mapping[str, Any]]
) -> tuple[Tensor, Tensor]:
    """Bring an image and its label to what a model expects, both on the grid of `preprocess`.

    Parameters
    ----------
    volume, label
        Both on one grid, that of ``volume``.
    definitions
        As for `preprocess`: the label follows what moves voxels, each taking its nearest value.

    Returns
    -------
    tuple of Tensor
        Image ``(C, h, w, d)`` float32 and label values ``(1, h, w, d)`` int32.

    Raises
    ------
    PreprocessError
        As `preprocess`.
    """
    frame, composed = voxel_frame(volume), _compose(definitions, _with_label)
    check_resampled(volume, definitions)
    volume, _ = with_zero_background(volume, definitions)
    placed = {
        KEY: _placed(volume.array, frame, definitions),
        LABEL_KEY: _placed(label.array, frame, definitions),
    }
    pair = _applied(composed, placed, volume.name)
    _check_left(pair[KEY], volume)
    return pair[KEY].as_tensor().float(), pair[LABEL_KEY].as_tensor().to(torch.int32)


def voxel_frame(volume: Volume) -> NDArray[np.float64]:
    """Affine of the volume with its axes turned to the closest world axes, (4, 4)."""
    frame = np.zeros((4, 4))
    frame[3, 3] = 1.0
    for axis, (world, sign) in enumerate(io_orientation(volume.affine)):
        frame[int(world), axis] = sign * volume.spacing[axis]
    return frame


def make_transform(definition: Mapping[str, Any]) -> Transform:
    """Make a transform of plain values: MONAI's parser would make, read and run what they name.

    Raises
    ------
    PreprocessError
        The transform does not take these arguments.
    """
    name = definition["_target_"]
    arguments = {key: value for key, value in definition.items() if key != "_target_"}
    try:
        made: Transform = getattr(transforms, name)(**{**_DEFAULTS.get(name, {}), **arguments})
    except (TypeError, ValueError) as error:
        raise PreprocessError(f"transform {name!r}: {' '.join(str(error).split())}") from error
    return made


def _compose(
    definitions: Sequence[Mapping[str, Any]],
    adapted: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
) -> Compose:
    for definition in definitions:
        try:
            check_definition(definition)
        except DefinitionError as error:
            raise PreprocessError(str(error)) from error
    made = [make_transform(adapted(definition)) for definition in definitions]
    return Compose(
        [
            _InSlabs(transform) if _is_voxelwise(definition) else transform
            for transform, definition in zip(made, definitions, strict=True)
        ]
    )


def _applied(composed: Compose, data: dict[str, MetaTensor], name: str) -> dict[str, MetaTensor]:
    """Apply transforms; what one of them cannot do is told in a line, but for want of memory."""
    try:
        done: dict[str, MetaTensor] = composed(data)
    except RuntimeError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, MemoryError) or "memory" in str(cause):
            raise cause from None  # for whoever can do with less
        said = " ".join(str(cause).split())
        raise PreprocessError(f"{name}: cannot be preprocessed ({said})") from error
    return done


class _InSlabs:
    """A transform that looks at one voxel at a time, applied in place to a few rows at a time.

    Applied to a whole volume, MONAI's would make several copies of it.
    """

    def __init__(self, transform: Transform) -> None:
        self._transform = transform

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Transform what lies under the key ``image``."""
        values = data[KEY].as_tensor()
        for first in range(0, values.shape[1], _ROWS_AT_ONCE):
            rows = values[:, first : first + _ROWS_AT_ONCE]
            rows.copy_(self._transform({KEY: rows})[KEY])
        return data


def _is_voxelwise(definition: Mapping[str, Any]) -> bool:
    return definition["_target_"] == "ScaleIntensityRanged" and "dtype" not in definition


def _with_label(definition: Mapping[str, Any]) -> Mapping[str, Any]:
    """Let a label follow a transform that moves voxels."""
    if definition["_target_"] not in _GEOMETRIC:
        return definition
    pair: dict[str, Any] = {**definition, "keys": [KEY, LABEL_KEY]}
    if definition["_target_"] in ("Spacingd", "Zoomd"):
        pair["mode"] = [definition.get("mode", "bilinear"), "nearest"]
    return pair


def _begun(
    volume: Volume, frame: NDArray[np.float64], definitions: Sequence[Mapping[str, Any]]
) -> tuple[MetaTensor, Sequence[Mapping[str, Any]]]:
    """Copy a volume into what MONAI takes, and return the transforms that are left to do.

    A lazy one is read block by block, onto the model's grid where it is to be resampled.
    """
    if not is_lazy(volume.array):
        return _placed(volume.array, frame, definitions), definitions
    array, frame = _turned(volume.array, frame, definitions)
    turned = int(bool(definitions) and _is_plain(definitions[0], "Orientationd", "axcodes"))
    rest = definitions[turned:]
    if rest and _is_plain(rest[0], "Spacingd", "pixdim", "mode") and rest[0]["mode"] == "bilinear":
        return resample_blocks(array, frame, make_transform(rest[0]), volume.name), rest[1:]
    values = read_blocks(array, first_dtype(definitions), volume.name)
    return MetaTensor(torch.from_numpy(values), affine=torch.from_numpy(frame)), rest


def _placed(
    array: NDArray[Any], frame: NDArray[np.float64], definitions: Sequence[Mapping[str, Any]]
) -> MetaTensor:
    """Copy an array into what MONAI takes, for some transforms work in place.

    What the first transforms would do by copies of the whole volume is done by this one: turning
    its axes, and the doubles that resampling computes in.
    """
    array, frame = _turned(array, frame, definitions)
    values = np.array(array, first_dtype(definitions), order="C")
    return MetaTensor(torch.from_numpy(values), affine=torch.from_numpy(frame))


def _turned(
    array: NDArray[Any], frame: NDArray[np.float64], definitions: Sequence[Mapping[str, Any]]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Turn the axes of ``(C, i, j, k)`` as the first transform would, copying nothing."""
    if not definitions or not _is_plain(definitions[0], "Orientationd", "axcodes"):
        return array, frame
    turns = ornt_transform(io_orientation(frame), axcodes2ornt(definitions[0]["axcodes"]))
    frame = frame @ inv_ornt_aff(turns, array.shape[1:])
    order = [0, *(1 + np.argsort(turns[:, 0])).tolist()]
    flips: list[Any] = [slice(None), *(slice(None, None, int(way)) for way in turns[:, 1])]
    return array[tuple(flips)].transpose(order), frame


def _is_plain(definition: Mapping[str, Any], name: str, *arguments: str) -> bool:
    """Whether a transform is this one, with no other arguments."""
    return definition.get("_target_") == name and set(definition) == {
        *("_target_", "keys"),
        *arguments,
    }


def first_dtype(definitions: Sequence[Mapping[str, Any]]) -> type[np.floating]:
    """Return the type that the first transform which looks at intensities computes in."""
    first = next((d for d in definitions if d.get("_target_") != "Orientationd"), {})
    doubles = first.get("_target_") == "Spacingd" and "dtype" not in first
    return np.float64 if doubles else np.float32


def _check_left(image: Tensor, volume: Volume) -> None:
    if 0 not in image.shape:
        return
    if any(negative_share(channel) for channel in volume.array):
        raise PreprocessError(
            f"{volume.name}: nothing is left after preprocessing, for none of it is above 0 and "
            "its border is not of one value, which would tell background; set background to 0 and "
            "shift the rest above it"
        )
    raise PreprocessError(f"{volume.name}: nothing is left after preprocessing; is it empty?")


def check_resampled(volume: Volume, definitions: Sequence[Mapping[str, Any]]) -> None:
    """Refuse what is not allowed, or would not fit into memory once it is resampled.

    Raises
    ------
    PreprocessError
        In one line, before anything is read or made.
    """
    _compose(definitions)
    for definition in definitions:
        if definition["_target_"] != "Spacingd":
            continue
        sides, voxels = resampled(volume, definition)
        needed, free = len(volume.array) * voxels * 8, psutil.virtual_memory().available
        if needed > free:
            raise PreprocessError(
                f"{volume.name}: resampled to {' x '.join(f'{s:g}' for s in sides)} mm it has "
                f"{voxels:.3g} voxels ({needed / 2**30:.3g} GiB; {free / 2**30:.3g} are free); "
                f"is its voxel size {' x '.join(f'{s:g}' for s in volume.spacing)} mm right?"
            )


def resampled(volume: Volume, definition: Mapping[str, Any]) -> tuple[list[float], float]:
    """Return the voxel size that Spacingd leads to, and about how many voxels there are then."""
    given = definition["pixdim"]
    pixdim = list(given) if isinstance(given, (list, tuple)) else [given]
    sides = [*pixdim, *volume.spacing[len(pixdim) :]]
    extents = [n * s for n, s in zip(volume.shape, volume.spacing, strict=True)]
    return sides, math.prod(e / s + 1 for e, s in zip(extents, sides, strict=True))


def _axis_map(to_model: NDArray[np.float64], axis: int) -> AxisMap:
    """Read one input axis off a matrix that permutes, flips, scales and shifts axes."""
    model_axis = int(np.abs(to_model[:3, axis]).argmax())
    return AxisMap(model_axis, float(to_model[model_axis, axis]), float(to_model[model_axis, 3]))
