from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_tokensparse.datasets.cases import (
    Case,
    DataError,
    DataSet,
    layers_data_set,
    split,
    with_classes,
)
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import Volume, VolumeError, write_nifti

SHAPE = (4, 3, 2)


def volume(array, name="scan", channel_names=()):
    array = np.asarray(array)
    return Volume(array if array.ndim == 4 else array[None], np.eye(4), name, channel_names)


def painted(*values):
    """Return a label of which one voxel each has these values."""
    array = np.zeros(SHAPE, np.int16)
    array.ravel()[: len(values)] = values
    return volume(array, "painting")


def data_set(count, validation=0):
    cases = [Case(f"case {n}", Path(f"{n}.nii"), Path(f"l{n}.nii")) for n in range(count)]
    return DataSet("set", ("CT",), {1: "one"}, tuple(cases[validation:]), tuple(cases[:validation]))


def names(cases):
    return [case.name for case in cases]


def test_a_case_in_memory_is_read_as_it_is():
    image, label = volume(np.ones((2, *SHAPE))), painted(1)
    case = Case("a", image, label)
    assert case.read_image() is image
    assert case.read_label().array.tolist() == label.array.tolist()


def test_a_fourth_axis_of_a_file_is_its_channels_and_a_label_of_floats_becomes_integers(write_msd):
    folder = write_msd("tubes", cases=1, shape=(16, 12, 8))
    stored = read_volume(folder / "labelsTr/tubes_000.nii.gz")
    path = write_nifti(folder / "floats.nii.gz", stored.array[0].astype(np.float32), stored)
    case = Case("a", folder / "imagesTr/tubes_000.nii.gz", path)
    assert case.read_image().array.shape == (2, 16, 12, 8)
    label = case.read_label().array
    assert label.dtype == np.int64
    assert np.array_equal(label, stored.array)


def test_a_label_that_its_file_scales_is_rounded_with_a_note(tmp_path):
    wanted = np.resize([0.0, 3.0, 17.0, 53.0], SHAPE)
    image = nib.Nifti1Image(wanted, np.eye(4))
    image.set_data_dtype(np.int16)  # nibabel spreads floats over all of it
    stored = tmp_path / "scaled.nii.gz"
    nib.save(image, stored)
    off = np.abs(np.asarray(nib.load(stored).dataobj) - wanted).max()
    assert 1e-5 < off < 0.01
    label = Case("a", painted(), stored).read_label()
    assert label.array.dtype == np.int64
    assert np.array_equal(label.array[0], wanted)
    (note,) = [note for note in label.notes if "rounded" in note]
    assert note == f"its labels are up to {off:.1g} from whole numbers and were rounded"


def test_an_image_with_nan_is_refused_unless_asked_for():
    array = np.zeros(SHAPE)
    array[0, 0, 0] = np.nan
    case = Case("a", volume(array), painted(1))
    with pytest.raises(VolumeError, match=r"^scan: contains NaN \(1 voxels\)"):
        case.read_image()
    assert np.isnan(case.read_image(finite=False).array).sum() == 1


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (
            np.resize([0.4, 0.6], SHAPE),
            "scan: 24 voxels are not whole numbers: resample labels to the near",
        ),
        (np.ones((2, *SHAPE), int), "scan: has 2 channels: a label must have one"),
        (np.full(SHAPE, np.inf), "scan: contains infinity"),
    ],
)
def test_what_is_not_a_label_is_refused(label, message):
    with pytest.raises(VolumeError, match=f"^{message}"):
        Case("a", painted(), volume(label)).read_label()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"training": ()}, "set: has no case to train on; list some under training"),
        ({"labels": {}}, "set: 0 classes: must be 1 to 255; give labels of small whole numbers"),
        ({"labels": dict(enumerate(map(str, range(1, 257)), 1))}, "set: 256 classes: must be"),
        ({"labels": {1: "liver", 2: "liver"}}, "class liver: is listed more than once"),
        ({"validation": (Case("case 0", Path("i"), Path("l")),)}, "case case 0: is listed more"),
    ],
)
def test_a_data_set_that_would_mix_things_up_is_refused(fields, message):
    given = {"channels": ("CT",), "labels": {1: "one"}, "training": data_set(1).training}
    with pytest.raises(DataError, match=f"^{message}"):
        DataSet("set", **{**given, **fields})


def test_a_label_may_hold_background_the_classes_and_the_value_for_unlabelled():
    made = DataSet("set", ("CT",), {2: "b", 5: "e"}, data_set(1).training, unlabelled=9)
    assert made.values == {0, 2, 5, 9}


def test_a_share_of_the_cases_is_held_out_by_a_seed():
    made = data_set(10)
    one, again, other = split(made, seed=1), split(made, seed=1), split(made, seed=2)
    assert (len(one.training), len(one.validation)) == (8, 2)
    assert sorted(names([*one.training, *one.validation])) == names(made.training)
    assert names(one.validation) == names(again.validation)
    assert names(one.validation) != names(other.validation)
    assert (one.name, one.labels, one.channels) == (made.name, made.labels, made.channels)


