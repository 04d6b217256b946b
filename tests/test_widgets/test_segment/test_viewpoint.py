"""Where a person looks, as a real viewer's sliders and camera say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_tokensparse.widgets.segment.viewpoint import ViewPoint

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.gui


def test_the_point_follows_the_sliders_and_the_middle_of_the_view(
    make_napari_viewer: Callable[..., Any],
) -> None:
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((40, 50, 60)))
    point = ViewPoint(viewer)
    moved: list[tuple[float, ...]] = []
    point.moved.connect(lambda: moved.append(point.value()))
    viewer.dims.set_point((0, 1, 2), (5, 6, 7))
    assert point.value() == (5, 6, 7)
    viewer.scene.camera.center = (0, 30, 20)
    assert point.value() == (5, 30, 20)
    viewer.dims.set_point(0, 9)
    assert point.value() == (9, 30, 20)
    viewer.dims.set_point((0, 1, 2), (9, 8, 7))
    assert point.value() == (9, 8, 20)  # only the second axis moved
    count = len(moved)
    viewer.scene.camera.angles = (10, 20, 30)
    assert len(moved) == count
    viewer.dims.ndisplay = 3
    viewer.scene.camera.center = (1, 2, 3)
    assert point.value() == (1, 2, 3)


def test_another_number_of_axes_starts_anew(make_napari_viewer: Callable[..., Any]) -> None:
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((8, 8)))
    point = ViewPoint(viewer)
    viewer.add_image(np.zeros((5, 8, 8)))
    viewer.dims.set_point(0, 3)
    assert len(point.value()) == 3
    assert point.value()[0] == 3
