"""A real viewer with the Segment widget in it, driven as a person would."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.qt.threading import WorkerBase
from napari.settings import get_plugin_settings
from qtpy.QtCore import QPoint, Qt

from napari_tokensparse.common import settings as settings_module
from napari_tokensparse.segmenting.options import options_for
from napari_tokensparse.volumes.placement import layer_kwargs, placement_of
from napari_tokensparse.volumes.volume import Volume
from napari_tokensparse.widgets.layers import placement_kwargs, result_layers
from napari_tokensparse.widgets.results import ShownResult, results_of
from napari_tokensparse.widgets.showing import show_layers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import napari
    from napari.layers import Image
    from numpy.typing import NDArray
    from pytestqt.qtbot import QtBot

    from napari_tokensparse.inspecting.audit import Audit
    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.segmenting.result import Segmentation
    from napari_tokensparse.widgets import InspectorWidget, SegmentWidget


@dataclass(frozen=True)
class Opened:
    """A window that shows the Segment widget."""

    viewer: napari.Viewer
    widget: SegmentWidget
    qtbot: QtBot

    def click(self) -> None:
        """Click on Segment or Cancel."""
        self.qtbot.mouseClick(self.widget.button, Qt.MouseButton.LeftButton)

    def finish(self) -> None:
        """Wait until the run has ended."""
        button = self.widget.button
        self.qtbot.waitUntil(lambda: button.text() == "Segment", timeout=120_000)

    def segment(self) -> None:
        """Click and wait."""
        self.click()
        self.finish()


class Scanned:
    """A scan and a network: what is made of them is made once for all tests, and none changes it.

    The file's axes run to the patient's right, back and feet, in voxels of 1 x 1 x 2 mm.
    """

    def __init__(self, folder: Path) -> None:
        affine = np.diag([1.0, -1.0, -2.0, 1.0])
        affine[:3, 3] = (-20.0, 24.0, 30.0)
        self.volume = Volume(blocks()[None], affine, "scan")
        self._folder = folder
        self._segmented: dict[Any, Segmentation] = {}

    @cached_property
    def network(self) -> SCD:
        """The network, loaded."""
        from napari_tokensparse.model.checkpoints import load_model

        return load_model(self._folder)

    @cached_property
    def audited(self) -> Audit:
        """The audit at keep ratio 0.25."""
        from napari_tokensparse.inspecting.audit import audit

        return audit(self.volume, self.network, 0.25)

    def segmented(self, keep_ratio: float | tuple[float, ...]) -> Segmentation:
        """Segment the scan."""
        from napari_tokensparse.segmenting.infer import segment

        if keep_ratio not in self._segmented:
            made = segment(self.volume, self.network, keep_ratio)
            made.labels.setflags(write=False)
            self._segmented[keep_ratio] = made
        return self._segmented[keep_ratio]


@dataclass(frozen=True)
class Inspected:
    """A window that shows the Token inspector beside a result."""

    viewer: napari.Viewer
    widget: InspectorWidget
    shown: ShownResult
    scanned: Scanned
    qtbot: QtBot

    @property
    def image(self) -> Image:
        """The layer that was segmented."""
        return self.shown.image

    def layer(self, kind: str) -> Any:
        """Return a layer of the result."""
        return self.viewer.layers[f"{self.image.name} {kind}"]

    def publish(self, keep_ratio: float | tuple[float, ...]) -> ShownResult:
        """Segment again, and show and publish the result as the Segment widget does."""
        return publish(self.viewer, self.image, self.scanned, keep_ratio)

    def point_at(self, voxel: tuple[int, int, int], *, click: bool = False) -> None:
        """Move the mouse in the canvas to a voxel (i, j, k) of the slice shown, or click there."""
        volume = self.shown.volume
        shown = placement_of(volume.affine, volume.shape).to_shown(voxel, volume.shape)
        z, y, x = self.image.data_to_world(shown)
        self.viewer.dims.set_point(0, z)
        camera, canvas = self.viewer.scene.camera, self.viewer.window._qt_viewer.canvas.native
        away = np.array([x, y]) - np.array(camera.center)[[2, 1]]
        middle = np.array([canvas.width(), canvas.height()]) / 2
        where = QPoint(*np.rint(middle + camera.zoom * away).astype(int).tolist())
        self.qtbot.mouseMove(canvas, where + QPoint(1, 0))  # a cursor that is there makes no event
        self.qtbot.mouseMove(canvas, where)
        if click:
            self.qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=where)

    def follow(self, voxel: tuple[int, int, int]) -> None:
        """Point at a voxel until the token pane shows it: a busy display loses a move."""

        def shown() -> bool:
            self.point_at(voxel)
            return self.widget.token.voxel() == voxel

        self.qtbot.waitUntil(shown, timeout=30_000)


def publish(
    viewer: napari.Viewer, image: Image, scanned: Scanned, keep_ratio: float | tuple[float, ...]
) -> ShownResult:
    """Show and publish the scan's segmentation as the Segment widget does."""
    volume, network = scanned.volume, scanned.network
    shown = ShownResult(
        image,
        volume,
        network,
        options_for(network, keep_ratio, device="cpu"),
        scanned.segmented(keep_ratio),
    )
    specs = result_layers(
        image.name, placement_kwargs(image), volume, shown.segmentation, network.info
    )
    show_layers(viewer, specs)
    results_of(viewer).show(shown)
    return shown


