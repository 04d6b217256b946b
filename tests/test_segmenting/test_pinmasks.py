from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_tokensparse.model.scd import SCD
from napari_tokensparse.segmenting.options import options_for
from napari_tokensparse.segmenting.pinmasks import pins_under, read_pins
from napari_tokensparse.segmenting.result import SegmentError
from napari_tokensparse.volumes.volume import Volume, write_nifti


@pytest.fixture(scope="module")
def model(make_model: Callable[..., SCD]) -> SCD:
    return make_model()


@pytest.fixture(scope="module")
def volume() -> Volume:
    noise = np.random.default_rng(0).normal(size=(1, 32, 32, 48)).astype(np.float32)
    return Volume(noise, np.eye(4), "noise")


def test_pins_are_given_as_numbers_or_as_a_mask_on_the_scans_grid(
    model: SCD, volume: Volume, tmp_path: Path
) -> None:
    mask = np.zeros(volume.shape, np.uint8)
    mask[0, 0, :9] = 1
    write_nifti(tmp_path / "mask.nii.gz", mask, volume)
    options = options_for(model)
    numbers = pins_under(mask, volume, model)
    assert numbers is not None
    assert read_pins(str(tmp_path / "mask.nii.gz"), volume, model, options) == numbers
    turned = volume.affine @ np.array(
        [[0, -1, 0, 31], [1, 0, 0, 0], [0, 0, -1, 47], [0, 0, 0, 1.0]]
    )
    other = Volume(np.flip(volume.array.swapaxes(1, 2), (2, 3)), turned, "other")
    write_nifti(tmp_path / "other.nii.gz", np.flip(mask.swapaxes(0, 1), (1, 2)), other)
    assert read_pins(str(tmp_path / "other.nii.gz"), volume, model, options) == numbers
    assert read_pins("3-5", volume, model, options) == "3-5"
    moved = Volume(volume.array, volume.affine + np.eye(4, k=3), "moved")
    write_nifti(tmp_path / "moved.nii.gz", mask, moved)
    with pytest.raises(SegmentError, match="must lie on the grid of noise"):
        read_pins(str(tmp_path / "moved.nii.gz"), volume, model, options)
