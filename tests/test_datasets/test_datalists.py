import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from napari_tokensparse.datasets.cases import DataError, read_data_set

SMALL = {"shape": (16, 12, 8)}


def names(cases):
    return [case.name for case in cases]


def change(path, **content):
    """Change a list of cases, as a person would in an editor; None takes an entry out."""
    merged = {**json.loads(path.read_text()), **content}
    path.write_text(json.dumps({k: v for k, v in merged.items() if v is not None}))
    return path


@pytest.fixture
def listed(write_msd):
    return write_msd("msd", cases=2, **SMALL) / "dataset.json"


def test_a_decathlon_folder_states_its_channels_classes_and_cases(write_msd):
    folder = write_msd("msd", cases=3, validation=1, **SMALL)
    made = read_data_set(folder)
    assert (made.name, made.channels) == ("Tubes", ("first", "second"))
    assert made.labels == {1: "tube", 2: "ball", 3: "rod"}
    assert names(made.training) == ["tubes_000", "tubes_001", "tubes_002"]
    assert names(made.validation) == ["tubes_003"]
    assert made.unlabelled is None
    case = made.validation[0]
    stored = nib.load(folder / "imagesTr/tubes_003.nii.gz")
    assert np.array_equal(case.read_image().array, np.moveaxis(stored.dataobj, -1, 0))
    assert case.read_image().spacing == pytest.approx((1.0, 1.0, 2.5))
    assert set(np.unique(case.read_label().array)) <= set(made.values)


def test_the_file_itself_may_be_given(listed):
    made = read_data_set(listed)
    assert names(made.training) == ["tubes_000", "tubes_001"]
    assert made.validation == ()


def test_a_name_that_is_a_path_becomes_a_name(listed):
    assert read_data_set(change(listed, name="../CT: a\\b\n")).name == "..-CT: a-b-n"


def test_channels_beyond_the_tenth_stay_in_their_order(listed):
    channels = {str(n): f"c{n}" for n in range(12)}
    change(listed, modality=dict(sorted(channels.items())))
    assert read_data_set(listed).channels == tuple(channels.values())


def test_classes_not_named_are_the_values_in_the_labels(write_list):
    made = read_data_set(write_list("btcv", cases=2, validation=2, **SMALL))
    assert made.name == "btcv"
    assert made.channels == ("channel 1", "channel 2")
    assert made.labels == {1: "label 1", 2: "label 2", 3: "label 3"}
    assert names(made.training) == ["tubes_000", "tubes_001"]
    assert names(made.validation) == ["tubes_002", "tubes_003"]


def test_a_damaged_file_is_left_to_the_check_of_the_data(write_list):
    path = write_list("btcv", cases=1, validation=1, **SMALL)
    for part in ("images", "labels"):
        (path.parent / f"{part}Tr/tubes_000.nii.gz").write_bytes(b"damaged")
    made = read_data_set(path)
    assert names(made.training) == ["tubes_000"]
    assert len(made.labels) == 3


def test_two_folders_are_matched_by_name(write_folders):
    folder = write_folders("pairs", cases=2, **SMALL)
    (folder / "imagesTr/._tubes_000.nii.gz").write_bytes(b"left by a Mac")
    (folder / "imagesTr/notes.txt").write_text("not an image")
    inside = read_data_set(folder)
    beside = read_data_set(folder / "imagesTr", folder / "labelsTr")
    for made in (inside, beside):
        assert names(made.training) == ["tubes_000", "tubes_001"]
        assert [case.label.name for case in made.training] == [
            "tubes_000.nii.gz",
            "tubes_001.nii.gz",
        ]
    assert (inside.name, beside.name) == ("pairs", "imagesTr")


def test_folders_may_be_called_images_and_labels(write_folders):
    folder = write_folders("pairs", cases=1, **SMALL)
    for part in ("images", "labels"):
        (folder / f"{part}Tr").rename(folder / part)
    assert names(read_data_set(folder).training) == ["tubes_000"]


def test_one_image_and_its_label_are_a_data_set(write_folders):
    folder = write_folders("pairs", cases=1, **SMALL)
    file = "tubes_000.nii.gz"
    made = read_data_set(folder / "imagesTr" / file, folder / "labelsTr" / file)
    assert names(made.training) == ["tubes_000"]


def test_nnunet_names_files_channels_classes_and_what_to_ignore_its_own_way(listed):
    images = listed.parent / "imagesTr"
    for path in images.iterdir():
        path.rename(images / path.name.replace(".nii", "_0000.nii"))
    change(
        listed,
        training=None,
        modality=None,
        channel_names={"0": "CT"},
        labels={"background": 0, "liver": 1, "tumour": 3, "ignore": 4},
    )
    made = read_data_set(listed.parent)
    assert made.channels == ("CT",)
    assert made.labels == {1: "liver", 3: "tumour"}
    assert made.unlabelled == 4
    assert names(made.training) == ["tubes_000", "tubes_001"]


