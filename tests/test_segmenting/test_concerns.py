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
        "skull-stripped, or its background is not exactly 0; expect wrong labels"
    )


def test_so_is_a_piece_of_one() -> None:
    (line,) = concerns(scan(60_000 // 6), BRAIN)
    assert "scan: 60 ml of it are not 0" in line and "mostly cut" in line


def test_a_model_for_anything_has_no_concerns() -> None:
    assert concerns(scan(0), BRAIN.model_copy(update={"foreground_ml": None})) == ()
