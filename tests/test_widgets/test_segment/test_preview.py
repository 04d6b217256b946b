"""The live preview in a real viewer, driven by the slider and the view."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QSlider
from safetensors.torch import load_file, save_file

from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.folder import WEIGHTS
from napari_tokensparse.segmenting.preview import PreviewSession
from napari_tokensparse.volumes.placement import layer_kwargs, placement_of
from napari_tokensparse.volumes.volume import Volume
from napari_tokensparse.widgets.layers import LABELS, RESULT_KEY
from napari_tokensparse.widgets.results import results_of
from napari_tokensparse.widgets.segment.preview import LivePreview, Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import napari
    from napari.layers import Image
    from pytestqt.qtbot import QtBot

    from conftest import Opened
    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.segmenting.preview import Preview

pytestmark = pytest.mark.gui

# The file's axes run to the patient's right, back and feet, in voxels of 1 x 1 x 2 mm.
AFFINE = np.diag([1.0, -1.0, -2.0, 1.0])
AFFINE[:3, 3] = (-20.0, 24.0, 30.0)


def grey(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 200, shape).astype(np.float32)


@pytest.fixture
def folder(write_nano: Callable[..., Path]) -> Path:
    """Write a model whose class is somewhere and not everywhere."""
    written = write_nano()
    network = load_model(written)
    with torch.inference_mode():
        image = (torch.from_numpy(grey((32, 32, 32)))[None, None] - 100) / 50
        gap = network(image, 0.5).logits
    weights = load_file(written / WEIGHTS)
    weights["decoder.out.conv.conv.bias"] -= gap.mean(dim=(0, 2, 3, 4))
    save_file(weights, written / WEIGHTS)
    return written


@dataclass
class Live:
    """A viewer with an image that is previewed without the Segment widget."""

    viewer: napari.Viewer
    live: LivePreview
    image: Image
    volume: Volume
    network: SCD
    qtbot: QtBot
    shown: list[Preview] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def source(self, gate: Event | None = None) -> Source:
        """Return the image as a source, whose network comes once the gate is open."""

        def network() -> SCD:
            if gate is not None:
                assert gate.wait(60)
            return self.network

        return Source(self.image, self.volume, network)

    def wait(self, count: int) -> None:
        """Wait until so many previews were shown."""
        self.qtbot.waitUntil(lambda: len(self.shown) >= count, timeout=60_000)

    @property
    def ratios(self) -> list[float]:
        """First keep ratio of every preview that was shown."""
        return [preview.keep_ratios[0] for preview in self.shown]

    @property
    def layer(self) -> Any:
        """The preview."""
        return self.viewer.layers[f"{self.image.name} preview"]

    def look_at(self, voxel: tuple[int, int, int]) -> None:
        """Set the viewer's point to a voxel of the file."""
        shown = placement_of(self.volume.affine, self.volume.shape).to_shown(
            voxel, self.volume.shape
        )
        self.viewer.dims.set_point((0, 1, 2), self.image.data_to_world(shown))


@pytest.fixture
def live(make_napari_viewer: Callable[..., Any], qtbot: QtBot, folder: Path) -> Live:
    viewer = make_napari_viewer(show=True)
    volume = Volume(grey((40, 64, 32))[None], AFFINE, "scan")
    view = placement_of(AFFINE, volume.shape).view
    image = viewer.add_image(view(volume.array[0]), name="scan", **layer_kwargs(volume))
    opened = Live(viewer, LivePreview(viewer), image, volume, load_model(folder), qtbot)
    opened.live.shown.connect(opened.shown.append)
    opened.live.failed.connect(opened.failed.append)
    return opened


