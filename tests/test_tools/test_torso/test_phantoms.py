import numpy as np
from scipy import ndimage

from torso.phantoms import SHAPE, SPACING_MM, phantom


def test_lesions_are_small_and_stand_out_from_their_organ() -> None:
    made, again = phantom(1000), phantom(1000)
    assert made.image.shape == made.lesions.shape == SHAPE
    assert np.array_equal(made.image, again.image)
    _, count = ndimage.label(made.lesions)
    assert count >= 2
    ml = made.lesions.sum() * SPACING_MM**3 / 1000
    assert 1 < ml < 100
    near = ndimage.binary_dilation(made.lesions, iterations=4) & ~made.lesions
    contrast = made.image[made.lesions].mean() - np.median(made.image[near])
    assert contrast > 300 or -75 < contrast < -20  # in the lungs, in the liver


def test_most_windows_hold_nothing_to_find() -> None:
    lesions = phantom(1000).lesions
    h, w, d = (n // 16 for n in SHAPE)
    held = lesions.reshape(h, 16, w, 16, d, 16).any(axis=(1, 3, 5))
    assert 0 < held.mean() < 0.1
