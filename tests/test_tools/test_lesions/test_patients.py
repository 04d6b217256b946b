from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lesions.patients import CARD, CHOOSING, PATIENTS, TRAINING, lesions_of, read_lesions


def test_a_mask_is_read_in_ras_with_distances_to_its_surface(tmp_path: Path) -> None:
    mask = np.zeros((30, 28, 26), np.uint8)
    mask[4:9, 10:15, 12:17] = 1
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = (20, -12, -9)
    nib.Nifti1Image(mask, affine).to_filename(tmp_path / "mask_05.nii.gz")
    lesions = read_lesions(tmp_path, 5)
    # x runs from 20 down: the cube lies at 12 to 16 mm.
    at = [round(mm - float(first)) for mm, first in zip((14, 0, 5), lesions.first, strict=True)]
    i, j, k = at
    assert float(lesions.outside_mm[i, j, k]) == pytest.approx(-2.5)
    assert float(lesions.outside_mm[i + 2, j, k]) == pytest.approx(-0.5)
    assert float(lesions.outside_mm[i + 3, j, k]) == pytest.approx(0.5)
    assert float(lesions.outside_mm[i + 5, j, k]) == pytest.approx(2.5)
    assert float(lesions.outside_mm[0].min()) == 6.0  # far is far enough


def test_growing_by_a_distance_is_a_threshold() -> None:
    mask = np.zeros((20, 20, 20), np.bool_)
    mask[8:12, 8:12, 8:12] = True
    outside = lesions_of(mask, np.eye(4)).outside_mm
    assert int((outside < 0).sum()) == 64
    assert int((outside < 0.6).sum()) == 64 + 6 * 16
    assert int((outside < -0.6).sum()) == 8


def test_nobody_is_trained_on_and_judged_by() -> None:
    assert set(TRAINING) | set(CHOOSING) | set(CARD) == set(PATIENTS)
    assert len(TRAINING) + len(CHOOSING) + len(CARD) == len(PATIENTS) == 28
    assert CHOOSING == (7,)
