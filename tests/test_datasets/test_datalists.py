import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from napari_tokensparse.datasets.cases import DataError, read_data_set
from napari_tokensparse.datasets.checks import checking
from napari_tokensparse.outputs.writing import write_volume
from napari_tokensparse.training.recipes.fingerprint import fingerprint
from napari_tokensparse.volumes.volume import Volume

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


def test_a_path_from_the_root_may_lead_into_the_folder(listed):
    names = {key: listed.parent / f"{key}sTr/tubes_000.nii.gz" for key in ("image", "label")}
    change(listed, training=[{key: str(path) for key, path in names.items()}], validation=[])
    (case,) = read_data_set(listed).training
    assert (case.image, case.label) == (names["image"], names["label"])


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
            {"training": [{"image": ["a.nii", 1], "label": "l.nii"}]},
            "training 1: image 1: must be a path",
        ),
        ({"training": [{"image": [], "label": "l.nii"}]}, r"training 1: image \[\]: must be a"),
        (
            {"training": [{"image": "C:\\MRI\\a.nii", "label": "l.nii"}]},
            r"training 1: image C:\\MRI\\a.nii: is a path of Windows, and C: is not on this",
        ),
        (
            {"training": [{"image": "a.nii", "label": "..\\b.nii"}]},
            r"training 1: label '..\\\\b.nii': must be a path inside",
        ),
        ({"labels": ["background"]}, r"dataset.json: labels \['background'\]: must be like"),
        ({"labels": {"0": "background"}}, "Tubes: names no class beside background"),
        ({"labels": {"a": -1}}, "dataset.json: label 'a': -1: must be a whole number from 0"),
        (
            {"labels": {"all": [1, 2]}},
            r"dataset.json: label 'all': \[1, 2\]: is a region of several values, and regions are",
        ),
        (
            {"training": None, "file_ending": ".tif"},
            "dataset.json: file_ending '.tif': must be one of .nii.gz, .nii, .hdr",
        ),
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
    with pytest.raises(DataError, match="images: holds no volume; give a folder of NIfTI"):
        read_data_set(tmp_path)


def test_labels_without_a_class_are_refused(write_folders):
    folder = write_folders("pairs", cases=1, **SMALL)
    label = nib.load(folder / "labelsTr/tubes_000.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros(label.shape, np.uint8), label.affine), label.get_filename())
    with pytest.raises(DataError, match=r"^pairs: no label file holds a class beside background;"):
        read_data_set(folder)
    halves = np.full(label.shape, 3.5, np.float32)
    nib.save(nib.Nifti1Image(halves, label.affine), label.get_filename())
    with pytest.raises(DataError, match=r"background \(.* are not whole numbers: resample .*\);"):
        read_data_set(folder)


CHANNELS = ("T1", "FLAIR")
AFFINE = np.array([[-1.0, 0, 0, 9], [0, -1.5, 0, 8], [0, 0, 2, -7], [0, 0, 0, 1]])


def write_nnunet(folder, ending=".nrrd", cases=2, **content):
    """Write a data set in nnU-Net's second layout: a file for each channel."""
    for part in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / part).mkdir(parents=True)
    for n in range(cases):
        image, label = noise_case(n)
        for channel in range(2):
            write(folder / f"imagesTr/case_{n:03d}_{channel:04d}{ending}", image[..., channel])
        write(folder / f"labelsTr/case_{n:03d}{ending}", label)
    write(folder / f"imagesTs/case_009_0000{ending}", image[..., 0])
    said = {
        "channel_names": {str(n): name for n, name in enumerate(CHANNELS)},
        "labels": {"background": 0, "tube": 1, "ball": 2, "rod": 3},
        "numTraining": cases,
        "file_ending": ending,
    }
    (folder / "dataset.json").write_text(json.dumps({**said, **content}))
    return folder


def noise_case(seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 4, (8, 9, 10)).astype(np.uint8)
    return rng.integers(0, 99, (8, 9, 10, 2)).astype(np.int16), label


def write(path, array):
    if path.name.endswith(".mgz"):
        nib.save(nib.MGHImage(array.astype(np.int32), AFFINE), path)
    else:
        write_volume(path, array, Volume(array[None], AFFINE, "v"))


@pytest.mark.parametrize("ending", [".nrrd", ".mgz", ".nii.gz"])
def test_nnunets_layout_is_read_whatever_its_files_are(tmp_path, ending):
    made = read_data_set(write_nnunet(tmp_path / "Dataset001_Noise", ending))
    assert made.channels == CHANNELS
    assert made.notes == ()
    assert names(made.training) == ["case_000", "case_001"]
    image, label = noise_case(1)
    volume = made.training[1].read_image()
    np.testing.assert_array_equal(volume.array, np.moveaxis(image, -1, 0))
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)
    np.testing.assert_array_equal(made.training[1].read_label().array[0], label)
    first, second = checking(made)
    assert first.problems == second.problems == ()
    assert fingerprint(made, [first.facts, second.facts]).spacing == (1.0, 1.5, 2.0)


