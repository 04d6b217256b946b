"""A real head whose cortex is known: the subject of pycortex, with FreeSurfer's surfaces.

The source distribution of pycortex on PyPI (BSD-2-Clause) holds a T1 of a whole head and the white
and pial surfaces that FreeSurfer drew in it. Between the two lies the cortex; within the white one
lie white matter, ventricles and deep grey matter::

    pip download --no-deps --no-binary :all: pycortex && tar xzf pycortex-*.tar.gz

The folder to give is ``pycortex-*/filestore/db/S1``. Nothing of it is committed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

CORTEX = {"l": 3, "r": 42}
WITHIN = {"l": 2, "r": 41}
"""Values of the truth: FreeSurfer's ids of cortex, and of white matter for all within it."""
_ASIDE = (1e-4, 1.3e-4, 1.7e-4)  # voxels by which surfaces are moved, so that no ray hits a vertex


def read_ribbon(folder: Path) -> tuple[Path, npt.NDArray[np.uint8]]:
    """Return the file of the head, and what its surfaces enclose, ``(i, j, k)``."""
    scan = folder / "anatomicals/raw.nii.gz"
    image = nib.Nifti1Image.from_filename(scan)
    truth = np.zeros(image.shape, np.uint8)
    for side in CORTEX:
        white, pial = (
            enclosed(folder / f"surfaces/{name}_{side}h.gii", image.affine, image.shape)
            for name in ("wm", "pia")
        )
        truth[pial & ~white], truth[white] = CORTEX[side], WITHIN[side]
    return scan, truth


def enclosed(
    path: Path, affine: npt.NDArray[np.float64], shape: tuple[int, ...]
) -> npt.NDArray[np.bool_]:
    """Return which voxels a closed surface encloses: rays have crossed it an odd number of times.

    Parameters
    ----------
    path
        GIFTI: vertices in RAS mm, and triangles.
    affine, shape
        Of the grid.
    """
    points, triangles = (array.data for array in nib.GiftiImage.from_filename(path).darrays[:2])
    inverse = np.linalg.inv(affine)
    corners = (points @ inverse[:3, :3].T + inverse[:3, 3] + _ASIDE)[triangles]
    low = np.ceil(corners[:, :, 1:].min(axis=1)).astype(int)
    spans = np.floor(corners[:, :, 1:].max(axis=1)).astype(int) - low + 1
    crossings = np.zeros(shape, np.int32)
    for j, k in np.ndindex(*spans.max(axis=0)):
        some = (spans[:, 0] > j) & (spans[:, 1] > k)
        at = low[some] + (j, k)
        x, hit = _where_rays_hit(corners[some], at)
        first = np.clip(np.ceil(x[hit]).astype(int), 0, shape[0] - 1)
        np.add.at(crossings, (first, *at[hit].T), 1)
    inside: npt.NDArray[np.bool_] = np.cumsum(crossings, axis=0) % 2 == 1
    return inside


def _where_rays_hit(
    corners: npt.NDArray[np.float64], at: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return where rays along the first axis cross planes of triangles, and which cross within."""
    a = corners[:, 0]
    u, v, p = (each[:, 1:] - a[:, 1:] for each in (corners[:, 1], corners[:, 2], _at_plane(at)))
    area = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        s = (p[:, 0] * v[:, 1] - p[:, 1] * v[:, 0]) / area
        t = (u[:, 0] * p[:, 1] - u[:, 1] * p[:, 0]) / area
    x = a[:, 0] + s * (corners[:, 1, 0] - a[:, 0]) + t * (corners[:, 2, 0] - a[:, 0])
    return x, (s >= 0) & (t >= 0) & (s + t <= 1)


def _at_plane(at: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return rays' places as points of the plane where the first coordinate is 0."""
    return np.column_stack([np.zeros(len(at)), at])
