"""Connected places of low probability, class by class, where they truly lie."""

import numpy as np
import pytest

from napari_tokensparse.inspecting.doubt import least_sure, place_of
from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.segmenting.result import Segmentation, SegmentError
from napari_tokensparse.volumes.volume import Volume

INFO = ModelInfo(
    name="two",
    channels=("a",),
    classes=(
        LabelClass(value=3, name="three", color=(255, 0, 0)),
        LabelClass(value=9, name="nine", color=(0, 255, 0)),
    ),
)
AFFINE = np.array([[-2.0, 0, 0, 10], [0, 1.0, 0, -5], [0, 0, 1.5, 0], [0, 0, 0, 1]])
VOLUME = Volume(np.zeros((1, 20, 16, 12)), AFFINE, "scan")


def segmented() -> Segmentation:
    """Return two classes side by side, with a place of doubt across both and a speck."""
    labels = np.zeros((20, 16, 12), np.uint8)
    labels[2:10, 2:14, 2:10], labels[10:18, 2:14, 2:10] = 3, 9
    confidence = np.full(labels.shape, 230, np.uint8)
    confidence[8:11, 4:8, 3:7] = 102  # 0.4: 2 x 16 voxels of one class, 16 of the other
    confidence[15, 12, 9] = 51
    confidence[:2] = 10  # background is not listed
    return Segmentation(labels, None, None, confidence=confidence)  # type: ignore[arg-type]


def test_places_are_listed_by_class_and_size_with_their_probability() -> None:
    first, second, speck = least_sure(segmented(), VOLUME, INFO)
    assert [(d.name, d.value, round(d.mm3, 6)) for d in (first, second, speck)] == [
        ("three", 3, 32 * 3.0),
        ("nine", 9, 16 * 3.0),
        ("nine", 9, 3.0),
    ]
    assert first.confidence == pytest.approx(0.4) == second.confidence
    assert speck.confidence == pytest.approx(0.2)
    assert speck.voxel == (15, 12, 9)
    assert speck.centre_mm == (-20.0, 7.0, 13.5)
    assert segmented().confidence[first.voxel] == 102


def test_a_place_is_marked_by_the_voxels_that_are_connected_there() -> None:
    second = least_sure(segmented(), VOLUME, INFO)[1]
    box, mask = place_of(segmented(), INFO, second, 0.5)
    assert (box.start, box.stop) == ((10, 4, 3), (11, 8, 7)) and mask.all()


def test_the_bar_and_the_least_volume_are_those_asked_for() -> None:
    assert len(least_sure(segmented(), VOLUME, INFO, below=0.3)) == 1
    assert len(least_sure(segmented(), VOLUME, INFO, smallest_mm3=3.1)) == 2
    assert len(least_sure(segmented(), VOLUME, INFO, below=1.0)) == 2  # the classes as wholes


def test_a_run_without_confidence_is_refused_in_one_line() -> None:
    bare = Segmentation(segmented().labels, None, None)  # type: ignore[arg-type]
    with pytest.raises(SegmentError, match=r"^scan: the run kept no confidence"):
        least_sure(bare, VOLUME, INFO)
