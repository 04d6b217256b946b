"""The Segment widget in a real viewer, driven by clicks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
import torch
from napari.layers import Image, Labels
from qtpy.QtCore import Qt
from safetensors.torch import load_file, save_file

from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.folder import WEIGHTS, available_models, describe_folder
from napari_tokensparse.model.info import LabelClass
from napari_tokensparse.scoring.metrics import dice_per_class
from napari_tokensparse.segmenting.infer import Progress
from napari_tokensparse.volumes.placement import placement_of
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.samples import sample_path
from napari_tokensparse.widgets.segment.texts import progress_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Opened

pytestmark = pytest.mark.gui

SAMPLE = "mni_icbm152_t1_1mm"
TRUTH = Path(__file__).parents[2] / "data/sample_labels.nii.gz"
"""Lowest mean Dice over the 27 structures on the sample brain that the bundled model may have."""
LOWEST_DICE = 0.7


def brain_like(shape: tuple[int, int, int] = (40, 48, 32)) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(1, 200, shape).astype(np.uint8)


def test_a_click_on_segment_gives_labels_and_token_maps_of_the_sample(opened: Opened) -> None:
    viewer, widget = opened.viewer, opened.widget
    viewer.open_sample("napari-tokensparse", "mni-brain")
    assert widget.image.value is viewer.layers[SAMPLE]
    assert widget.model.combo.currentText() == "brain-structures"

    opened.click()
    assert widget.button.text() == "Cancel"
    opened.finish()

    importance = [f"{SAMPLE} importance {n}" for n in (1, 2, 3)]
    assert [x.name for x in viewer.layers] == [
        SAMPLE,
        *importance,
        f"{SAMPLE} pruned at",
        f"{SAMPLE} labels",
    ]
    image = viewer.layers[SAMPLE]
    for layer in viewer.layers[1:]:
        assert layer.data.shape == image.data.shape
        for name in ("scale", "translate", "units", "axis_labels"):
            np.testing.assert_array_equal(getattr(layer, name), getattr(image, name))
    assert not any(viewer.layers[n].visible for n in importance)  # labels alone at first

    volume = read_volume(sample_path())
    labels = placement_of(volume.affine, volume.shape).unview(viewer.layers[-1].data)
    truth = np.asarray(nib.load(TRUTH).dataobj)
    values = [c.value for c in load_model("brain-structures").info.classes]
    assert np.nanmean(dice_per_class(labels, truth, values)) >= LOWEST_DICE
    assert set(np.unique(labels)) <= {0, *values}

    pruned = viewer.layers[f"{SAMPLE} pruned at"]
    legend = pruned.features
    assert list(legend["name"]) == [
        "not processed",
        "pruned at stage 1",
        "pruned at stage 2",
        "pruned at stage 3",
        "kept to the end",
    ]
    assert legend["tokens"][1:].sum() == 2912
    assert pruned.colormap.map(np.array([0]))[0, 3] == 0  # not processed: transparent
    assert pruned.colormap.map(np.array([4]))[0, 3] == 0  # kept: transparent
    assert len({tuple(pruned.colormap.map(np.array([n]))[0]) for n in (1, 2, 3)}) == 3
    assert "tokens reached the end" in widget.message.text()


def test_labels_carry_the_names_and_colours_of_the_classes(
    opened: Opened, write_nano: Callable[..., Path]
) -> None:
    viewer, widget = opened.viewer, opened.widget
    viewer.add_image(brain_like(), name="scan")
    widget.model.setValue(write_nano())
    opened.segment()
    labels = viewer.layers["scan labels"]
    assert isinstance(labels, Labels)
    assert labels.features.set_index("index")["name"].to_dict() == {0: "background", 7: "seven"}
    np.testing.assert_allclose(labels.colormap.map(np.array([7]))[0], [1, 0, 0, 1])
    assert "orientation is unknown" in widget.message.text()


def test_a_second_run_updates_the_layers_and_keeps_their_looks(
    opened: Opened, write_nano: Callable[..., Path]
) -> None:
    viewer, widget = opened.viewer, opened.widget
    viewer.add_image(brain_like(), name="scan")
    widget.model.setValue(write_nano())
    widget.keep_ratio.setValue(1.0)
    opened.segment()
    before = list(viewer.layers)
    assert (viewer.layers["scan pruned at"].data == 4).all()  # keep 1.0 prunes nothing
    viewer.layers["scan labels"].opacity = 0.25

    widget.keep_ratio.slider.setValue(0.25)
    assert "25 % per stage → 1.56 % of tokens reach the end" in widget.keep_ratio.meaning.text()
    opened.segment()
    assert list(viewer.layers) == before
    pruned = viewer.layers["scan pruned at"]
    assert set(np.unique(pruned.data)) == {1, 2, 3, 4}
    assert pruned.features["tokens"].iloc[1] > 0
    assert viewer.layers["scan labels"].opacity == 0.25


def test_a_region_is_segmented_alone(opened: Opened, write_nano: Callable[..., Path]) -> None:
    viewer, widget = opened.viewer, opened.widget
    viewer.add_image(brain_like(), name="scan")
    widget.model.setValue(write_nano())
    viewer.add_shapes(
        np.array([[9, 4, 6], [9, 4, 20], [9, 30, 20], [9, 30, 6]]), shape_type="polygon"
    )
    opened.qtbot.keyClick(widget.region, Qt.Key.Key_End)
    assert widget.region.currentText() == "Shapes"
    opened.segment()
    labels, pruned = (viewer.layers[f"scan {name}"].data for name in ("labels", "pruned at"))
    inside = np.zeros(labels.shape, bool)
    inside[:, 4:31, 6:21] = True
    assert ", region 6:21,4:31,0:40: " in widget.message.text()
    assert pruned[inside].all() and not pruned.all()
    opened.qtbot.keyClick(widget.region, Qt.Key.Key_Home)
    opened.segment()
    whole = viewer.layers["scan labels"].data
    assert whole[inside].any() and whole[~inside].any()
    np.testing.assert_array_equal(labels, whole * inside)
    opened.qtbot.keyClick(widget.region, Qt.Key.Key_End)
    viewer.layers["Shapes"].selected_data = {0}
    viewer.layers["Shapes"].remove_selected()
    opened.click()
    assert widget.message.text() == "Shapes: nothing is drawn there yet; draw a rectangle"


def test_cancel_stops_within_a_window_and_leaves_no_layers(
    opened: Opened, write_nano: Callable[..., Path]
) -> None:
    viewer, widget = opened.viewer, opened.widget
    viewer.open_sample("napari-tokensparse", "mni-brain")
    widget.model.setValue(write_nano())  # 32³ windows at 1 mm: hundreds of them
    opened.click()
    opened.qtbot.waitUntil(lambda: widget.progress.value() >= 2, timeout=60_000)
    assert widget.progress.maximum() > 100
    opened.click()
    at_cancel = widget.progress.value()
    opened.finish()
    assert widget.message.text() == "Cancelled."
    assert widget.progress.value() - at_cancel <= 1
    assert [x.name for x in viewer.layers] == [SAMPLE]
    assert widget.progress.isHidden()


def test_the_window_stays_responsive_while_a_run_goes_on(
    opened: Opened, write_nano: Callable[..., Path]
) -> None:
    viewer, widget = opened.viewer, opened.widget
    viewer.open_sample("napari-tokensparse", "mni-brain")
    widget.model.setValue(write_nano())
    opened.click()
    opened.qtbot.waitUntil(lambda: widget.progress.value() >= 1, timeout=60_000)
    viewer.dims.set_point(0, 20)
    widget.keep_ratio.slider.setValue(0.3)
    assert viewer.dims.point[0] == 20
    assert widget.button.text() == "Cancel"
    opened.click()
    opened.finish()


def test_only_one_importance_map_shows_at_a_time(
    opened: Opened, write_nano: Callable[..., Path]
) -> None:
    viewer, widget = opened.viewer, opened.widget
    viewer.add_image(brain_like(), name="scan")
    widget.model.setValue(write_nano())
    opened.segment()
    viewer.layers["scan importance 3"].visible = True
    shown = [x.name for x in viewer.layers if isinstance(x, Image) and x.visible]
    assert shown == ["scan", "scan importance 3"]


def test_importance_maps_share_the_contrast_of_their_values_and_show_a_colour_bar(
    opened: Opened, write_nano: Callable[..., Path]
) -> None:
    viewer, widget = opened.viewer, opened.widget
    viewer.add_image(brain_like(), name="scan")
    widget.model.setValue(write_nano())
    opened.segment()
    maps = [viewer.layers[f"scan importance {n}"] for n in (1, 2, 3)]

    def ends() -> tuple[float, float]:
        live = np.concatenate([layer.data[layer.data > 0] for layer in maps])
        return float(live.min()), float(live.max())

    assert all(tuple(layer.contrast_limits) == pytest.approx(ends()) for layer in maps)
    assert all(layer.colorbar.visible for layer in maps)
    before = ends()
    maps[1].contrast_limits = (0.2, 0.3)  # the user's own choice stays
    widget.keep_ratio.setValue(0.2)
    opened.segment()
    assert ends() != before
    assert tuple(maps[0].contrast_limits) == pytest.approx(ends())
    assert tuple(maps[1].contrast_limits) == (0.2, 0.3)


def test_the_image_combo_follows_the_viewer_and_leaves_results_out(
    opened: Opened, write_nano: Callable[..., Path]
) -> None:
    viewer, widget = opened.viewer, opened.widget
    assert widget.image.value is None
    first = viewer.add_image(brain_like(), name="first")
    second = viewer.add_image(brain_like(), name="second")
    assert widget.image.value is second
    viewer.layers.selection.active = first
    assert widget.image.value is first
    widget.model.setValue(write_nano())
    opened.segment()
    assert list(widget.image.choices) == [first, second]
    viewer.layers.remove(first)
    assert list(widget.image.choices) == [second]


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (None, "No image: open a volume, then choose it here."),
        (np.zeros((8, 8)), "scan: has 2 axes; choose a 3-D image, one channel"),
        (np.full((8, 8, 8), np.nan), "scan: contains NaN"),
        (np.zeros((32, 32, 32, 3), np.uint8), "scan: is a colour image"),
        (
            np.zeros((4, 8, 8, 8)),
            "scan: has 4 axes (4 x 8 x 8 x 8): right-click it in the layer list, choose Split "
            "Stack, and take one frame or channel",
        ),
    ],
    ids=["none", "2-D", "NaN", "rgb", "4-D"],
)
def test_what_cannot_be_segmented_is_refused_in_one_plain_line(
    opened: Opened, image: np.ndarray | None, said: str
) -> None:
    viewer, widget = opened.viewer, opened.widget
    if image is not None:
        viewer.add_image(image, name="scan")
    opened.click()
    assert widget.message.text().startswith(said)
    assert "\n" not in widget.message.text()
    assert widget.button.text() == "Segment"
    assert len(viewer.layers) == (image is not None)


def test_a_channel_without_a_layer_is_told_in_one_plain_line(
    opened: Opened, write_nano: Callable[..., Path]
) -> None:
    viewer, widget = opened.viewer, opened.widget
    viewer.add_image(brain_like(), name="scan")
    widget.model.setValue(write_nano("two", channels=2))
    opened.click()
    assert widget.message.text() == ("No image for channel 1: open a volume, then choose it here.")
    assert widget.button.text() == "Segment"
    assert len(viewer.layers) == 1


def test_a_scan_that_the_model_is_not_made_for_needs_a_second_click(
    opened: Opened, write_nano: Callable[..., Path]
) -> None:
    viewer, widget = opened.viewer, opened.widget
    viewer.add_image(brain_like(), name="head", units=("mm",) * 3)
    widget.model.setValue(write_nano(foreground_ml=(0.0, 10.0)))
    opened.click()
    assert widget.button.text() == "Segment"
    way_on, said = widget.message.text().split("\n")
    assert said.startswith("head: ") and "0 to 10 ml" in said and "skull-stripped" in said
    assert way_on == "Click Segment again to go on all the same."
    opened.segment()
    assert "head labels" in viewer.layers
    opened.segment()  # not asked again for the same scan and model
    assert widget.message.text().startswith("Done")


def test_a_whole_head_is_stripped_without_a_second_click_and_the_result_says_so(
    opened: Opened, write_nano: Callable[..., Path]
) -> None:
    viewer, widget = opened.viewer, opened.widget
    viewer.add_image(brain_like(), name="head", units=("mm",) * 3)
    widget.model.setValue(write_nano(foreground_ml=(0.0, 10.0), strip=True))
    assert "brain or whole head" in widget.expects.text()
    opened.segment()
    assert "head labels" in viewer.layers
    assert "its skull was taken off first" in widget.message.text()


def test_a_folder_that_is_no_model_is_refused_in_one_plain_line(
    opened: Opened, tmp_path: Path
) -> None:
    viewer, widget = opened.viewer, opened.widget
    viewer.add_image(brain_like(), name="scan")
    widget.model.setValue(tmp_path)
    opened.segment()
    assert "neither a known name" in widget.message.text()


def test_the_slider_starts_at_the_models_own_keep_ratio(opened: Opened) -> None:
    widget = opened.widget
    config = describe_folder(available_models()["brain-structures"]).config
    assert widget.keep_ratio.value() == pytest.approx(config.keep_ratio[0])
    assert "5120 → 2560 → 1280 → 640" in widget.keep_ratio.meaning.text()
    assert (widget.keep_ratio.slider.minimum(), widget.keep_ratio.slider.maximum()) == (0.05, 1.0)


def test_borders_are_sharpened_as_the_model_asks_or_the_box_is_ticked(
    opened: Opened, write_nano: Callable[..., Path]
) -> None:
    widget = opened.widget
    opened.viewer.add_image(brain_like(), name="scan")
    widget.model.setValue(write_nano("asks", sharpen=True))
    assert widget.sharpen.isChecked()
    opened.segment()
    assert widget._results.latest.segmentation.stats.sharpened
    widget.model.setValue(write_nano("plain"))
    assert not widget.sharpen.isChecked()
    opened.segment()
    assert not widget._results.latest.segmentation.stats.sharpened
    widget.sharpen.setChecked(True)
    opened.segment()
    assert widget._results.latest.segmentation.stats.sharpened
    regions = tuple(LabelClass(value=n, name=f"region {n}", color=(n, 0, 0)) for n in (1, 2))
    widget.model.setValue(write_nano("overlapping", exclusive=False, classes=regions))
    assert not widget.sharpen.isEnabled()


def test_unsure_pieces_are_left_out_as_the_model_asks_or_a_person_sets(
    opened: Opened, write_nano: Callable[..., Path]
) -> None:
    widget = opened.widget
    opened.viewer.add_image(brain_like(), name="scan")
    widget.model.setValue(write_nano("asks", least_confidence=0.9))
    assert widget.least_confidence.value() == pytest.approx(0.9)
    opened.segment()
    first = widget._results.latest
    assert first.options.least_confidence == pytest.approx(0.9)
    assert first.segmentation.stats.left_out > 0
    assert "left out, nowhere as probable as 0.9" in widget.message.text()
    widget.least_confidence.setValue(0.0)
    assert widget.least_confidence.text() == "all pieces count"
    opened.segment()
    assert widget._results.latest.segmentation.stats.left_out == 0
    widget.model.setValue(write_nano("plain"))
    assert widget.least_confidence.value() == 0.0
    regions = tuple(LabelClass(value=n, name=f"region {n}", color=(n, 0, 0)) for n in (1, 2))
    widget.model.setValue(write_nano("overlapping", exclusive=False, classes=regions))
    assert not widget.least_confidence.isEnabled()


def test_progress_tells_the_window_and_the_time_left() -> None:
    assert progress_text(Progress(0, 5, None)) == "Window 1 of 5"
    assert progress_text(Progress(2, 5, 11.7)) == "Window 3 of 5, about 12 s left"


def test_a_model_that_was_trained_further_is_read_again(
    opened: Opened, write_nano: Callable[..., Path]
) -> None:
    viewer, widget = opened.viewer, opened.widget
    viewer.add_image(brain_like(), name="scan")
    folder = write_nano()
    widget.model.setValue(folder)
    opened.segment()
    before = viewer.layers["scan labels"].data
    weights = load_file(folder / WEIGHTS)
    weights["decoder.out.conv.conv.bias"] = torch.tensor([-99.0, 99.0])  # all is of the class
    save_file(weights, folder / WEIGHTS)
    opened.segment()
    after = viewer.layers["scan labels"].data
    assert (after == 7).all()
    assert (before != 7).any()
