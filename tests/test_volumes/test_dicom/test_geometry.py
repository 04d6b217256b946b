"""Slices whose positions are rounded in their headers: an even grid within the digits given."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import dcmread

from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import VolumeError

PIXELS = np.random.default_rng(1).integers(0, 4000, (24, 5, 6)).astype(np.uint16)
FIRST = np.array([-31.0, 22.5, 7.25])


def place(paths, positions, decimals: int) -> None:
    for path, position in zip(paths, positions, strict=True):
        image = dcmread(path)
        image.ImagePositionPatient = [f"{value:.{decimals}f}" for value in position]
        image.save_as(path)


@pytest.mark.parametrize(
    ("plane", "step", "decimals"),
    [("axial", 0.625, 2), ("axial", 1.25, 1), ("oblique", 0.625, 2), ("axial", 3.3, 0)],
)
def test_positions_rounded_in_headers_are_an_even_grid_with_a_note(
    dicoms, tmp_path, plane, step, decimals
):
    row, column = np.reshape(dicoms["PLANES"][plane], (2, 3))
    exact = FIRST + np.arange(24)[:, None] * step * np.cross(row, column)
    paths = dicoms["write_series"](tmp_path / "ct", PIXELS, [*row, *column])
    place(paths, exact, decimals)
    volume = read_volume(tmp_path / "ct")
    assert np.array_equal(volume.array[0], PIXELS.transpose(2, 1, 0))
    assert volume.spacing[2] == pytest.approx(step, abs=10.0**-decimals / 20)
    (note,) = (note for note in volume.notes if "rounded" in note)
    assert note.startswith("the slices lie up to 0.")
    distance = float(note.split(" as ")[-1].split(" mm")[0])
    assert distance == pytest.approx(step, abs=10.0**-decimals / 20)
    assert distance == pytest.approx(volume.spacing[2], rel=5e-4)  # what is told is what is used


def test_positions_that_are_not_rounded_stay_without_a_note(dicoms, tmp_path):
    paths = dicoms["write_series"](tmp_path / "ct", PIXELS)
    place(paths, FIRST + np.arange(24)[:, None] * [0, 0, 0.625], 3)
    assert read_volume(tmp_path / "ct").notes == ()


@pytest.mark.parametrize(("moved", "decimals"), [(0.03, 2), (0.2, 1), (0.02, 4)])
def test_more_than_the_digits_explain_is_refused(dicoms, tmp_path, moved, decimals):
    positions = FIRST + np.arange(24)[:, None] * [0, 0, 0.625]
    positions[11, 2] += moved
    paths = dicoms["write_series"](tmp_path / "ct", PIXELS)
    place(paths, positions, decimals)
    with pytest.raises(VolumeError, match=rf"{paths[11].name} \(at .* choose a series of even sp"):
        read_volume(tmp_path / "ct")
