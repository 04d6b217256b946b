"""Crops to train on: a pure function of a key, so that a resumed run sees what it would have seen.

The random part is MONAI's (`RandCropByPosNegLabeld` and what augments its crops), seeded anew for
every volume; the rest of the preparation is shared with inference (`volumes.preprocess`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from monai.transforms.compose import Compose
from monai.transforms.croppad.dictionary import RandCropByPosNegLabeld

from napari_tokensparse.datasets.prepared import CacheBudget, PreparedCases
from napari_tokensparse.volumes.definitions import KEY
from napari_tokensparse.volumes.preprocess import LABEL_KEY, make_transform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_tokensparse.datasets.cases import Case
    from napari_tokensparse.datasets.plan import SamplingPlan

__all__ = ["UNLABELLED", "CacheBudget", "CaseSampler"]

UNLABELLED = -1
"""Class index of voxels that are left out of the loss."""

_ORDER, _CROPS = 0, 1  # what a key is for


class CaseSampler:
    """Crops of the volumes of a data set, each volume once per epoch in an order of its own.

    Parameters
    ----------
    cases
        Image and label each.
    plan
        How windows are made of them.
    cache
        Where prepared volumes are kept; by default up to 4 GiB in memory, none on disk.
    """

    def __init__(
        self, cases: Sequence[Case], plan: SamplingPlan, cache: CacheBudget | None = None
    ) -> None:
        self._plan = plan
        self._prepared = PreparedCases(cases, plan, cache or CacheBudget())
        self._crops = _crops(plan)

    def __len__(self) -> int:
        """Count the cases: as many indices make an epoch."""
        return len(self._prepared)

    def windows(self, seed: int, index: int) -> list[tuple[Tensor, Tensor]]:
        """Draw the crops of one volume; the same key gives the same crops.

        Parameters
        ----------
        seed, index
            The key, both from 0. ``index`` counts volumes through all epochs.

        Returns
        -------
        list of tuple of Tensor
            ``plan.crops`` times the image ``(C, h, w, d)`` float32 and its target: class indices
            ``(h, w, d)`` int64 with `UNLABELLED` where the loss must not look, or with overlapping
            regions ``(K, h, w, d)`` float32 of 0 and 1.

        Raises
        ------
        VolumeError, PreprocessError
            The case cannot be read, or nothing is left of it.
        """
        case = self._prepared[_case_of(seed, index, len(self))]
        state = np.random.SeedSequence((seed, index, _CROPS)).generate_state(1)
        self._crops.set_random_state(seed=int(state[0]))
        crops = self._crops({KEY: case.image, LABEL_KEY: case.label, **case.centres})
        return [self._window(crop) for crop in crops]

    def _window(self, crop: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        image, label = (crop[key].as_subclass(torch.Tensor) for key in (KEY, LABEL_KEY))
        # A crop may be a view of the volume that is kept.
        copied = image.clone(memory_format=torch.contiguous_format)
        return copied, target_of(label[0].contiguous(), self._plan)


def target_of(label: Tensor, plan: SamplingPlan) -> Tensor:
    """Turn label values ``(h, w, d)`` into what the network is to predict.

    Returns
    -------
    Tensor
        Class indices ``(h, w, d)`` int64, `UNLABELLED` for any value that is no class, or with
        overlapping regions ``(K, h, w, d)`` float32.
    """
    if plan.regions:
        masks = [torch.isin(label, torch.tensor(values)) for values in plan.regions]
        return torch.stack(masks).float()
    values = torch.tensor(plan.values, dtype=label.dtype)
    index = torch.bucketize(label, values).clamp(max=len(values) - 1)
    known = values[index] == label
    if plan.unlabelled is not None:
        known &= label != plan.unlabelled
    return torch.where(known, index, UNLABELLED)


def _case_of(seed: int, index: int, count: int) -> int:
    epoch, place = divmod(index, count)
    order = np.random.default_rng((seed, epoch, _ORDER)).permutation(count)
    return int(order[place])


def _crops(plan: SamplingPlan) -> Compose:
    crop = RandCropByPosNegLabeld(
        keys=(KEY, LABEL_KEY),
        label_key=LABEL_KEY,
        spatial_size=plan.window,
        pos=plan.positive_share,
        neg=1 - plan.positive_share,
        num_samples=plan.crops,
        fg_indices_key="positive",
        bg_indices_key="negative",
    )
    return Compose([crop, *(make_transform(definition) for definition in plan.augmentation)])