def test_the_window_at_the_viewers_point_is_shown_in_its_place(live: Live) -> None:
    live.look_at((3, 5, 7))
    live.live.ask(live.source(), 0.5)
    live.wait(1)
    expected = PreviewSession(live.volume, live.network, (3, 5, 7)).update(0.5)
    assert live.layer.data.shape == (32, 32, 32)
    assert {0, 7} == set(np.unique(expected.labels))
    for name in ("scale", "units", "axis_labels"):
        np.testing.assert_array_equal(getattr(live.layer, name), getattr(live.image, name))
    np.testing.assert_allclose(live.layer.colormap.map(np.array([7]))[0], [1, 0, 0, 1])
    placement = placement_of(AFFINE, live.volume.shape)
    first, last = np.array(expected.box.start), np.array(expected.box.stop) - 1
    rng = np.random.default_rng(1)
    for voxel in [first, last, *rng.integers(first, last + 1, (200, 3))]:
        world = live.image.data_to_world(placement.to_shown(voxel, live.volume.shape))
        at = tuple(np.rint(live.layer.world_to_data(world)).astype(int))
        assert min(at) >= 0
        assert live.layer.data[at] == expected.labels[tuple(voxel - first)]


def test_moving_to_another_window_moves_the_preview(live: Live) -> None:
    live.look_at((3, 5, 7))
    source = live.source()
    live.live.ask(source, 0.5)
    live.wait(1)
    before = live.layer
    live.look_at((3, 60, 7))
    live.wait(2)
    assert live.shown[1].box.start == (0, 32, 0)
    assert live.layer is before
    expected = PreviewSession(live.volume, live.network, (3, 60, 7)).update(0.5).labels
    shown = placement_of(AFFINE, live.volume.shape).view(expected)
    assert np.array_equal(live.layer.data, shown)

    live.look_at((4, 61, 8))  # in the same window: nothing to do
    live.live.ask(source, 0.25)
    live.wait(3)
    assert live.ratios == [0.5, 0.5, 0.25]
    assert live.shown[2].box == live.shown[1].box


def test_the_preview_follows_the_middle_of_the_view(live: Live) -> None:
    live.look_at((3, 5, 7))
    live.live.ask(live.source(), 0.5)
    live.wait(1)
    z, _, x = live.viewer.scene.camera.center
    placement = placement_of(AFFINE, live.volume.shape)
    _, y, _ = live.image.data_to_world(placement.to_shown((3, 60, 7), live.volume.shape))
    live.viewer.scene.camera.center = (z, y, x)
    live.wait(2)
    assert live.shown[1].box.start[1] == 32


def test_of_what_was_asked_meanwhile_only_the_latest_is_done(live: Live) -> None:
    gate = Event()
    source = live.source(gate)
    for ratio in (0.9, 0.7, 0.5, 0.3):
        live.live.ask(source, ratio)
    gate.set()
    live.wait(2)
    assert live.ratios == [0.9, 0.3]


def test_an_answer_for_another_image_is_dropped(live: Live) -> None:
    added: list[str] = []
    live.viewer.layers.events.inserted.connect(lambda event: added.append(event.value.name))
    gate = Event()
    live.live.ask(live.source(gate), 0.9)
    live.live.ask(live.source(), 0.4)
    gate.set()
    live.wait(1)
    assert live.ratios == [0.4]
    assert added == ["scan preview"]


def test_an_answer_for_a_window_that_was_left_is_dropped(live: Live) -> None:
    gate = Event()
    live.look_at((3, 5, 7))
    live.live.ask(live.source(gate), 0.5)
    live.look_at((3, 60, 7))
    gate.set()
    live.wait(1)
    assert [preview.box.start[1] for preview in live.shown] == [32]


def test_an_answer_that_comes_after_hiding_is_dropped(live: Live) -> None:
    gate = Event()
    live.live.ask(live.source(gate), 0.9)
    live.live.hide()
    gate.set()
    live.live.ask(live.source(), 0.4)
    live.wait(1)
    assert live.ratios == [0.4]
    live.live.ask(live.source(gate), 0.9)
    live.live.close()
    live.look_at((3, 60, 7))
    assert [layer.name for layer in live.viewer.layers] == ["scan"]