def test_a_list_may_name_a_file_for_each_channel_and_nnunets_first_layout_names_none(tmp_path):
    folder = write_nnunet(tmp_path / "set")
    each = [f"imagesTr/case_000_{n:04d}.nrrd" for n in range(2)]
    items = [
        {"image": each, "label": "labelsTr/case_000.nrrd"},
        {"image": "./imagesTr/case_001.nrrd", "label": "./labelsTr/case_001.nrrd"},
    ]
    made = read_data_set(change(folder / "dataset.json", training=items))
    assert names(made.training) == ["case_000", "case_001"]
    assert [len(case.image) for case in made.training] == [2, 2]
    dataset = {"a": {"images": each, "label": "labelsTr/case_000.nrrd"}}
    made = read_data_set(change(folder / "dataset.json", training=None, dataset=dataset))
    assert names(made.training) == ["a"]
    assert made.training[0].read_image().array.shape == (2, 8, 9, 10)
    assert made.notes == ("dataset.json says 2 training cases (numTraining), and 1 are there.",)


def test_a_channel_that_is_missing_is_named(tmp_path):
    folder = write_nnunet(tmp_path / "set")
    (folder / "imagesTr/case_001_0000.nrrd").unlink()
    with pytest.raises(DataError, match=r"^case_001: has no file of channel _0000 beside case"):
        read_data_set(folder)


def folded(listed, folds, **content):
    items = json.loads(listed.read_text())["training"]
    items = [
        item if fold is None else {**item, "fold": fold}
        for item, fold in zip(items, folds, strict=True)
    ]
    return change(listed, training=items, **content)


def test_a_fold_of_the_list_is_held_out(write_msd):
    listed = write_msd("msd", cases=4, **SMALL) / "dataset.json"
    folded(listed, [1, 2, 1, None])
    made = read_data_set(listed)
    assert names(made.validation) == ["tubes_000", "tubes_002"]
    assert names(made.training) == ["tubes_001", "tubes_003"]
    assert made.notes == ("Fold 1 of 1, 2 is held out: 2 of 4 cases.",)
    assert names(read_data_set(listed, fold=2).validation) == ["tubes_001"]
    with pytest.raises(DataError, match=r"^fold 0: the list has 1, 2; choose one of them"):
        read_data_set(listed, fold=0)


def test_folds_that_cannot_be_used_are_told(write_msd):
    listed = write_msd("msd", cases=3, **SMALL) / "dataset.json"
    with pytest.raises(DataError, match=r"^fold 1: no case has a fold; leave it out"):
        read_data_set(listed, fold=1)
    folded(listed, [0, 0, 0])
    assert read_data_set(listed).notes == ("Folds (0) are not used: it is the only one.",)
    folded(listed, [0, 1, "one"])
    with pytest.raises(DataError, match=r"^training 3: fold 'one': must be a whole number"):
        read_data_set(listed)


def test_listed_validation_cases_go_before_folds(write_msd):
    listed = write_msd("msd", cases=2, validation=1, **SMALL) / "dataset.json"
    with pytest.raises(DataError, match=r"^fold 1: no case has a fold; leave it out"):
        read_data_set(listed, fold=1)
    made = read_data_set(folded(listed, [0, 1]))
    assert names(made.validation) == ["tubes_002"]
    assert made.notes == ("Folds (0, 1) are not used: validation cases are listed.",)
    assert names(read_data_set(listed, fold=1).validation) == ["tubes_002", "tubes_001"]


@pytest.mark.parametrize(("mark", "between"), [("", ";"), ("\ufeff", "\t"), ("sep=;\n", ";")])
def test_a_csv_is_a_list_whatever_parts_its_columns(write_folders, mark, between):
    folder = write_folders("pairs", cases=2, **SMALL)
    rows = [("image", "label", "fold")]
    for n in "01":
        file = f"tubes_00{n}.nii.gz"
        rows.append((f"imagesTr\\{file}", f"labelsTr/{file}", n))
    table = mark + "\r\n".join(between.join(row) for row in rows)
    (folder / "cases.csv").write_text(table, "utf-8", newline="")
    made = read_data_set(folder / "cases.csv", fold=1)
    assert (names(made.training), names(made.validation)) == (["tubes_000"], ["tubes_001"])
    assert made.training[0].read_image().shape == SMALL["shape"]


def test_a_byte_order_mark_before_json_is_passed_over(listed):
    before = read_data_set(listed)
    listed.write_bytes(b"\xef\xbb\xbf" + listed.read_bytes())
    assert names(read_data_set(listed).training) == names(before.training)
