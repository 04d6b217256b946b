"""A volume as a model sees it, cut into windows; and how a model's logits become labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_tokensparse.segmenting.labelrule import LabelRule
from napari_tokensparse.segmenting.tokenmaps import TokenPlaces
from napari_tokensparse.volumes.preprocess import AxisMap, preprocess
from napari_tokensparse.volumes.windows import Shape, WindowGrid, window_grid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from napari_tokensparse.model.config import SCDConfig
    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.segmenting.stitch import Frame
    from napari_tokensparse.volumes.volume import Volume


@dataclass(frozen=True, eq=False)
class Windowed:
    """A preprocessed volume with its windows.

    Attributes
    ----------
    image
        ``(C, h, w, d)``, padded to the windows' token grid.
    grid
        The windows.
    axes
        Where each input axis lies on the padded grid.
    background
        Intensity of background.
    notes
        What a person should know of the preprocessing.
    """

    image: Tensor
    grid: WindowGrid
    axes: tuple[AxisMap, AxisMap, AxisMap]
    background: float
    notes: tuple[str, ...] = ()

    def places(self, shape: Shape) -> TokenPlaces:
        """Return where the voxels of the input, of this shape, lie on the token grid."""
        return TokenPlaces(shape, self.axes, self.grid.tokens, self.grid.patch)

    def is_foreground(self, start: Shape) -> bool:
        """Whether a window holds anything but background; others are not run."""
        patch = self.grid.patch
        h, w, d = (
            slice(s // patch, (s + n) // patch)
            for s, n in zip(start, self.grid.window, strict=True)
        )
        return bool(self.foreground[h, w, d].any())

    def within(
        self, frame: Frame | None
    ) -> tuple[tuple[AxisMap, AxisMap, AxisMap], Sequence[tuple[int, int]]]:
        """Return the axes and the image's extents on a frame of the padded grid; None is all."""
        if frame is None:
            return self.axes, self.grid.extents
        i, j, k = (replace(each, start=each.start - frame.first[each.axis]) for each in self.axes)
        extents = [
            (max(a, first) - first, min(b, end) - first)
            for (a, b), first, end in zip(self.grid.extents, frame.first, frame.end, strict=True)
        ]
        return (i, j, k), extents

    @cached_property
    def foreground(self) -> Tensor:
        """Which tokens hold anything but background, ``(gh, gw, gd)``."""
        patch, (_, gw, gd) = self.grid.patch, self.grid.tokens
        rows = []
        for row in range(0, self.image.shape[1], patch):
            slab = self.image[:, row : row + patch]
            other = torch.stack([slab.amax(dim=(0, 1)), slab.amin(dim=(0, 1))]) != self.background
            rows.append(other.view(2, gw, patch, gd, patch).any(dim=(0, 2, 4)))
        return torch.stack(rows)


def windowed(volume: Volume, config: SCDConfig, info: ModelInfo, overlap: float) -> Windowed:
    """Preprocess a volume and lay windows over it.

    Parameters
    ----------
    volume
        The input.
    config, info
        Of the model.
    overlap
        Share of a window that the next one covers, in [0, 1).
    """
    prepared = preprocess(volume, info.preprocessing)
    grid = window_grid(prepared.image.shape[1:], config.window, config.patch_size, overlap)
    i, j, k = (replace(axis, start=axis.start + grid.before[axis.axis]) for axis in prepared.axes)
    image = grid.pad(prepared.image, info.background)
    return Windowed(image, grid, (i, j, k), info.background, prepared.notes)


def label_rule(info: ModelInfo) -> LabelRule:
    """Return how the model's logits become labels."""
    return LabelRule(info.label_values, info.exclusive, info.paint_order)


def decision(info: ModelInfo) -> Callable[[Tensor], Tensor]:
    """Return how logits ``(K, ...)`` become label values ``(...)``, int32."""
    rule = label_rule(info)

    def decide(logits: Tensor) -> Tensor:
        labels = rule.labels(rule.codes(logits.movedim(0, -1)))
        return torch.from_numpy(labels.astype(np.int32))

    return decide


def label_dtype(info: ModelInfo) -> np.dtype[np.unsignedinteger]:
    """Return the smallest type that holds every label value."""
    return label_rule(info).dtype
