"""The skull taken off a whole head, by the labels of a model that was made for stripped brains.

In a head such a model labels the brain, and some of what lies around it. What it labels, less what
hangs on by bridges of a centimetre, says where the brain is, and of the scan with all else taken
away it gives the labels of a stripped brain; so does another model, of which it is the stripper.
Voxels of about 2 mm do for that, and the stripper's own keep ratio, so that the brain is the same
whatever a run keeps.

The brain of a volume is kept for as long as volume and model are: other keep ratios, a preview and
a sweep of the same scan ask for it again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from scipy import ndimage

from napari_tokensparse.compute.backends.base import PLAIN
from napari_tokensparse.compute.backends.choice import make_backend
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.folder import ModelError, available_models, did_you_mean
from napari_tokensparse.segmenting.looks import is_head, looks_of
from napari_tokensparse.segmenting.options import Options
from napari_tokensparse.segmenting.run import WindowRun

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.segmenting.result import Progress
    from napari_tokensparse.volumes.volume import Volume

_COARSE_MM = 2.0
_BRIDGE_MM = 6.0  # half as thick is what hangs on
_BACK_MM = 6.0  # from the core, within which labels are brain
_SULCUS_MM = 5.0  # half as wide is what is closed
_RIM_MM = 2.0  # of what lies about the labels, which may be cortex that they miss

_strippers: WeakKeyDictionary[SCD, SCD] = WeakKeyDictionary()
_brains: WeakKeyDictionary[Volume, WeakKeyDictionary[SCD, Volume]] = WeakKeyDictionary()


def stripper_of(model: SCD) -> SCD:
    """Return the model by whose labels a model's heads are stripped, on the same device.

    Raises
    ------
    ModelError
        In one line: it is not on this machine, or cannot be used.
    """
    info = model.info
    if info.strip_by in ("", info.name):
        return model
    if model not in _strippers:
        known = available_models()
        if info.strip_by not in known:
            raise ModelError(
                f"model {info.name}: its heads are stripped by model {info.strip_by!r} (strip_by), "
                f"which is not on this machine{did_you_mean(info.strip_by, known)}; add it, or "
                "leave strip out (--no-strip)"
            )
        _strippers[model] = load_model(known[info.strip_by])
    return _strippers[model].to(next(model.parameters()).device)


def seen_by_stripper(volume: Volume, model: SCD) -> Volume:
    """Return what of a volume goes to `stripper_of`: the channels that it names, or the first.

    Raises
    ------
    ModelError
        In one line: the stripper takes several channels, and the model has others.
    """
    stripper = stripper_of(model)
    ours, theirs = model.info.channels, stripper.info.channels
    if stripper is model or ours == theirs:
        return volume
    if set(theirs) <= set(ours):
        chosen = [ours.index(name) for name in theirs]
    elif len(theirs) == 1:
        chosen = [0]
    else:
        raise ModelError(
            f"model {model.info.name}: its heads are stripped by model {stripper.info.name}, which "
            f"takes {', '.join(theirs)}, and it has {', '.join(ours)}; leave strip out (--no-strip)"
        )
    return replace(volume, array=volume.array[chosen], channel_names=())


def known_brain(volume: Volume, model: SCD) -> Volume | None:
    """Return the brain of a head that was stripped already; None of any other volume."""
    known = _brains.get(volume)
    return None if known is None else known.get(model)


def stripping(volume: Volume, model: SCD) -> Generator[Progress, None, Volume]:
    """Take away all but the brain, if the volume is of a whole head.

    Parameters
    ----------
    volume
        The input.
    model
        A loaded model, whose labels are of all of the brain, or which says whose are.

    Yields
    ------
    Progress
        Of the windows of the head.

    Returns
    -------
    Volume
        The same grid, and the same values within the brain and a rim of fluid; elsewhere 0. The
        volume itself where it is no head, or nothing in it was labelled.

    Raises
    ------
    ModelError
        In one line: it is a head, and there is nothing to strip it by.
    """
    if not is_head(looks_of(volume), model.info):
        return volume
    known = _brains.setdefault(volume, WeakKeyDictionary())
    if model not in known:
        known[model] = yield from _stripping(volume, model)
    return known[model]


def brain_of(volume: Volume, model: SCD) -> Volume:
    """Return what `stripping` does, all at once."""
    passing = stripping(volume, model)
    while True:
        try:
            next(passing)
        except StopIteration as done:
            brain: Volume = done.value
            return brain


def stripped_note(volume: Volume, brain: Volume, info: ModelInfo) -> str:
    """Say in a line what was taken away, and whether what is left may be a brain; of none: ""."""
    before = looks_of(volume)
    if not is_head(before, info):
        return ""
    if brain is volume:
        return "a whole head, by its size, in which no brain was seen: it was segmented as it is"
    after = looks_of(brain)
    whose = (
        "the model's own labels"
        if info.strip_by in ("", info.name)
        else (f"the labels of {info.strip_by}")
    )
    said = (
        f"a whole head: its skull was taken off first, by {whose}, which left "
        f"{after.foreground_ml:,.0f} of {before.foreground_ml:,.0f} ml"
    )
    return f"{said}: too much for a brain, expect wrong labels" if is_head(after, info) else said


def _stripping(volume: Volume, model: SCD) -> Generator[Progress, None, Volume]:
    stripper = stripper_of(model)
    factors = [max(1, round(_COARSE_MM / mm)) for mm in volume.spacing]
    coarse = _coarser(seen_by_stripper(volume, model), factors)
    options = Options(model="stripping", keep_ratio=stripper.config.keep_ratio)
    run = WindowRun(coarse, make_backend(stripper, PLAIN), options)
    for done, _ in enumerate(run.windows()):
        yield run.progress(done)
    labelled = run.result(0.0).labels > 0
    return _within(volume, _depth(labelled, coarse.spacing), factors) if labelled.any() else volume


def _coarser(volume: Volume, factors: list[int]) -> Volume:
    """Average blocks of voxels; what is left over at the ends is left out."""
    whole = tuple(slice(n // f * f) for n, f in zip(volume.shape, factors, strict=True))
    array = np.asarray(volume.array[(slice(None), *whole)])
    cut = [part for n, f in zip(array.shape[1:], factors, strict=True) for part in (n // f, f)]
    blocks = array.reshape(len(array), *cut).mean(axis=(2, 4, 6), dtype=np.float32)
    affine = volume.affine @ np.diag([*factors, 1.0])
    affine[:3, 3] += volume.affine[:3, :3] @ [(f - 1) / 2 for f in factors]
    return replace(volume, array=blocks, affine=affine, header=None, slices=())


def _depth(
    labelled: NDArray[np.bool_], spacing: tuple[float, float, float]
) -> NDArray[np.floating[Any]]:
    """Return how deep each voxel lies in the brain, in mm; outside it is negative."""
    margin = [int(np.ceil((_SULCUS_MM + _BACK_MM) / mm)) + 1 for mm in spacing]
    box = ndimage.find_objects(labelled.astype(np.uint8))[0]
    padded = np.pad(labelled[box], [(n, n) for n in margin])

    def to(mask: NDArray[np.bool_]) -> NDArray[np.floating[Any]]:
        distance: NDArray[np.floating[Any]] = ndimage.distance_transform_edt(
            ~mask, sampling=spacing
        )
        return distance

    core = to(~padded) > _BRIDGE_MM
    parts, count = ndimage.label(core if core.any() else padded)
    largest = np.bincount(parts.ravel())[1:].argmax() + 1 if count else 0
    core = parts == largest
    brain = core | (padded & (to(core) <= _BACK_MM))
    closed = ndimage.binary_fill_holes(to(~(to(brain) <= _SULCUS_MM)) > _SULCUS_MM)
    deep = np.where(closed, to(~closed), -to(closed))
    whole = np.full(labelled.shape, deep.min())
    cut = tuple(
        slice(max(0, n - where.start), n + total - where.start)
        for n, where, total in zip(margin, box, labelled.shape, strict=True)
    )
    starts = [max(0, where.start - n) for n, where in zip(margin, box, strict=True)]
    part = deep[cut]
    whole[tuple(slice(s, s + n) for s, n in zip(starts, part.shape, strict=True))] = part
    return whole


def _within(volume: Volume, depth: NDArray[np.floating[Any]], factors: list[int]) -> Volume:
    """Keep of a volume what lies in the brain or its rim, by the depth on the coarser grid."""
    fine = ndimage.affine_transform(
        depth,
        [1 / f for f in factors],
        offset=[-(f - 1) / (2 * f) for f in factors],
        output_shape=volume.shape,
        output=np.float32,
        order=1,
        mode="nearest",
    )
    outside = volume.array.dtype.type(0)
    return replace(volume, array=np.where(fine >= -_RIM_MM, volume.array, outside))
