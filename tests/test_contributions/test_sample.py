import numpy as np
from scipy import ndimage

from napari_tokensparse.contributions.sample import load_patient, load_sample


def test_the_sample_brain_is_one_image_placed_like_any_file():
    ((data, kwargs, kind),) = load_sample()
    assert kind == "image"
    assert (data.shape, data.dtype) == ((189, 233, 197), np.uint8)
    assert kwargs["name"] == "mni_icbm152_t1_1mm"
    assert kwargs["scale"] == (1, 1, 1)
    assert kwargs["translate"] == (-72, -98, -98)
    assert kwargs["units"] == ("mm", "mm", "mm")


def test_the_patient_that_never_was_has_lesions_in_white_matter_brighter_than_it():
    (flair, said, kind), (truth, its, other) = load_patient()
    assert (kind, other, its["visible"]) == ("image", "labels", False)
    assert flair.shape == truth.shape == (189, 233, 197)
    assert said["scale"] == its["scale"] == (1, 1, 1)
    assert said["translate"] == its["translate"] == (-72, -98, -98)
    ((t1, _, _),) = load_sample()
    np.testing.assert_array_equal(flair > 0, t1 > 0)  # outside the brain exactly 0
    lesion = truth > 0
    white = (t1 > 206) & ~lesion
    cortex = (t1 > 155) & (t1 < 175)
    assert 1_000 < lesion.sum() < 6_000
    assert np.median(t1[lesion]) > 200
    assert np.median(flair[lesion]) > np.median(flair[cortex]) + 5 > np.median(flair[white]) + 25
    components, count = ndimage.label(lesion, np.ones((3, 3, 3)))
    sizes = np.bincount(components.ravel())[1:]
    assert count > 15
    assert sizes.min() < 20 < 200 < sizes.max()
    again = load_patient()
    np.testing.assert_array_equal(again[0][0], flair)
