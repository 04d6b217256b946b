"""A model says what scans it was made for, and an older folder that does not is read as before."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from napari_tokensparse.model.expected import HOUNSFIELD, Expected
from napari_tokensparse.model.folder import (
    METADATA,
    OUR_KEY,
    ModelError,
    bundled_models_folder,
    describe_folder,
)


def test_what_is_expected_is_said_in_a_few_words() -> None:
    assert str(HOUNSFIELD) == "CT, values from -1,024 to 3,071"
    said = Expected(modality=("MR", "PT"), stripped=False, field_of_view_mm=(120, 230))
    assert str(said) == "MR or PT, with the skull, 120 to 230 mm at the longest"
    assert str(Expected()) == ""


@pytest.mark.parametrize(
    ("name", "first"),
    [
        (
            "brain-structures",
            "MRI of any contrast, brain or whole head, MR, voxels of 0.2 to 6.5 mm",
        ),
        ("ms-lesions", "FLAIR, brain or whole head, MR, voxels of 0.2 to 5.5 mm"),
    ],
)
def test_the_bundled_models_expect_a_brain_and_say_of_which_contrast(name: str, first: str) -> None:
    info = describe_folder(bundled_models_folder() / name).info
    assert info.expectation == f"{first}, 120 to 230 mm at the longest"


def test_it_travels_with_the_folder_and_one_without_is_as_before(
    write_nano: Callable[..., Path],
) -> None:
    said = Expected(modality=("CT",), spacing_mm=(0.5, 3))
    folder = write_nano("says", expects=said)
    assert describe_folder(folder).info.expects == said
    plain = write_nano("silent")
    assert "expects" not in json.loads((plain / METADATA).read_text())[OUR_KEY]["info"]
    assert describe_folder(plain).info.expects is None
    assert describe_folder(plain).info.expectation == ""


@pytest.mark.parametrize(
    "wrong",
    [{"spacing_mm": [3, 1]}, {"modality": ["<b>"]}, {"field_of_view_mm": [-1, 2]}, {"x": 1}],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    write_nano: Callable[..., Path], wrong: dict[str, object]
) -> None:
    folder = write_nano("wrong")
    metadata = json.loads((folder / METADATA).read_text())
    metadata[OUR_KEY]["info"]["expects"] = wrong
    (folder / METADATA).write_text(json.dumps(metadata))
    with pytest.raises(ModelError, match="not a model of ours") as refused:
        describe_folder(folder)
    assert "\n" not in str(refused.value)