@pytest.mark.parametrize(("count", "share", "held_out"), [(2, 0.1, 1), (2, 0.9, 1), (7, 0.3, 2)])
def test_at_least_one_case_is_held_out_and_one_kept(count, share, held_out):
    made = split(data_set(count), share)
    assert (len(made.training), len(made.validation)) == (count - held_out, held_out)


def test_the_first_of_five_folds_is_that_of_monai_cross_validation():
    # numpy.random.RandomState(12345) shuffles 0..9; every fifth from the first on is fold 0.
    order = np.arange(10)
    np.random.RandomState(12345).shuffle(order)
    made = split(data_set(10), folds=5, seed=12345)
    assert names(made.validation) == [f"case {n}" for n in sorted(order[::5])]
    assert len(made.training) == 8


def test_there_are_never_more_folds_than_cases():
    assert len(split(data_set(3), folds=5).validation) == 1


@pytest.mark.parametrize(
    ("made", "share"), [(data_set(1), 0.5), (data_set(5, validation=1), 0.5), (data_set(5), 0.0)]
)
def test_nothing_more_is_held_out_where_it_cannot_or_need_not_be(made, share):
    assert split(made, share) is made


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 1.0}, r"validation share 1: must be in \[0, 1\)"),
        ({"share": -0.1}, r"validation share -0\.1: must be in \[0, 1\)"),
        ({"folds": 1}, "1 folds: must be at least 2"),
    ],
)
def test_a_split_that_cannot_be_is_refused(options, message):
    with pytest.raises(DataError, match=f"^{message}$"):
        split(data_set(4), **options)


def test_layers_are_a_data_set_with_the_classes_that_are_painted():
    first = volume(np.ones((2, *SHAPE)), "head", ("T1", "T2"))
    made = layers_data_set(
        [(first, painted(3)), (volume(np.ones((2, *SHAPE)), "head"), painted(1, 3))],
        zero_is_background=True,
        names={3: "tumour"},
    )
    assert (made.name, made.channels) == ("head", ("T1", "T2"))
    assert made.labels == {1: "label 1", 3: "tumour"}
    assert made.unlabelled is None
    assert names(made.training) == ["head 1", "head 2"]
    assert made.training[0].read_image() is first


def test_zero_may_mean_unlabelled():
    pair = (volume(np.ones(SHAPE)), painted(1, 2))
    made = layers_data_set([pair], zero_is_background=False)
    assert (made.unlabelled, made.labels) == (0, {1: "label 1", 2: "label 2"})
    assert made.channels == ("channel 1",)


@pytest.mark.parametrize(
    ("labels", "background", "message"),
    [
        ([], True, "no layers: choose at least one image and its labels"),
        ([painted()], True, "the labels are empty: paint some voxels of each class"),
        (
            [painted(4)],
            False,
            "only 4 is painted and 0 means unlabelled: paint some of what is not the class as "
            "another class",
        ),
    ],
)
def test_too_little_paint_is_refused(labels, background, message):
    pairs = [(volume(np.ones(SHAPE)), label) for label in labels]
    with pytest.raises(DataError, match=f"^{message}$"):
        layers_data_set(pairs, background)


def test_a_class_can_be_the_background_and_what_is_not_painted_stays_unlabelled():
    data = layers_data_set([(volume(np.ones(SHAPE)), painted(1, 2, 3))], False)
    named = with_classes(data, {2: "liver"}, background=1)
    assert named.labels == {2: "liver", 3: "label 3"}
    assert named.unlabelled == 1
    label = named.training[0].read_label().array.ravel()
    assert label[:4].tolist() == [0, 2, 3, 1]  # 0 is background now, 1 what nobody painted
    assert set(label.tolist()) <= named.values


def test_a_background_class_beside_a_background_of_zero_becomes_zero_too():
    data = layers_data_set([(volume(np.ones(SHAPE)), painted(1, 2))], True)
    named = with_classes(data, {}, background=1)
    assert (named.labels, named.unlabelled) == ({2: "label 2"}, None)
    assert named.training[0].read_label().array.ravel()[:3].tolist() == [0, 2, 0]


@pytest.mark.parametrize(
    ("values", "names", "background", "message"),
    [
        ((1, 2), {3: "liver"}, None, r"class 3: is none of the labels' values \(1, 2\)"),
        ((1, 2), {}, 4, r"class 4: is none of the labels' values \(1, 2\)"),
        ((1,), {}, 1, "background 1: is the only class; label another one too"),
    ],
)
def test_classes_that_cannot_be_are_refused(values, names, background, message):
    data = layers_data_set([(volume(np.ones(SHAPE)), painted(*values))], True)
    with pytest.raises(DataError, match=message):
        with_classes(data, names, background)
