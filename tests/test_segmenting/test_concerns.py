import numpy as np
import pytest

from napari_tokensparse.model.info import ModelInfo
from napari_tokensparse.segmenting.concerns import concerns
from napari_tokensparse.volumes.volume import Volume

BRAIN = ModelInfo(name="brain", channels=("a", "b"), classes=(), foreground_ml=(300, 2400))


def scan(filled: int) -> Volume:
    """Volume of 1.5 x 2 x 2 mm voxels, of which some are not 0, half of them in each channel."""
    array = np.zeros((2, 100, 100, 100), np.float32)
    array[0].reshape(-1)[: filled // 2] = -1.0
    array[1].reshape(-1)[filled // 2 : filled] = 5.0
    return Volume(array, np.diag([-1.5, 2.0, 2.0, 1.0]), "scan")


@pytest.mark.parametrize("ml", [306, 1500, 2394])
def test_a_stripped_brain_raises_no_concern(ml: int) -> None:
    assert concerns(scan(ml * 1000 // 6), BRAIN) == ()


def test_a_whole_head_is_told_from_a_brain_by_its_volume() -> None:
    (line,) = concerns(scan(4_200_000 // 6), BRAIN)
    assert line == (
        "scan: 4,200 ml of it are not 0, and brain is made for 300 to 2,400 ml: perhaps it is not "
        "skull-stripped, or its background is not of one value; expect wrong labels"
    )


def test_so_is_a_piece_of_one() -> None:
    (line,) = concerns(scan(60_000 // 6), BRAIN)
    assert "scan: 60 ml of it are not 0" in line and "mostly cut" in line


def test_a_model_for_anything_has_no_concerns() -> None:
    assert concerns(scan(0), BRAIN.model_copy(update={"foreground_ml": None})) == ()


def test_a_brain_in_a_border_of_another_value_raises_none() -> None:
    array = np.full((2, 100, 100, 100), -1000.0, np.float32)
    array[:, 20:80, 20:80, 20:80] = 5.0  # 1,296 ml
    assert concerns(Volume(array, scan(0).affine, "scan"), BRAIN) == ()
    array[:, 1:99, 1:99, 1:99] = 5.0
    (line,) = concerns(Volume(array, scan(0).affine, "scan"), BRAIN)
    assert line.startswith("scan: 5,647 ml of it are not -1000, and brain is made for 300 to 2,400")


def test_negative_values_without_a_border_of_one_value_are_a_concern() -> None:
    info = BRAIN.model_copy(
        update={
            "foreground_ml": None,
            "preprocessing": (
                {"_target_": "CropForegroundd", "keys": "image", "source_key": "image"},
            ),
        }
    )
    noise = np.random.default_rng(0).normal(0, 1, (1, 20, 20, 20)).astype(np.float32)
    (line,) = concerns(Volume(noise, np.eye(4), "scan"), info)
    assert line.startswith("scan: 51% of it are below 0 and its border is not of one value")
    bordered = np.pad(noise, ((0, 0), (2, 2), (2, 2), (2, 2)))
    assert concerns(Volume(bordered, np.eye(4), "scan"), info) == ()