def blocks() -> NDArray[np.uint8]:
    """Return grey values of which none is background, alike in each 4³ voxels; a window's worth."""
    coarse = np.random.default_rng(0).integers(1, 200, (8, 8, 7)).astype(np.uint8)
    return coarse.repeat(4, 0).repeat(4, 1).repeat(4, 2)[:, :30]


@pytest.fixture(scope="session", autouse=True)
def no_thread_outlives_the_tests() -> Iterator[None]:
    """Wait for what looks for devices, as napari does before it quits."""
    yield
    WorkerBase.await_workers()


@pytest.fixture(autouse=True)
def clicks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where what clicks take is kept: each test is a process of its own to it."""
    file = tmp_path / "clicks.json"
    monkeypatch.setattr("napari_tokensparse.widgets.segment.beyond._file", lambda: file)
    monkeypatch.setattr("napari_tokensparse.widgets.segment.beyond.beyond._earlier", None)
    return file


@pytest.fixture
def settings() -> Iterator[Any]:
    """Return napari's settings of this plugin, and put them back after the test."""
    settings = get_plugin_settings("napari-tokensparse")
    yield settings
    settings.reset()
    settings_module._followed = None


@pytest.fixture
def opened(make_napari_viewer: Callable[..., Any], qtbot: QtBot) -> Opened:
    """Open a viewer with the Segment widget, as the menu does."""
    viewer = make_napari_viewer(show=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-tokensparse", "Segment")
    return Opened(viewer, widget, qtbot)


@pytest.fixture(scope="session")
def scanned(nano: Path) -> Scanned:
    """Return the scan that the Token inspector is shown beside."""
    return Scanned(nano)


@pytest.fixture
def inspected(make_napari_viewer: Callable[..., Any], qtbot: QtBot, scanned: Scanned) -> Inspected:
    """Open a viewer with a segmented scan and the Token inspector, as the menu does."""
    viewer, volume = make_napari_viewer(show=True), scanned.volume
    view = placement_of(volume.affine, volume.shape).view
    image = viewer.add_image(view(volume.array[0]), name="scan", **layer_kwargs(volume))
    shown = publish(viewer, image, scanned, 0.5)
    _, widget = viewer.window.add_plugin_dock_widget("napari-tokensparse", "Token inspector")
    return Inspected(viewer, widget, shown, scanned, qtbot)
