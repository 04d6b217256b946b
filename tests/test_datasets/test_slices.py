"""Labels of a few slices are told from labels of a whole structure."""

import numpy as np

from napari_tokensparse.datasets.slices import PaintedSlices, painted_slices


def ball(shape: tuple[int, int, int], radius: float) -> np.ndarray:
    voxels = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in shape], indexing="ij"))
    return ((voxels**2).sum(axis=0) < radius**2).astype(np.uint8)


def test_slices_painted_across_a_large_structure_are_told_along_whichever_axis() -> None:
    painted = ball((108, 40, 40), 19)
    kept = np.zeros(108, bool)
    kept[[40, 44, 48, 52, 56, 60, 64, 66]] = True
    painted[~kept] = 0
    slices = painted_slices(painted)
    assert slices == PaintedSlices(8, 108)
    assert "8 of 108 slices" in slices.note and "--zero-is-unlabelled" in slices.note
    assert painted_slices(painted.transpose(1, 2, 0)) == slices


def test_slices_beside_one_another_are_told_too() -> None:
    painted = ball((60, 40, 40), 19)
    painted[:26] = painted[34:] = 0
    assert painted_slices(painted) == PaintedSlices(8, 60)


def test_structures_that_taper_off_and_volumes_labelled_throughout_are_no_paint() -> None:
    small = ball((60, 60, 60), 8)  # in a fourth of the slices
    assert painted_slices(small) is None
    several = np.maximum(np.roll(small, 20, axis=0), np.roll(small, -20, axis=0))
    assert painted_slices(several) is None
    assert painted_slices(np.ones((20, 20, 20), np.uint8)) is None
    assert painted_slices(np.zeros((20, 20, 20), np.uint8)) is None
