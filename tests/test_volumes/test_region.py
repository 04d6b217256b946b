from itertools import product

import numpy as np
import pytest

from napari_tokensparse.volumes.preprocess import AxisMap
from napari_tokensparse.volumes.region import Box, RegionError, parse_box, windows_over
from napari_tokensparse.volumes.windows import window_grid

SHAPE = (40, 50, 60)


def test_a_box_cuts_out_its_voxels() -> None:
    box = Box((1, 2, 3), (4, 6, 8))
    assert box.shape == (3, 4, 5)
    assert np.arange(1000).reshape(10, 10, 10)[box.slices].ravel()[[0, -1]].tolist() == [123, 357]


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("1:4,2:6,3:8", Box((1, 2, 3), (4, 6, 8))),
        (":,:,:", Box((0, 0, 0), SHAPE)),
        ("39:,:1, 5 : 6 ", Box((39, 0, 5), (40, 1, 6))),
    ],
)
def test_a_box_is_read_from_text_and_written_so_that_it_can_be_read(text: str, box: Box) -> None:
    assert parse_box(text, SHAPE, "scan") == box
    assert parse_box(str(box), SHAPE, "scan") == box


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("1:4,2:6", "region '1:4,2:6': must be i0:i1,j0:j1,k0:k1 in voxels of scan"),
        ("1:4,2:6,3", "region '1:4,2:6,3': must be i0:i1,j0:j1,k0:k1 in voxels of scan"),
        ("1:4,2:6,a:b", "region '1:4,2:6,a:b': must be i0:i1,j0:j1,k0:k1 in voxels of scan"),
        ("4:4,2:6,3:8", "region 4:4,2:6,3:8: is empty along i; give 0 <= start < stop"),
        ("1:4,2:6,-3:8", "region 1:4,2:6,-3:8: is empty along k; give 0 <= start < stop"),
        ("1:4,2:51,3:8", "region 1:4,2:51,3:8: scan has 50 voxels along j"),
    ],
)
def test_a_box_without_voxels_of_the_volume_is_refused_in_one_line(text: str, line: str) -> None:
    with pytest.raises(RegionError) as refused:
        parse_box(text, SHAPE, "scan")
    assert str(refused.value) == line


def test_windows_over_a_box_are_those_that_a_label_or_token_of_it_depends_on() -> None:
    grid = window_grid((64, 32, 32), (32, 32, 32), 8, 0.5)  # starts 0, 16, 32
    # The input's third axis is the model's first, reversed, at twice the voxel size.
    axes = (AxisMap(2, 1.0, 0.0), AxisMap(1, 1.0, 0.0), AxisMap(0, -2.0, 63.0))

    def starts(k0: int, k1: int) -> list[int]:
        chosen = windows_over(Box((0, 0, k0), (32, 32, k1)), axes, grid, grid.starts)
        return [s[0] for s, reaches in zip(grid.starts, chosen, strict=True) if reaches]

    assert starts(0, 32) == [0, 16, 32]
    assert starts(0, 1) == [32]  # rows 63 and 64
    assert starts(31, 32) == [0]  # rows 1 and 2
    assert starts(24, 25) == [0, 16]  # rows 15 and 16
    assert starts(25, 32) == [0]  # rows 1 to 14
    assert starts(8, 9) == [16, 32]  # rows 47 and 48
    assert starts(0, 8) == [32]  # rows 49 to 64


def test_windows_over_a_box_look_at_every_axis() -> None:
    grid = window_grid((64, 64, 64), (32, 32, 32), 8, 0.0)
    axes = (AxisMap(0, 1.0, 0.0), AxisMap(1, 1.0, 0.0), AxisMap(2, 1.0, 0.0))
    box = Box((0, 40, 20), (10, 50, 45))
    chosen = windows_over(box, axes, grid, grid.starts)
    expected = {(0, 32, 0), (0, 32, 32)}
    assert [s in expected for s in product((0, 32), (0, 32), (0, 32))] == chosen
