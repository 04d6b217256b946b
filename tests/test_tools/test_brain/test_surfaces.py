from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
from skimage.measure import marching_cubes

from brain.surfaces import CORTEX, WITHIN, enclosed, read_ribbon

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SHAPE = (30, 26, 28)
AFFINE = np.array([[-1.0, 0, 0, 15], [0, 0, 1, -13], [0, -1, 0, 14], [0, 0, 0, 1]])
"""Axes run as in FreeSurfer's conformed images: left, inferior, anterior."""


def distance(centre: tuple[float, float, float]) -> NDArray[np.floating]:
    return np.linalg.norm(np.indices(SHAPE) - np.reshape(centre, (3, 1, 1, 1)), axis=0)


def write_ball(path: Path, centre: tuple[float, float, float], radius: float) -> None:
    """Write the surface of a ball, in RAS mm."""
    points, triangles, _, _ = marching_cubes(radius - distance(centre), 0.0)
    placed = points @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    arrays = [
        nib.gifti.GiftiDataArray(placed.astype(np.float32), "NIFTI_INTENT_POINTSET"),
        nib.gifti.GiftiDataArray(triangles.astype(np.int32), "NIFTI_INTENT_TRIANGLE"),
    ]
    nib.save(nib.gifti.GiftiImage(darrays=arrays), path)


def test_a_surface_encloses_the_voxels_of_its_ball(tmp_path: Path) -> None:
    centre = (14.3, 12.6, 13.1)
    write_ball(tmp_path / "ball.gii", centre, 8.0)
    inside = enclosed(tmp_path / "ball.gii", AFFINE, SHAPE)
    away = np.abs(distance(centre) - 8.0) > 0.1  # marching cubes are no ball to the last digit
    assert np.array_equal(inside[away], (distance(centre) < 8.0)[away])
    assert inside.sum() > 2000


def test_cortex_lies_between_the_two_surfaces_of_each_side(tmp_path: Path) -> None:
    for name in ("anatomicals", "surfaces"):
        (tmp_path / name).mkdir()
    nib.save(
        nib.Nifti1Image(np.zeros(SHAPE, np.uint8), AFFINE), tmp_path / "anatomicals/raw.nii.gz"
    )
    centres = {"l": (22.2, 12.6, 13.1), "r": (7.3, 12.4, 13.2)}
    for side, centre in centres.items():
        write_ball(tmp_path / f"surfaces/wm_{side}h.gii", centre, 3.0)
        write_ball(tmp_path / f"surfaces/pia_{side}h.gii", centre, 6.0)
    scan, truth = read_ribbon(tmp_path)
    assert scan.is_file()
    for side, centre in centres.items():
        apart = distance(centre)
        assert set(np.unique(truth[apart < 2.8])) == {WITHIN[side]}
        assert set(np.unique(truth[(apart > 3.2) & (apart < 5.8)])) == {CORTEX[side]}
    assert not truth[(distance(centres["l"]) > 6.2) & (distance(centres["r"]) > 6.2)].any()
