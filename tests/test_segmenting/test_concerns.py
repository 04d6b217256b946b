from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from napari_tokensparse.model.expected import Expected
from napari_tokensparse.model.info import ModelInfo
from napari_tokensparse.segmenting import looks
from napari_tokensparse.segmenting.concerns import concerns
from napari_tokensparse.segmenting.looks import looks_of
from napari_tokensparse.volumes.placement import NOTE_NO_LENGTHS
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
    assert concerns(scan(1000), BRAIN.model_copy(update={"foreground_ml": None})) == ()


@pytest.mark.parametrize("value", [0.0, -3.5])
def test_a_scan_without_anything_to_see_is_said_to_be_so_and_nothing_else(value: float) -> None:
    empty = Volume(np.full((2, 40, 40, 40), value, np.float32), np.eye(4), "scan")
    line = f"scan: every voxel of it is {value:g}: there is nothing to segment; check the file"
    assert concerns(empty, BRAIN) == (line,)
    empty.array[1, 17, 5, 39] = 1.0  # not among the few that are looked at first
    (line,) = concerns(empty, BRAIN)
    assert line == f"scan: every voxel of channel 0, from 0, is {value:g}; expect wrong labels"


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


def asking(**expects: Any) -> ModelInfo:
    return ModelInfo(name="brain", channels=("a",), classes=(), expects=Expected(**expects))


def ct() -> Volume:
    """Return a body of 0 to 100 HU in air, 10 cm wide."""
    grey = np.full((1, 60, 60, 60), -1000, np.int16)
    grey[0, 5:55, 5:55, 5:55] = np.random.default_rng(0).integers(0, 100, (50, 50, 50))
    return Volume(grey, np.diag([2.0, 2.0, 2.0, 1.0]), "scan")


def mr() -> Volume:
    """Return the same with values of MR round it and in it."""
    return replace(ct(), array=np.maximum(10 * ct().array, 0))


def test_ct_in_a_model_of_mr_is_known_by_its_air() -> None:
    (line,) = concerns(ct(), asking(modality=("MR",)))
    assert line == (
        "scan: its values are those of CT, 42% of them like air near -1000, and brain is made for "
        "MR; expect wrong labels"
    )
    for fine in (asking(modality=("CT",)), asking(modality=("MR", "CT")), asking()):
        assert concerns(ct(), fine) == ()
    assert concerns(mr(), asking(modality=("MR",))) == ()


def test_so_is_mr_in_a_model_of_ct_by_having_none() -> None:
    (line,) = concerns(mr(), asking(modality=("CT",), intensity=(-1024, 3071)))
    assert line.startswith("scan: it has no values below -200, and in CT air and fat do: perhaps")
    assert concerns(ct(), asking(modality=("CT",), intensity=(-1024, 3071))) == ()


def test_what_a_file_says_of_its_modality_goes_before_its_values() -> None:
    (line,) = concerns(replace(mr(), modality="PT"), asking(modality=("MR",)))
    assert line == "scan: its file says PT, and brain is made for MR; expect wrong labels"
    assert concerns(replace(ct(), modality="MR"), asking(modality=("MR",))) == ()


def test_values_beyond_the_models_range_or_in_a_corner_of_it_are_told() -> None:
    far = replace(ct(), array=ct().array * 100)
    (line,) = concerns(far, asking(intensity=(-1024, 3071)))
    assert line == (
        "scan: 69% of its values lie outside -1,024 to 3,071, which brain is made for: perhaps "
        "they were rescaled; expect wrong labels"
    )
    scaled = replace(ct(), array=(ct().array / 1000).astype(np.float32))
    (line,) = concerns(scaled, asking(intensity=(-1024, 3071)))
    assert "nearly all its values lie from 0 to 0.099" in line


def test_another_field_of_view_or_voxel_size_is_told() -> None:
    assert concerns(ct(), asking(field_of_view_mm=(90, 110), spacing_mm=(1, 3))) == ()
    (line,) = concerns(ct(), asking(field_of_view_mm=(120, 230)))
    assert line.startswith(
        "scan: what it shows is 100 mm at the longest, and brain is made for 120"
    )
    assert "its voxels are larger than it says" in line
    affine = ct().affine @ np.diag([1e-3, 1e-3, 1e-3, 1])
    line, *_ = concerns(replace(ct(), affine=affine), asking(field_of_view_mm=(120, 230)))
    assert line.startswith("scan: what it shows is 0.1 mm at the longest")
    (line,) = concerns(ct(), asking(field_of_view_mm=(20, 90)))
    assert "perhaps it shows something else or more" in line
    (line,) = concerns(ct(), asking(spacing_mm=(0.2, 1.5)))
    assert line == "scan: its voxels are 2 x 2 x 2 mm, and brain is made for 0.2 to 1.5 mm"


def test_a_speck_does_not_lengthen_what_a_scan_shows() -> None:
    volume = ct()
    volume.array[0, 0, 30, 30] = 50
    assert looks_of(volume).longest_mm == 100.0


@pytest.mark.parametrize(("stripped", "filled", "notes"), [(True, 4_200, 1), (True, 1_300, 0)])
def test_a_head_is_told_from_a_brain_without_a_volume_given_too(
    stripped: bool, filled: int, notes: int
) -> None:
    info = asking(stripped=stripped)
    lines = concerns(scan(filled * 1000 // 6), info)
    assert len(lines) == notes
    assert all("perhaps it is not skull-stripped" in line for line in lines)


def test_a_stripped_brain_in_a_model_of_heads_is_told() -> None:
    (line,) = concerns(scan(1_300_000 // 6), asking(stripped=False))
    assert "brain is made for more: perhaps it is skull-stripped or mostly cut" in line


def test_voxels_of_unknown_size_are_told_where_the_model_goes_by_mm() -> None:
    unknown = replace(ct(), notes=(NOTE_NO_LENGTHS,))
    (line,) = concerns(unknown, asking(spacing_mm=(0.2, 1.5)))
    assert line.startswith("scan: how large its voxels are is not known; 2 x 2 x 2 mm are taken")
    assert concerns(unknown, asking()) == ()


def test_every_nth_voxel_of_a_large_scan_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = looks_of(ct())
    monkeypatch.setattr(looks, "_VOXELS", 20**3)
    some = looks_of(ct())
    assert some.foreground_ml == pytest.approx(whole.foreground_ml, rel=0.15)
    assert some.longest_mm == pytest.approx(whole.longest_mm, abs=6)
    assert some.hounsfield is whole.hounsfield is True
