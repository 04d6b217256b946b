from typing import Any

import pytest

from napari_tokensparse.model.info import LabelClass, ModelInfo

CLASSES = (
    LabelClass(value=2, name="whole tumour", color=(0, 255, 0)),
    LabelClass(value=1, name="tumour core", color=(255, 0, 0)),
)


def info(**said: Any) -> ModelInfo:
    return ModelInfo(**{"name": "tumour", "channels": ("FLAIR",), "classes": CLASSES, **said})


def test_every_overlapping_region_states_the_label_values_that_make_it_up() -> None:
    said = info(exclusive=False, regions=((1, 2, 3), (2, 3)))
    assert said.label_values == (2, 1)
    assert said.regions == ((1, 2, 3), (2, 3))
    assert ModelInfo(**said.model_dump(mode="json")) == said


def test_windows_are_blended_with_a_gaussian_unless_said_otherwise() -> None:
    assert info().blending == "gaussian"
    assert info(blending="constant").blending == "constant"


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ({"regions": ((1,), (2,))}, "only overlapping classes have them; set exclusive=False"),
        ({"exclusive": False, "regions": ((1,),)}, "give the label values of each of the 2 class"),
        ({"exclusive": False, "regions": ((1,), ())}, "give the label values of each of the 2"),
        ({"blending": "cosine"}, "Input should be 'gaussian' or 'constant'"),
    ],
)
def test_regions_and_blending_that_do_not_fit_are_refused(said: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        info(**said)


def test_labels_are_sharpened_as_asked_or_else_as_the_model_says() -> None:
    assert [info().sharpens(asked) for asked in (None, False, True)] == [False, False, True]
    assert [info(sharpen=True).sharpens(asked) for asked in (None, False)] == [True, False]


def test_overlapping_regions_cannot_be_sharpened() -> None:
    with pytest.raises(ValueError, match="only exclusive classes can be sharpened"):
        info(exclusive=False, sharpen=True)
    assert not info(exclusive=False).sharpens(None)
    with pytest.raises(ValueError, match="model tumour: its regions overlap"):
        info(exclusive=False).sharpens(True)


def test_the_least_confidence_is_as_asked_or_else_as_the_model_says() -> None:
    assert [info().least_confidence_of(asked) for asked in (None, 0.9)] == [0.0, 0.9]
    said = info(least_confidence=0.95)
    assert [said.least_confidence_of(asked) for asked in (None, 0.0, 0.5)] == [0.95, 0.0, 0.5]
    for wrong in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"least confidence .*: must be in \[0, 1\)"):
            said.least_confidence_of(wrong)
    with pytest.raises(ValueError, match="less than 1"):
        info(least_confidence=1.0)


def test_overlapping_regions_have_no_least_confidence() -> None:
    with pytest.raises(ValueError, match=r"least_confidence 0\.9: is of exclusive classes"):
        info(exclusive=False, least_confidence=0.9)
    assert info(exclusive=False).least_confidence_of(0.0) == 0.0
    with pytest.raises(ValueError, match=r"model tumour: its regions overlap.*leave it out"):
        info(exclusive=False).least_confidence_of(0.9)
