"""One combo per channel of a model, in a real viewer with real files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt

from napari_tokensparse.model.info import LabelClass
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.volumes.channels import stack_channels
from napari_tokensparse.volumes.placement import placement_of
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.widgets.results import results_of
from napari_tokensparse.widgets.segment.channels import guess_channels

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Opened

CHANNELS = ("T1", "FLAIR")


@pytest.mark.parametrize(
    ("channels", "names", "fixed", "guessed"),
    [
        (["T1", "FLAIR"], ["flair", "t1"], {}, [1, 0]),
        (["T1", "T1ce"], ["sub-01_T1CE", "sub-01_T1"], {}, [1, 0]),
        (["T1", "T1 Gd"], ["a t1 gd", "a t1"], {}, [1, 0]),
        (["T2", "T1"], ["t1", "t2"], {0: 0}, [0, 1]),  # chosen: t1 is T2, so T1 takes what is left
        (["T1", "FLAIR"], ["scan 1", "scan 2"], {}, [0, 1]),
        (["T1", "FLAIR"], ["t1"], {}, [0, None]),
        (["T1", "FLAIR"], ["flair"], {}, [None, 0]),
        (["?", "T1"], ["t1", "x"], {}, [1, 0]),
    ],
)
def test_layers_are_guessed_from_whole_words_of_their_names_and_none_is_taken_twice(
    channels: list[str], names: list[str], fixed: dict[int, int], guessed: list[int | None]
) -> None:
    assert guess_channels(channels, names, fixed) == guessed


def noise(seed: int, shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 200, shape).astype(np.uint8)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Write t1 and, on a grid of twice its voxel size along one axis, flair."""
    fine, coarse = np.diag([-1.0, 1.0, 1.0, 1.0]), np.diag([-1.0, 1.0, 2.0, 1.0])
    coarse[2, 3] = 0.5
    nib.save(nib.Nifti1Image(noise(0, (40, 36, 34)), fine), tmp_path / "t1.nii.gz")
    nib.save(nib.Nifti1Image(noise(1, (40, 36, 17)), coarse), tmp_path / "flair.nii.gz")
    return [str(tmp_path / "flair.nii.gz"), str(tmp_path / "t1.nii.gz")]


@pytest.mark.gui
def test_two_files_are_segmented_as_the_channels_that_their_names_say(
    opened: Opened, write_nano: Callable[..., Path], files: list[str]
) -> None:
    viewer, widget = opened.viewer, opened.widget
    folder = write_nano("two", channels=CHANNELS)
    viewer.open(files, plugin="napari-tokensparse")
    flair, t1 = viewer.layers
    assert widget.channels.value() == (t1,)  # the bundled model has one channel
    widget.model.setValue(folder)
    assert widget.channels.value() == (t1, flair)
    opened.segment()

    volumes = {name: read_volume(path) for name, path in zip(CHANNELS, files[::-1], strict=True)}
    stacked = stack_channels(volumes, CHANNELS)
    result = segment(stacked, folder)
    view = placement_of(stacked.affine, stacked.shape).view
    assert result.labels.any() and not result.labels.all()
    np.testing.assert_array_equal(viewer.layers["t1 labels"].data, view(result.labels))
    assert widget.message.text().endswith(
        "\nNote: channel FLAIR was resampled to the grid of channel T1 (linear)."
    )
    shown = results_of(viewer).latest
    assert shown is not None and shown.image is t1
    np.testing.assert_array_equal(shown.volume.array, stacked.array)

    _, inspector = viewer.window.add_plugin_dock_widget("napari-tokensparse", "Token inspector")
    inspector.token.show_voxel((5, 6, 7))
    assert inspector.token.voxel() == (5, 6, 7)
    widget.live.setChecked(True)
    opened.qtbot.waitUntil(lambda: "t1 preview" in viewer.layers, timeout=60_000)
    assert "Preview in" in widget.message.text()
    widget.live.setChecked(False)

    widget.channels.combos[0].value = flair
    assert widget.channels.note.text() == "flair is chosen for T1 and FLAIR."
    opened.click()
    assert widget.message.text() == (
        "Click Segment again to go on all the same.\nflair is chosen for T1 and FLAIR."
    )
    assert "flair labels" not in viewer.layers
    viewer.layers.remove(flair)
    assert widget.channels.value() == (t1, None) and not widget.channels.note.text()
    opened.click()
    assert widget.message.text() == "No image for FLAIR: open a volume, then choose it here."


@pytest.mark.gui
def test_overlapping_regions_are_layers_of_their_own_where_a_person_wants_them(
    opened: Opened, write_nano: Callable[..., Path]
) -> None:
    viewer, widget = opened.viewer, opened.widget
    viewer.add_image(noise(0, (34, 36, 40)), name="scan")
    core = LabelClass(value=2, name="core", color=(255, 0, 0))
    whole = LabelClass(value=1, name="whole tumour", color=(0, 255, 0))
    classes = {"classes": (core, whole), "exclusive": False, "paint_order": (1, 0)}
    widget.model.setValue(write_nano("regions", **classes))
    assert widget.masks.isHidden()
    opened.segment()
    assert widget.masks.isVisible()
    assert len(viewer.layers) == 6

    opened.qtbot.mouseClick(widget.masks, Qt.MouseButton.LeftButton, pos=QPoint(8, 8))
    assert [x.name for x in viewer.layers[6:]] == ["scan region core", "scan region whole tumour"]
    shown = results_of(viewer).latest
    assert shown is not None and shown.segmentation.regions is not None
    view = placement_of(shown.volume.affine, shown.volume.shape).view
    for mask, layer in zip(shown.segmentation.regions, viewer.layers[6:], strict=True):
        assert mask.any() and not mask.all()
        np.testing.assert_array_equal(layer.data, view(mask))
        np.testing.assert_array_equal(layer.scale, viewer.layers["scan"].scale)
    np.testing.assert_allclose(viewer.layers[6].colormap.map(np.array([1]))[0], [1, 0, 0, 1])

    widget.keep_ratio.setValue(0.05)
    opened.segment()
    again = results_of(viewer).latest
    assert again is not None and again is not shown
    np.testing.assert_array_equal(viewer.layers[6].data, view(again.segmentation.regions[0]))
    widget.model.setValue(write_nano())  # of a model without regions there are none
    opened.segment()
    assert widget.masks.isHidden()
    assert [x.name for x in viewer.layers[6:]] == ["scan labels · nano"]
