import numpy as np

from napari_tokensparse.contributions.sample import load_sample


def test_the_sample_brain_is_one_image_placed_like_any_file():
    ((data, kwargs, kind),) = load_sample()
    assert kind == "image"
    assert (data.shape, data.dtype) == ((189, 233, 197), np.uint8)
    assert kwargs["name"] == "mni_icbm152_t1_1mm"
    assert kwargs["scale"] == (1, 1, 1)
    assert kwargs["translate"] == (-72, -98, -98)
    assert kwargs["units"] == ("mm", "mm", "mm")
