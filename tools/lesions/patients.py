"""Masks of patients' lesions in MNI space, as distances that can be grown, shrunk and moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

PATIENTS = (*range(1, 19), *range(20, 26), *range(27, 31))
"""Numbers of the patients whose masks there are."""
CHOOSING, CARD = (7,), (27, 28)
"""The one whose images there are, to choose settings by; two of whom nothing is chosen."""
TRAINING = tuple(number for number in PATIENTS if number not in (*CHOOSING, *CARD))

_REACH_MM = 6.0


@dataclass(frozen=True, eq=False)
class Lesions:
    """A patient's lesions.

    Attributes
    ----------
    outside_mm
        ``(i, j, k)`` float32 signed distance to the lesions' surface in mm, positive outside and at
        most 6, on a box of the MNI grid (1 mm, RAS).
    first
        ``(3,)`` MNI position in mm of the box's first voxel.
    """

    outside_mm: torch.Tensor
    first: torch.Tensor


def read_mask(path: Path) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Read a mask, turned to RAS, and its affine."""
    image = nib.as_closest_canonical(nib.load(path))
    return np.asanyarray(image.dataobj) > 0, np.asarray(image.affine)


def read_lesions(folder: Path, number: int) -> Lesions:
    """Read a patient's lesions from ``mask_NN.nii.gz`` of a folder."""
    return lesions_of(*read_mask(folder / f"mask_{number:02d}.nii.gz"))


def lesions_of(mask: npt.NDArray[np.bool_], affine: npt.NDArray[np.float64]) -> Lesions:
    """Prepare a mask ``(i, j, k)`` on a grid of 1 mm in RAS order."""
    margin = round(_REACH_MM) + 1
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    first = affine[:3, 3] + [span.start - margin for span in box]
    cut = np.pad(mask[box], margin)
    outside = ndimage.distance_transform_edt(~cut) - 0.5
    inside = 0.5 - ndimage.distance_transform_edt(cut)
    distance = np.where(cut, inside, outside).clip(max=_REACH_MM)
    return Lesions(
        torch.from_numpy(distance.astype(np.float32)),
        torch.from_numpy(first.astype(np.float32)),
    )