def test_all_files_without_a_partner_are_listed(write_folders):
    folder = write_folders("pairs", cases=4, **SMALL)
    (folder / "labelsTr/tubes_000.nii.gz").unlink()
    (folder / "labelsTr/tubes_002.nii.gz").unlink()
    (folder / "imagesTr/tubes_003.nii.gz").unlink()
    alone = (
        "imagesTr/tubes_000.nii.gz, imagesTr/tubes_002.nii.gz, labelsTr/tubes_003.nii.gz: "
        "has no partner"
    )
    with pytest.raises(DataError, match=f"^{alone}"):
        read_data_set(folder)


def test_two_files_of_one_name_are_refused(write_folders):
    folder = write_folders("pairs", cases=1, **SMALL)
    shutil.copy(folder / "imagesTr/tubes_000.nii.gz", folder / "imagesTr/tubes_000_0000.nii.gz")
    with pytest.raises(DataError, match=r"are both tubes_000; keep one of them$"):
        read_data_set(folder)


def test_images_of_one_name_in_several_folders_are_told_apart(listed):
    items = []
    for part in ("a", "b"):
        (listed.parent / part).mkdir()
        for source, file in (("imagesTr", "scan.nii.gz"), ("labelsTr", "label.nii.gz")):
            shutil.copy(listed.parent / source / "tubes_000.nii.gz", listed.parent / part / file)
        items.append({"image": f"{part}/scan.nii.gz", "label": f"./{part}/label.nii.gz"})
    assert names(read_data_set(change(listed, training=items)).training) == ["a-scan", "b-scan"]


def test_a_case_to_train_on_and_to_validate_with_is_refused(listed):
    items = json.loads(listed.read_text())["training"]
    change(listed, validation=items[:1])
    with pytest.raises(DataError, match=r"tubes_000.*: is listed more than once"):
        read_data_set(listed)


@pytest.mark.parametrize("path", ["../other/a.nii.gz", "imagesTr/../../a.nii.gz", "/a.nii.gz"])
@pytest.mark.parametrize("key", ["image", "label"])
def test_a_path_may_not_leave_the_folder(listed, key, path):
    item = {"image": "imagesTr/tubes_000.nii.gz", "label": "labelsTr/tubes_000.nii.gz", key: path}
    change(listed, training=[item])
    with pytest.raises(DataError) as caught:
        read_data_set(listed)
    assert str(caught.value) == (
        f"training 1: {key} '{path}': must be a path inside the data set's folder"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"training": []}, "Tubes: has no case to train on; list some under training"),
        ({"training": {}}, "training: must be a list of objects with image and label"),
        ({"training": ["a.nii"]}, "training 1: must be an object with image and label"),
        ({"validation": [{"image": "a.nii"}]}, "validation 1: must be an object with image and"),
        (
            {"training": [{"image": ["a.nii", "b.nii"], "label": "l.nii"}]},
            r"training 1: image \['a.nii', 'b.nii'\]: must be one path; put all channels into one",
        ),
        ({"labels": ["background"]}, r"dataset.json: labels \['background'\]: must be like"),
        ({"labels": {"0": "background"}}, "Tubes: names no class beside background"),
        ({"labels": {"a": -1}}, "dataset.json: label 'a': -1: must be a whole number from 0"),
        ({"labels": {"all": [1, 2]}}, r"dataset.json: label 'all': \[1, 2\]: must be a whole"),
        ({"labels": {"a": 1, "b": 1}}, "dataset.json: label 1: has two names; give it one"),
        ({"labels": {"1": "a", "2": "a"}}, "class a: is listed more than once; list each once"),
        ({"modality": {"1": "CT"}}, "dataset.json: channels {'1': 'CT'}: must be like"),
    ],
)
def test_a_faulty_entry_is_told_in_a_line(listed, content, message):
    with pytest.raises(DataError, match=f"^{message}") as caught:
        read_data_set(change(listed, **content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "dataset.json: is not JSON"), ("[]", r"dataset.json: is not JSON \(must hold one JSON")],
)
def test_what_is_not_a_list_of_cases_is_refused(tmp_path, text, message):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=f"^{message}"):
        read_data_set(tmp_path)


def test_a_place_without_a_data_set_says_what_to_give(tmp_path):
    with pytest.raises(DataError, match=f"^{tmp_path}/no: does not exist; give a dataset.json or"):
        read_data_set(tmp_path / "no")
    (tmp_path / "list.json").write_text("{}")
    with pytest.raises(DataError, match=r"holds no data set; give .*did you mean list.json"):
        read_data_set(tmp_path)


def test_labels_beside_anything_but_images_are_refused(listed):
    labels = listed.parent / "labelsTr"
    with pytest.raises(DataError, match=r"^dataset.json and labelsTr: give two folders, or one"):
        read_data_set(listed, labels)
    with pytest.raises(DataError, match=r"no: does not exist; give the labels of imagesTr$"):
        read_data_set(listed.parent / "imagesTr", listed.parent / "no")


def test_folders_without_images_are_refused(tmp_path):
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    with pytest.raises(DataError, match="images: holds no NIfTI file; give a folder of"):
        read_data_set(tmp_path)


def test_labels_without_a_class_are_refused(write_folders):
    folder = write_folders("pairs", cases=1, **SMALL)
    label = nib.load(folder / "labelsTr/tubes_000.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros(label.shape, np.uint8), label.affine), label.get_filename())
    with pytest.raises(DataError, match=r"^pairs: no label file holds a class beside"):
        read_data_set(folder)
