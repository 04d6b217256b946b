"""CT opens in the window of soft tissue, and the menu has the other windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
from npe2 import PluginManager

from napari_tokensparse.volumes.ctwindows import WINDOWS, could_be_ct

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def ct(shape: tuple[int, int, int] = (20, 20, 20)) -> np.ndarray:
    """Air at -1000 round a body of 40 with bone of 1200 in it."""
    values = np.full(shape, -1000, np.int16)
    values[4:-4, 4:-4, 4:-4] = 40
    values[8:-8, 8:-8, 8:-8] = 1200
    return values


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (ct(), True),
        (ct().astype(np.float32), True),
        (np.random.default_rng(0).normal(0, 1, (20, 20, 20)), False),  # z-scores
        (np.random.default_rng(0).integers(0, 900, (20, 20, 20)).astype(np.int16), False),
        (ct().astype(np.int16).clip(0, None).astype(np.uint8), False),
        (ct() * 10, False),  # other units
    ],
)
def test_values_of_air_and_tissue_tell_ct(values: np.ndarray, expected: bool) -> None:
    assert could_be_ct(values) is expected


@pytest.mark.gui
def test_ct_opens_in_a_window_of_soft_tissue_and_the_menu_changes_it(
    make_napari_viewer: Callable[..., Any], tmp_path: Path
) -> None:
    viewer = make_napari_viewer(show=True)
    nib.save(nib.Nifti1Image(ct(), np.eye(4)), tmp_path / "ct.nii")
    nib.save(nib.Nifti1Image(ct().clip(0, None), np.eye(4)), tmp_path / "mr.nii")
    viewer.open([tmp_path / "mr.nii", tmp_path / "ct.nii"], plugin="napari-tokensparse")
    mr, image = viewer.layers
    assert tuple(mr.contrast_limits) == (0, 1200)
    assert tuple(image.contrast_limits) == WINDOWS["soft tissue"] == (-160, 240)
    assert tuple(image.contrast_limits_range) == (-1000, 1200)  # the slider reaches all values

    viewer.layers.selection = {image}
    run = PluginManager.instance().commands.execute
    for name, window in (("bone", WINDOWS["bone"]), ("whole_range", (-1000, 1200))):
        run(f"napari-tokensparse.ct_{name}")
        assert tuple(image.contrast_limits) == window
    assert tuple(mr.contrast_limits) == (0, 1200)


@pytest.mark.gui
def test_a_model_folder_that_is_dropped_is_listed_and_opens_no_layer(
    make_napari_viewer: Callable[..., Any], nano: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_tokensparse.widgets.controls import models

    monkeypatch.setattr(models, "added", [])
    viewer = make_napari_viewer(show=True)
    _, segment = viewer.window.add_plugin_dock_widget("napari-tokensparse", "Segment")
    count = segment.model.combo.count()
    viewer.open(nano, plugin="napari-tokensparse")
    assert not list(viewer.layers)
    assert segment.model.combo.count() == count + 1
    assert segment.model.combo.findData(str(nano)) == count
    _, batch = viewer.window.add_plugin_dock_widget("napari-tokensparse", "Batch")
    assert batch.model.combo.findData(str(nano)) >= 0
