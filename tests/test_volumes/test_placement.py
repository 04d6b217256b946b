import itertools
import pickle

import numpy as np
import pytest

from napari_tokensparse.volumes.placement import (
    KEY,
    NOTE_FOREIGN_LAYER,
    layer_kwargs,
    orientation_known,
    placement_of,
    volume_from_layer_data,
)
from napari_tokensparse.volumes.volume import NOTE_NO_ORIENTATION, Volume, VolumeError

SHAPE = (3, 4, 5)
SPACING = (0.5, 1.25, 3.0)
ORIENTATIONS = [
    (axes, signs)
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def affine_of(axes, signs):
    """File axis n runs along world axis ``axes[n]`` (R, A, S), forwards or backwards."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for n, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[axis, n] = sign * SPACING[n]
    affine[:3, 3] = (-17.3, 41.9, 5.55)
    return affine


def tilted(degrees, about=0):
    a = np.radians(degrees)
    i, j = (about + 1) % 3, (about + 2) % 3
    affine = affine_of((0, 1, 2), (1, 1, 1))
    turn = np.eye(3)
    turn[i, i] = turn[j, j] = np.cos(a)
    turn[i, j], turn[j, i] = -np.sin(a), np.sin(a)
    affine[:3, :3] = turn @ affine[:3, :3]
    return affine


def centre_lps_zyx(affine):
    r, a, s = affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2) + affine[:3, 3]
    return np.array([s, -a, -r])


def world(scale, translate):
    matrix = np.diag([*scale, 1.0])
    matrix[:3, 3] = translate
    return matrix


def make(affine, **more):
    return Volume(np.arange(60, dtype=np.int16).reshape(1, *SHAPE), affine, "scan", **more)


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)
def test_each_voxel_of_each_of_the_48_orientations_is_shown_at_its_lps_position(axes, signs):
    affine = affine_of(axes, signs)
    placement = placement_of(affine, SHAPE)
    index = np.indices(SHAPE)
    r, a, s = np.tensordot(affine[:3, :3], index, 1) + affine[:3, 3, None, None, None]
    true = placement.view(np.stack([s, -a, -r]))

    shown = np.indices(true.shape[1:]) * np.reshape(placement.scale, (3, 1, 1, 1))
    shown += np.reshape(placement.translate, (3, 1, 1, 1))

    assert np.abs(shown - true).max() < 1e-9
    assert min(placement.scale) > 0
    assert placement.oblique_degrees == pytest.approx(0, abs=1e-6)
    assert not placement.is_oblique


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)
def test_views_share_memory_and_undo_each_other(axes, signs):
    placement = placement_of(affine_of(axes, signs), SHAPE)
    array = np.arange(120).reshape(2, *SHAPE)
    shown = placement.view(array)
    assert np.shares_memory(shown, array)
    assert np.shares_memory(placement.unview(shown), array)
    assert np.array_equal(placement.unview(shown), array)


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)
def test_an_index_goes_to_the_shown_voxel_and_back(axes, signs):
    placement = placement_of(affine_of(axes, signs), SHAPE)
    array = np.arange(60).reshape(SHAPE)
    for index in np.ndindex(SHAPE):
        z, y, x = map(int, placement.to_shown(index, SHAPE))
        assert placement.view(array)[z, y, x] == array[index]
        assert placement.to_file((z, y, x), SHAPE) == index
    assert placement.to_file(placement.to_shown((0.5, -0.5, 2.25), SHAPE), SHAPE) == (
        *(0.5, -0.5, 2.25),
    )


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)
def test_a_layer_gives_the_files_volume_back_without_copying(axes, signs):
    volume = make(affine_of(axes, signs))
    kwargs = pickle.loads(pickle.dumps(layer_kwargs(volume)))
    data = placement_of(volume.affine, SHAPE).view(volume.array[0])
    back, known = volume_from_layer_data(
        data, world(kwargs["scale"], kwargs["translate"]), kwargs["metadata"], "scan"
    )
    assert known
    assert np.shares_memory(back.array, volume.array)
    assert np.array_equal(back.array, volume.array)
    assert np.array_equal(back.affine, volume.affine)


@pytest.mark.parametrize("about", [0, 1, 2])
@pytest.mark.parametrize("degrees", [0.05, 7.5, 30.0])
def test_an_oblique_volume_keeps_its_centre_and_says_how_far_it_is_turned(degrees, about):
    affine = tilted(degrees, about)
    placement = placement_of(affine, SHAPE)
    last = np.array(SHAPE)[list(placement.axes)] - 1
    centre = np.array(placement.translate) + np.array(placement.scale) * last / 2
    assert centre == pytest.approx(centre_lps_zyx(affine), abs=1e-9)
    assert placement.oblique_degrees == pytest.approx(degrees, abs=1e-4)
    assert placement.scale == pytest.approx(tuple(np.array(SPACING)[list(placement.axes)]))
    notes = layer_kwargs(make(affine))["metadata"][KEY]["notes"]
    assert notes == () if degrees < 0.1 else f"by {degrees:.1f} degrees" in notes[0]


def test_an_oblique_layer_gives_back_its_exact_affine_and_one_note():
    volume = make(tilted(30))
    kwargs = layer_kwargs(volume)
    data = placement_of(volume.affine, SHAPE).view(volume.array[0])
    place = world(kwargs["scale"], kwargs["translate"])
    back, known = volume_from_layer_data(data, place, kwargs["metadata"], "scan")
    assert known
    assert np.array_equal(back.affine, volume.affine)
    assert len(layer_kwargs(back)["metadata"][KEY]["notes"]) == 1


def test_layer_arguments_state_millimetres_axes_and_the_channel():
    volume = make(affine_of((0, 1, 2), (1, 1, 1)), channel_names=("T1",))
    kwargs = layer_kwargs(volume)
    assert kwargs["units"] == ("mm", "mm", "mm")
    assert kwargs["axis_labels"] == ("z", "y", "x")
    assert kwargs["scale"] == (3.0, 1.25, 0.5)
    assert kwargs["translate"] == pytest.approx((5.55, -41.9 - 3 * 1.25, 17.3 - 2 * 0.5))
    mine = kwargs["metadata"][KEY]
    assert (mine["name"], mine["channel"], mine["shape"]) == ("scan", "T1", SHAPE)
    assert (mine["axes"], mine["flips"]) == ((2, 1, 0), (False, True, True))


def test_a_foreign_layer_is_taken_as_shown_and_its_orientation_is_unknown():
    data = np.arange(60, dtype=np.float32).reshape(5, 4, 3)
    volume, known = volume_from_layer_data(
        data, world((3.0, 1.5, 0.5), (10.0, 20.0, 30.0)), {}, "image"
    )
    assert not known
    assert volume.notes == (NOTE_FOREIGN_LAYER,)
    assert volume.spacing == (0.5, 1.5, 3.0)
    assert np.shares_memory(volume.array, data)
    kwargs = layer_kwargs(volume)
    assert kwargs["scale"] == pytest.approx((3.0, 1.5, 0.5))
    assert kwargs["translate"] == pytest.approx((10.0, 20.0, 30.0))
    shown = placement_of(volume.affine, volume.shape).view(volume.array[0])
    assert np.array_equal(shown, data)
    again, known = volume_from_layer_data(
        shown, world(kwargs["scale"], kwargs["translate"]), kwargs["metadata"], "image"
    )
    assert not known
    assert again.notes == (NOTE_FOREIGN_LAYER,)


@pytest.mark.parametrize("change", ["cropped", "moved", "rescaled"])
def test_a_layer_changed_since_it_was_read_counts_as_foreign(change):
    volume = make(affine_of((1, 2, 0), (1, -1, 1)))
    kwargs = layer_kwargs(volume)
    data = placement_of(volume.affine, SHAPE).view(volume.array[0])
    scale, translate = np.array(kwargs["scale"]), np.array(kwargs["translate"])
    if change == "cropped":
        data = data[1:]
    elif change == "moved":
        translate = translate + 1
    else:
        scale = scale * 2
    back, known = volume_from_layer_data(data, world(scale, translate), kwargs["metadata"], "scan")
    assert not known
    assert back.spacing == pytest.approx(tuple(scale[::-1]))


def test_orientation_is_unknown_where_the_file_does_not_state_it():
    volume = make(np.eye(4), notes=(NOTE_NO_ORIENTATION,))
    assert not orientation_known(layer_kwargs(volume)["metadata"])
    assert orientation_known(layer_kwargs(make(np.eye(4)))["metadata"])
    assert not orientation_known({})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((8, 9)), "image: has 2 axes; choose a 3-D image, one channel"),
        (np.zeros((2, 3, 4, 5)), "image: has 4 axes"),
        (np.full((3, 4, 5), np.nan), r"image: contains NaN \(60 voxels\)"),
    ],
)
def test_layer_data_that_are_no_volume_are_refused(data, message):
    with pytest.raises(VolumeError, match=message):
        volume_from_layer_data(data, np.eye(4), {}, "image")


def test_a_mask_layer_becomes_integers():
    data = np.ones((3, 4, 5), dtype=bool)
    volume, _ = volume_from_layer_data(data, np.eye(4), {}, "mask")
    assert volume.array.dtype == np.uint8
