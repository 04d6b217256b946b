"""What the Train widget runs in its thread, without a window."""

import numpy as np
import pytest
from napari.layers import Image, Labels

from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.training.runconfig import RunConfig
from napari_tokensparse.volumes.placement import layer_kwargs, placement_of
from napari_tokensparse.volumes.volume import Volume
from napari_tokensparse.widgets.layers import PLACEMENT, RESULT_KEY
from napari_tokensparse.widgets.train.preview import preview_layers
from napari_tokensparse.widgets.train.run import CasePreview, TrainRequest, layer_pair

OBLIQUE = np.array([[0.0, 1.9, 0.3, -9], [-2.0, 0, 0, 8], [0, -0.4, 2.4, 7], [0, 0, 0, 1]])


def scan(shape=(6, 7, 8)):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 200, (1, *shape)).astype(np.int16)
    return Volume(array, OBLIQUE, "scan", ("T1",))


def layers(volume):
    """Return the image layer of our reader, and the labels layer of napari's button."""
    view = placement_of(volume.affine, volume.shape).view
    image = Image(view(volume.array[0]), name="scan T1", **layer_kwargs(volume))
    where = {name: getattr(image, name) for name in PLACEMENT if name != "metadata"}
    return image, Labels(view(np.zeros(volume.shape, np.uint8)).copy(), name="new", **where)


def test_layers_become_volumes_on_the_files_grid_and_later_painting_is_not_seen():
    volume = scan()
    image, labels = layers(volume)
    labels.data[1, 2, 3] = 5
    pair = layer_pair(image, labels)
    labels.data[:] = 9
    np.testing.assert_array_equal(pair.image.affine, OBLIQUE)
    np.testing.assert_array_equal(pair.label.affine, OBLIQUE)
    np.testing.assert_array_equal(pair.image.array, volume.array)
    assert pair.image.name == "scan T1"
    painted = placement_of(OBLIQUE, volume.shape).view(pair.label.array[0])
    assert np.argwhere(painted).tolist() == [[1, 2, 3]]
    assert painted[1, 2, 3] == 5


def test_labels_that_lie_elsewhere_do_not_get_the_images_grid():
    image, labels = layers(scan())
    labels.translate = np.array(labels.translate) + 10
    pair = layer_pair(image, labels)
    assert not np.allclose(pair.label.affine, OBLIQUE)


def test_a_colour_image_is_refused():
    image = Image(np.zeros((4, 5, 6, 3), np.uint8), rgb=True, name="photo")
    with pytest.raises(ValueError, match=r"^photo: is a colour image; choose a 3-D scan"):
        layer_pair(image, Labels(np.zeros((4, 5, 6), np.uint8)))


def test_the_data_set_of_layers_takes_the_names_of_the_labels_layer(tmp_path):
    image, labels = layers(scan())
    labels.data[0], labels.data[1] = 1, 3
    labels.features = {"index": [0, 3], "name": ["background", "tumour"]}
    request = TrainRequest(
        RunConfig(output=tmp_path, zero_is_unlabelled=True), (layer_pair(image, labels),)
    )
    data_set = request.data_set()
    assert data_set.labels == {1: "label 1", 3: "tumour"}
    assert data_set.unlabelled == 0
    assert [case.name for case in data_set.training] == ["scan T1"]


def preview(image_is_open):
    volume = scan()
    info = ModelInfo(
        name="m", channels=("T1",), classes=(LabelClass(value=7, name="seven", color=(255, 0, 0)),)
    )
    labels = np.zeros(volume.shape, np.uint8)
    labels[1, 2, 3] = 7
    return CasePreview("scan", volume, labels, layer_kwargs(volume), image_is_open, info)


def test_the_preview_of_a_file_lies_over_its_image_where_the_image_lies():
    shown = preview(image_is_open=False)
    image, labels = preview_layers(shown)
    assert (image.name, labels.name) == ("scan preview image", "scan preview")
    where = placement_of(OBLIQUE, shown.image.shape)
    np.testing.assert_array_equal(where.unview(image.data), shown.image.array[0])
    np.testing.assert_array_equal(where.unview(labels.data), shown.labels)
    expected = layer_kwargs(shown.image)
    for spec, kind in ((image, "preview image"), (labels, "preview")):
        layer = spec.kind(spec.data, **spec.kwargs)
        assert layer.metadata[RESULT_KEY] == kind
        np.testing.assert_array_equal(layer.metadata["tokensparse"]["affine"], OBLIQUE)
        np.testing.assert_allclose(layer.scale, expected["scale"])
        np.testing.assert_allclose(layer.translate, expected["translate"])
        assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
        assert layer.axis_labels == ("z", "y", "x")
    assert list(labels.kwargs["features"]["name"]) == ["background", "seven"]


def test_the_preview_of_an_open_image_is_its_labels_alone():
    (labels,) = preview_layers(preview(image_is_open=True))
    assert labels.name == "scan preview"