def test_a_failure_is_told_in_one_line_and_the_next_request_is_answered(live: Live) -> None:
    source = live.source()
    live.live.ask(source, 1.5)
    live.qtbot.waitUntil(lambda: bool(live.failed), timeout=60_000)
    assert live.failed == ["keep ratio 1.5: must be in (0, 1]"]
    live.live.ask(source, 0.5)
    live.wait(1)
    assert live.ratios == [0.5]


def test_labels_are_hidden_while_there_is_a_preview(live: Live) -> None:
    labels = live.viewer.add_labels(
        np.ones(live.image.data.shape, np.uint8),
        name="scan labels 2",
        metadata={RESULT_KEY: LABELS},
    )
    live.live.ask(live.source(), 0.5)
    live.wait(1)
    assert not labels.visible
    live.viewer.layers.remove(live.layer)
    assert labels.visible
    live.live.ask(live.source(), 0.5)
    live.wait(2)
    assert (labels.visible, live.layer.visible) == (False, True)
    live.live.hide()
    assert labels.visible
    assert "scan preview" not in live.viewer.layers


def click_on_live(opened: Opened) -> None:
    """Click on the check box itself, at the left of the widget."""
    box = opened.widget.live
    opened.qtbot.mouseClick(box, Qt.MouseButton.LeftButton, pos=QPoint(8, box.height() // 2))


def test_the_preview_goes_with_its_image(live: Live) -> None:
    gate = Event()
    live.live.ask(live.source(), 0.5)
    live.wait(1)
    live.live.ask(live.source(gate), 0.4)
    live.viewer.layers.remove(live.image)
    assert list(live.viewer.layers) == []
    gate.set()
    other = live.viewer.add_image(live.image.data, name="other")
    live.live.ask(Source(other, live.volume, lambda: live.network), 0.3)
    live.wait(2)
    assert live.ratios == [0.5, 0.3]


def switch_on(opened: Opened) -> list[Any]:
    """Click on the check box; return the previews that are shown from now on."""
    shown: list[Any] = []
    opened.widget._preview.shown.connect(shown.append)
    click_on_live(opened)
    assert opened.widget.live.isChecked()
    opened.qtbot.waitUntil(lambda: bool(shown), timeout=60_000)
    return shown


def test_moving_the_slider_segments_the_window_again(opened: Opened, folder: Path) -> None:
    viewer, widget, qtbot = opened.viewer, opened.widget, opened.qtbot
    viewer.add_image(grey((40, 48, 32)), name="scan")
    widget.model.setValue(folder)
    shown = switch_on(opened)
    assert shown[-1].keep_ratios == (widget.keep_ratio.value(),) * 3
    before = viewer.layers["scan preview"].data.copy()
    handle = widget.keep_ratio.slider.findChild(QSlider)
    while widget.keep_ratio.value() > 0.1:
        qtbot.keyClick(handle, Qt.Key.Key_Left)
    last = (widget.keep_ratio.value(),) * 3
    qtbot.waitUntil(lambda: shown[-1].keep_ratios == last, timeout=60_000)
    after = viewer.layers["scan preview"].data
    assert (after != before).any()
    assert widget.message.text().startswith("Preview in ")
    assert "10 % per stage → 0.1 % of tokens reach the end" in widget.message.text()
    assert widget.button.text() == "Segment"

    click_on_live(opened)
    assert [layer.name for layer in viewer.layers] == ["scan"]
    qtbot.keyClick(handle, Qt.Key.Key_Right)
    assert [layer.name for layer in viewer.layers] == ["scan"]


def test_the_window_in_the_middle_of_a_drawn_region_is_previewed(
    opened: Opened, folder: Path
) -> None:
    viewer, widget = opened.viewer, opened.widget
    viewer.add_image(grey((32, 64, 32)), name="scan")
    widget.model.setValue(folder)
    for first, last in ((2, 10), (54, 62)):
        corners = [[9, first, 6], [9, first, 20], [9, last, 20], [9, last, 6]]
        viewer.add_shapes(np.array(corners), shape_type="polygon", name=f"from {first}")
    opened.qtbot.keyClick(widget.region, Qt.Key.Key_End)
    assert widget.region.currentText() == "from 54"
    shown = switch_on(opened)
    assert str(shown[-1].box) == "0:32,32:64,0:32"
    viewer.dims.set_point((0, 1, 2), (0, 0, 0))  # not where one looks, but what is drawn
    opened.qtbot.keyClick(widget.region, Qt.Key.Key_Up)
    opened.qtbot.waitUntil(lambda: len(shown) > 1, timeout=60_000)
    assert str(shown[-1].box) == "0:32,0:32,0:32"
    assert viewer.layers["scan preview"].data.shape == (32, 32, 32)


def test_a_run_ends_the_preview_and_is_published(opened: Opened, folder: Path) -> None:
    viewer, widget = opened.viewer, opened.widget
    image = viewer.add_image(grey((32, 32, 32)), name="scan")
    widget.model.setValue(folder)
    opened.segment()
    shown = switch_on(opened)
    assert not viewer.layers["scan labels"].visible
    widget.keep_ratio.slider.setValue(0.25)
    opened.qtbot.waitUntil(lambda: shown[-1].keep_ratios == (0.25,) * 3, timeout=60_000)
    previewed = viewer.layers["scan preview"].data.copy()
    published: list[Any] = []
    results = results_of(viewer)
    results.changed.connect(lambda: published.append(results.latest))
    opened.segment()
    assert "scan preview" not in viewer.layers
    assert viewer.layers["scan labels"].visible
    assert np.array_equal(viewer.layers["scan labels"].data, previewed)  # one window: the same
    (latest,) = published
    assert latest.image is image
    assert latest.segmentation.stats.keep_ratios == (0.25,) * 3
    assert latest.network.info.name == "nano"
    viewer.dims.set_point(0, 3)
    assert "scan preview" not in viewer.layers
    assert widget.live.isChecked()


def test_ratios_that_another_pane_tries_are_previewed_stage_by_stage(
    opened: Opened, folder: Path
) -> None:
    viewer, widget, results = opened.viewer, opened.widget, results_of(opened.viewer)
    results.keepRatiosPreviewed.emit((0.5, 0.5, 0.5))  # no result yet: nothing to show
    viewer.add_image(grey((32, 32, 32)), name="scan")
    other = viewer.add_image(grey((32, 32, 32), seed=1), name="other")
    widget.model.setValue(folder)
    viewer.layers.selection.active = viewer.layers["scan"]
    opened.segment()
    viewer.layers.selection.active = other  # the latest result is what counts
    shown: list[Any] = []
    widget._preview.shown.connect(shown.append)
    slider = widget.keep_ratio.value()
    results.keepRatiosPreviewed.emit((1.0, 0.5, 0.25))
    opened.qtbot.waitUntil(lambda: bool(shown), timeout=60_000)
    assert shown[0].keep_ratios == (1.0, 0.5, 0.25)
    assert "scan preview" in viewer.layers
    assert widget.live.isChecked()
    assert widget.keep_ratio.value() == slider
    results.keepRatiosPreviewed.emit((0.75, 0.5, 0.25))
    opened.qtbot.waitUntil(lambda: len(shown) == 2, timeout=60_000)
    assert shown[1].keep_ratios == (0.75, 0.5, 0.25)
    widget.keep_ratio.slider.setValue(0.3)  # the slider is for the chosen image
    opened.qtbot.waitUntil(lambda: len(shown) == 3, timeout=60_000)
    assert "other preview" in viewer.layers
    assert "scan preview" not in viewer.layers


def test_a_keep_ratio_chosen_elsewhere_sets_the_slider(opened: Opened) -> None:
    results_of(opened.viewer).keepRatioChosen.emit(0.35)
    assert opened.widget.keep_ratio.value() == 0.35


def test_another_image_model_or_voxels_are_previewed_anew(
    opened: Opened, folder: Path, write_nano: Callable[..., Path]
) -> None:
    viewer, widget, qtbot = opened.viewer, opened.widget, opened.qtbot
    first = viewer.add_image(grey((32, 32, 32)), name="first")
    widget.model.setValue(folder)
    shown = switch_on(opened)
    viewer.add_image(grey((32, 32, 32), seed=1), name="second")  # is selected, and so chosen
    qtbot.waitUntil(lambda: "second preview" in viewer.layers, timeout=60_000)
    assert "first preview" not in viewer.layers
    count = len(shown)
    viewer.layers.selection.active = first
    qtbot.waitUntil(lambda: len(shown) > count, timeout=60_000)
    before = viewer.layers["first preview"].data.copy()
    count = len(shown)
    first.data = grey((32, 32, 32), seed=2)
    widget.keep_ratio.slider.setValue(0.2)
    qtbot.waitUntil(lambda: len(shown) > count, timeout=60_000)
    expected = PreviewSession(
        Volume(first.data.transpose()[None], np.eye(4), "first"), load_model(folder)
    )
    session = widget._preview._session
    assert np.array_equal(session.volume.array, expected.volume.array)
    assert (viewer.layers["first preview"].data != before).any()
    count = len(shown)
    widget.model.setValue(write_nano("two", channels=2))  # takes both images
    qtbot.waitUntil(lambda: len(shown) > count, timeout=60_000)
    both = widget._preview._session.volume.array
    for channel, layer in zip(both, viewer.layers[:2], strict=True):
        assert np.array_equal(channel, layer.data.transpose())
    viewer.layers.remove("second")
    assert widget.message.text() == "No image for channel 1: open a volume, then choose it here."
    assert "first preview" not in viewer.layers


def test_what_cannot_be_previewed_is_told_in_the_message_line(opened: Opened) -> None:
    widget = opened.widget
    click_on_live(opened)
    assert widget.message.text() == "No image: open a volume, then choose it here."
    opened.viewer.add_image(np.zeros((32, 32, 32, 3), np.uint8), name="scan")
    assert widget.message.text().startswith("scan: is a colour image")
    assert len(opened.viewer.layers) == 1


def test_every_control_has_a_tooltip_and_is_reached_by_keys(opened: Opened) -> None:
    widget = opened.widget
    controls = [
        widget.image.native,
        widget.model.combo,
        widget.model.browse,
        widget.keep_ratio.slider,
        widget.live,
        widget.region,
        widget.device,
        widget.button,
        widget.beside,
        widget.masks,
    ]
    assert [c for c in controls if not c.toolTip()] == []
    reachable = [c for c in controls if c is not widget.keep_ratio.slider]
    reachable.append(widget.keep_ratio.slider.findChild(QSlider))
    assert all(c.focusPolicy() & Qt.FocusPolicy.TabFocus for c in reachable)


def test_closing_the_widget_during_a_preview_leaves_the_viewer_usable(
    opened: Opened, folder: Path
) -> None:
    viewer, widget, qtbot = opened.viewer, opened.widget, opened.qtbot
    viewer.add_image(grey((40, 64, 32)), name="scan")
    widget.model.setValue(folder)
    switch_on(opened)
    widget.keep_ratio.slider.setValue(0.2)
    with qtbot.waitSignal(widget.destroyed, timeout=60_000):
        viewer.window.remove_dock_widget(widget)
    viewer.dims.set_point(0, 3)
    viewer.scene.camera.center = (0, 20, 20)
    assert viewer.dims.point[0] == 3
