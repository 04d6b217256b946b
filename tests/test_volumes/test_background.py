"""Background is told from a border of one value, not from 0 or a sign alone."""

from __future__ import annotations

from dataclasses import replace

import dask.array
import numpy as np
import pytest

from napari_tokensparse.volumes.background import background_by_sign, border_value, negative_share
from napari_tokensparse.volumes.preprocess import PreprocessError, preprocess, preprocess_pair
from napari_tokensparse.volumes.volume import Volume

CROP = {"_target_": "CropForegroundd", "keys": "image", "source_key": "image"}
NORMAL = {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True, "channel_wise": True}
RANGE = {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": 0.0, "a_max": 9.0}
TURN = {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"}
SPACE = {"_target_": "Spacingd", "keys": "image", "pixdim": [2.0] * 3, "mode": "bilinear"}
MODEL = (TURN, CROP, NORMAL)


def brain() -> Volume:
    """Make a ball of values from 1 to 900 in a border of 0."""
    places = np.stack(np.meshgrid(*[np.arange(24.0)] * 3, indexing="ij"))
    ball = ((places - 11.5) ** 2).sum(axis=0) < 81
    values = np.random.default_rng(0).uniform(1, 900, ball.shape)
    array = np.where(ball, values, 0).astype(np.float32)
    return Volume(array[None], np.eye(4), "brain")


def changed(how: str) -> Volume:
    volume = brain()
    values, inside = volume.array, volume.array != 0
    z = (values - values[inside].mean()) / values[inside].std()
    ways = {
        "z-scored within": np.where(inside, z, 0),
        "z-scored as a whole": (values - values.mean()) / values.std(),
        "all negative": values - 1000,
        "all positive": values + 40,
        "integers from -1024": (values * 2).round().astype(np.int16) - 1024,
    }
    array = ways[how]
    return replace(volume, array=array if array.dtype.kind == "i" else array.astype(np.float32))


@pytest.mark.parametrize(
    "how",
    [
        *("z-scored within", "z-scored as a whole", "all negative", "all positive"),
        "integers from -1024",
    ],
)
def test_a_brain_looks_the_same_to_the_model_however_it_was_scaled(how):
    raw = preprocess(brain(), MODEL)
    prepared = preprocess(changed(how), MODEL)
    assert prepared.image.shape == raw.image.shape == (1, 18, 18, 18)
    assert prepared.axes == raw.axes
    assert ((prepared.image == 0) == (raw.image == 0)).all()
    assert (prepared.image - raw.image).abs().max() < 4e-3
    (note,) = prepared.notes
    assert note.startswith("its border is ")


@pytest.mark.parametrize(
    "how", ["z-scored within", "all negative", "all positive", "integers from -1024"]
)
@pytest.mark.parametrize("definitions", [MODEL, (TURN, SPACE, CROP, NORMAL)])
def test_a_volume_that_is_read_block_by_block_is_shifted_as_one_in_memory(how, definitions):
    volume = changed(how)
    blocks = replace(volume, array=dask.array.from_array(volume.array, (1, 9, 24, 10)))
    prepared, wanted = preprocess(blocks, definitions), preprocess(volume, definitions)
    assert prepared.notes == wanted.notes != ()
    assert prepared.axes == wanted.axes
    assert ((prepared.image == 0) == (wanted.image == 0)).all()
    assert (prepared.image - wanted.image).abs().max() < 1e-5


def test_the_label_follows_as_it_does_without():
    volume = brain()
    label = replace(volume, array=(volume.array > 400).astype(np.uint8))
    image, truth = preprocess_pair(volume, label, MODEL)
    shifted, same = preprocess_pair(changed("z-scored within"), label, MODEL)
    assert np.array_equal(truth, same)
    assert (image - shifted).abs().max() < 4e-3


@pytest.mark.parametrize("definitions", [MODEL, (TURN, SPACE, CROP, NORMAL)])
@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.int16])
def test_a_border_of_0_and_nothing_negative_changes_no_bit(definitions, dtype, monkeypatch):
    volume = replace(brain(), array=brain().array.astype(dtype))
    prepared = preprocess(volume, definitions)
    assert prepared.notes == ()
    monkeypatch.setattr(
        "napari_tokensparse.volumes.preprocess.with_zero_background", lambda v, _: (v, ())
    )
    assert np.array_equal(prepared.image, preprocess(volume, definitions).image)


def test_ringing_below_0_is_left_as_it_is():
    volume = brain()
    volume.array[0, 12, 12, :3] = -0.5
    assert 0 < negative_share(volume.array[0]) < 0.01
    assert preprocess(volume, MODEL).notes == ()


def test_each_channel_has_a_border_of_its_own():
    two = np.concatenate([brain().array, brain().array - 1000])
    prepared = preprocess(replace(brain(), array=two), MODEL)
    assert prepared.notes == ("channel 2: its border is -1000, which was taken as background, 0",)
    assert (prepared.image[0] - prepared.image[1]).abs().max() < 1e-4


def test_without_a_border_of_one_value_nothing_left_says_why():
    noise = np.random.default_rng(1).uniform(-900, -1, (1, 12, 12, 12)).astype(np.float32)
    with pytest.raises(PreprocessError, match=r"border is not of one value, .*; set background to"):
        preprocess(Volume(noise, np.eye(4), "scan"), MODEL)


def test_ranges_of_intensity_are_left_alone():
    hounsfield = replace(brain(), array=brain().array - 1000)
    assert preprocess(hounsfield, (TURN, RANGE, NORMAL)).notes == ()


@pytest.mark.parametrize(
    ("definitions", "by_sign"),
    [
        (MODEL, True),
        ((TURN, SPACE, NORMAL, CROP), True),
        ((TURN, {**NORMAL, "nonzero": False}, CROP), False),
        ((TURN, {**NORMAL, "subtrahend": 90.0, "divisor": 30.0}), False),
        ((TURN, RANGE, CROP), False),
        ((TURN, CROP, RANGE), False),
        ((TURN, SPACE), False),
    ],
)
def test_which_preprocessing_tells_background_by_sign(definitions, by_sign):
    assert background_by_sign(definitions) is by_sign


def test_a_border_is_what_the_corners_and_half_of_the_faces_hold():
    array = np.full((8, 8, 8), 7)
    array[2:, 2:7, 2:7] = 9  # reaches a face
    assert border_value(array) == 7
    array[-1, -1, -1] = 8
    assert border_value(array) is None
    faces = np.full((8, 8, 8), 7)
    faces[1:7, 1:7] = faces[1:7, :, 1:7] = faces[:, 1:7, 1:7] = 9
    assert border_value(faces) is None
