from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_tokensparse.segmenting.stitch import Stitcher
from napari_tokensparse.volumes.windows import WindowGrid, window_grid


def volume_of(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def released(stitcher: Stitcher, until: int) -> list[torch.Tensor]:
    """Means ``(K, n, w, d)`` of the slabs, which the stitcher takes back one after the other."""
    smallest = torch.finfo(torch.float32).tiny
    return [
        (rows.sums / rows.weights.clamp(min=smallest)[..., None]).movedim(-1, 0).clone()
        for rows in stitcher.release(until)
    ]


def stitched(grid: WindowGrid, volume: torch.Tensor) -> torch.Tensor:
    """Pass every window through a network that returns its input."""
    stitcher = Stitcher(grid, len(volume))
    slabs = []
    for start, following in pairwise([*grid.starts, (grid.padded[0], 0, 0)]):
        stitcher.add(start, grid.cut(volume, start))
        slabs += released(stitcher, following[0])
    return torch.cat(slabs, dim=1)


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(*[st.integers(1, 45)] * 3),
    st.tuples(*[st.integers(1, 5)] * 3),
    st.floats(0, 0.9),
    st.integers(1, 3),
)
def test_the_windows_of_an_identity_network_add_up_to_its_input(
    shape: tuple[int, int, int], tokens: tuple[int, int, int], overlap: float, channels: int
) -> None:
    h, w, d = (4 * n for n in tokens)
    grid = window_grid(shape, (h, w, d), 4, overlap)
    volume = volume_of((channels, *grid.padded))
    assert (stitched(grid, volume) - volume).abs().max() < 1e-5


def test_overlapping_windows_are_averaged_with_gaussian_weights() -> None:
    grid = window_grid((12, 8, 8), (8, 8, 8), 4, 0.5)
    assert grid.starts == ((0, 0, 0), (4, 0, 0))
    stitcher = Stitcher(grid, 1)
    stitcher.add((0, 0, 0), torch.zeros(1, 8, 8, 8))
    slabs = released(stitcher, 4)
    stitcher.add((4, 0, 0), torch.ones(1, 8, 8, 8))
    mean = torch.cat([*slabs, *released(stitcher, 12)], dim=1)
    # One-dimensional Gaussians of sigma 8 / 8 round the centres 3.5 and 7.5 of the two windows.
    rows = np.arange(12)
    first, second = (np.exp(-((rows - c) ** 2) / 2) for c in (3.5, 7.5))
    share = second / (first + second)
    share[:4], share[8:] = 0.0, 1.0
    # On the axis of the windows the other two axes weigh the same, clear of the lower limit 1e-3.
    middle = mean[0, :, 3, 3].numpy()
    clear = [n for n in range(12) if not 4 <= n < 8 or 5 <= n <= 6]
    assert middle[clear] == pytest.approx(share[clear], abs=1e-3)
    assert 0 < middle[4] < middle[5] < 0.5 < middle[6] < middle[7] < 1


def test_constant_blending_is_the_plain_mean_of_the_windows() -> None:
    grid = window_grid((12, 8, 8), (8, 8, 8), 4, 0.5)
    stitcher = Stitcher(grid, 1, "constant")
    stitcher.add((0, 0, 0), torch.full((1, 8, 8, 8), 1.0))
    slabs = released(stitcher, 4)
    stitcher.add((4, 0, 0), torch.full((1, 8, 8, 8), 4.0))
    mean = torch.cat([*slabs, *released(stitcher, 12)], dim=1)
    for row, value in enumerate([1.0] * 4 + [2.5] * 4 + [4.0] * 4):
        assert torch.all(mean[0, row] == value)


@pytest.mark.parametrize("until", [(20,), (5, 20), (1, 2, 9, 19, 20)])
def test_rows_come_out_the_same_however_they_are_released(until: tuple[int, ...]) -> None:
    grid = window_grid((20, 8, 8), (20, 8, 8), 4, 0.5)
    volume = volume_of((2, 20, 8, 8))
    stitcher = Stitcher(grid, 2)
    stitcher.add((0, 0, 0), volume)
    slabs = [slab for n in until for slab in released(stitcher, n)]
    assert [s.shape[1] for s in slabs] == np.diff([0, *until]).tolist()
    assert (torch.cat(slabs, dim=1) - volume).abs().max() < 1e-5


def test_rows_that_no_window_covers_are_zero_and_later_windows_still_fit() -> None:
    # Windows 0 and 4 are run; those between, of nothing but background, are not.
    grid = window_grid((40, 8, 8), (8, 8, 8), 4, 0.0)
    assert [s[0] for s in grid.starts] == [0, 8, 16, 24, 32]
    stitcher = Stitcher(grid, 1)
    stitcher.add((0, 0, 0), torch.ones(1, 8, 8, 8))
    slabs = released(stitcher, 24)
    stitcher.add((24, 0, 0), torch.ones(1, 8, 8, 8))
    slabs += released(stitcher, 40)
    assert [slab.shape[1] for slab in slabs] == [8] * 5
    mean = torch.cat(slabs, dim=1)
    assert mean.shape == (1, 40, 8, 8)
    expected = [1.0] * 8 + [0.0] * 16 + [1.0] * 8 + [0.0] * 8
    assert mean[0, :, 4, 4].tolist() == pytest.approx(expected)


def test_a_volume_without_any_window_is_zero() -> None:
    stitcher = Stitcher(window_grid((40, 8, 8), (8, 8, 8), 4, 0.0), 2)
    mean = torch.cat(released(stitcher, 40), dim=1)
    assert mean.shape == (2, 40, 8, 8)
    assert torch.all(mean == 0.0)
