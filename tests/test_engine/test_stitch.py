from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from napari_tokensparse.data.preprocess import AxisMap
from napari_tokensparse.data.windows import WindowGrid, window_grid
from napari_tokensparse.engine.stitch import InputGrid, Stitcher

Axes = tuple[AxisMap, AxisMap, AxisMap]
UINT8 = np.dtype(np.uint8)
IDENTITY = (AxisMap(0, 1.0, 0.0), AxisMap(1, 1.0, 0.0), AxisMap(2, 1.0, 0.0))


def volume_of(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def stitched(grid: WindowGrid, volume: torch.Tensor) -> torch.Tensor:
    """Pass every window through a network that returns its input."""
    stitcher = Stitcher(grid, len(volume))
    slabs = []
    for start, following in pairwise([*grid.starts, (grid.padded[0], 0, 0)]):
        stitcher.add(start, grid.cut(volume, start))
        slabs.extend(stitcher.release(following[0]))
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
    slabs = [*stitcher.release(4)]
    stitcher.add((4, 0, 0), torch.ones(1, 8, 8, 8))
    mean = torch.cat([*slabs, *stitcher.release(12)], dim=1)
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
    slabs = [*stitcher.release(4)]
    stitcher.add((4, 0, 0), torch.full((1, 8, 8, 8), 4.0))
    mean = torch.cat([*slabs, *stitcher.release(12)], dim=1)
    for row, value in enumerate([1.0] * 4 + [2.5] * 4 + [4.0] * 4):
        assert torch.all(mean[0, row] == value)


@pytest.mark.parametrize("until", [(20,), (5, 20), (1, 2, 9, 19, 20)])
def test_rows_come_out_the_same_however_they_are_released(until: tuple[int, ...]) -> None:
    grid = window_grid((20, 8, 8), (20, 8, 8), 4, 0.5)
    volume = volume_of((2, 20, 8, 8))
    stitcher = Stitcher(grid, 2)
    stitcher.add((0, 0, 0), volume)
    slabs = [slab for n in until for slab in stitcher.release(n)]
    assert [s.shape[1] for s in slabs] == np.diff([0, *until]).tolist()
    assert (torch.cat(slabs, dim=1) - volume).abs().max() < 1e-5


def test_rows_that_no_window_covers_are_zero_and_later_windows_still_fit() -> None:
    # Windows 0 and 4 are run; those between, of nothing but background, are not.
    grid = window_grid((40, 8, 8), (8, 8, 8), 4, 0.0)
    assert [s[0] for s in grid.starts] == [0, 8, 16, 24, 32]
    stitcher = Stitcher(grid, 1)
    stitcher.add((0, 0, 0), torch.ones(1, 8, 8, 8))
    slabs = [*stitcher.release(24)]
    stitcher.add((24, 0, 0), torch.ones(1, 8, 8, 8))
    slabs.extend(stitcher.release(40))
    assert [slab.shape[1] for slab in slabs] == [8] * 5
    mean = torch.cat(slabs, dim=1)
    assert mean.shape == (1, 40, 8, 8)
    expected = [1.0] * 8 + [0.0] * 16 + [1.0] * 8 + [0.0] * 8
    assert mean[0, :, 4, 4].tolist() == pytest.approx(expected)


def test_a_volume_without_any_window_is_zero() -> None:
    stitcher = Stitcher(window_grid((40, 8, 8), (8, 8, 8), 4, 0.0), 2)
    mean = torch.cat([*stitcher.release(40)], dim=1)
    assert mean.shape == (2, 40, 8, 8)
    assert torch.all(mean == 0.0)


def arg_max(logits: torch.Tensor) -> torch.Tensor:
    return logits.argmax(dim=0)


def labelled(
    shape: tuple[int, int, int], axes: Axes, logits: torch.Tensor, slabs: list[int]
) -> NDArray[np.unsignedinteger]:
    out = InputGrid(shape, axes, [(0, n) for n in logits.shape[1:]], arg_max, UINT8)
    for first, last in pairwise([0, *slabs, logits.shape[1]]):
        out.add(logits[:, first:last])
    return out.labels


def reference(
    shape: tuple[int, int, int], axes: Axes, logits: torch.Tensor
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """Labels, margin between the two best classes, and which voxels lie on the model's grid."""
    voxels = np.indices(shape).astype(float)
    model = np.empty((3, *shape))
    for axis, where in enumerate(axes):
        model[where.axis] = where.slope * voxels[axis] + where.start
    on_input = np.stack(
        [ndimage.map_coordinates(c, model, order=1, mode="nearest") for c in logits.numpy()]
    )
    limits = np.array(logits.shape[1:]).reshape(3, 1, 1, 1) - 1
    inside = np.all((model >= -0.5 - 1e-6) & (model <= limits + 0.5 + 1e-6), axis=0)
    ranked = np.sort(on_input, axis=0)
    return on_input.argmax(axis=0), ranked[-1] - ranked[-2], inside


@st.composite
def axis_maps(draw: st.DrawFn) -> tuple[tuple[int, int, int], tuple[int, int, int], Axes]:
    """Draw an input shape, a model shape, and any flip, permutation, spacing and crop."""
    order = draw(st.permutations(range(3)))
    shape, model = [0] * 3, [0] * 3
    axes: list[AxisMap] = []
    for axis, model_axis in enumerate(order):
        shape[axis] = draw(st.integers(1, 14))
        model[model_axis] = draw(st.integers(1, 14))
        slope = draw(st.sampled_from([1.0, 0.4, 0.75, 1.3, 2.5])) * draw(st.sampled_from([-1, 1]))
        # Centre the input on the model's grid, then shift.
        middle = (model[model_axis] - 1) / 2 - slope * (shape[axis] - 1) / 2
        axes.append(AxisMap(model_axis, slope, middle + draw(st.sampled_from([0, 0.3, -2.2, 1]))))
    i, j, k = shape
    h, w, d = model
    return (i, j, k), (h, w, d), (axes[0], axes[1], axes[2])


@settings(deadline=None, max_examples=80)
@given(axis_maps(), st.sets(st.integers(1, 13), max_size=4), st.integers(0, 9))
def test_labels_are_those_of_linear_interpolation_on_the_whole_volume(
    drawn: tuple[tuple[int, int, int], tuple[int, int, int], Axes], cuts: set[int], seed: int
) -> None:
    shape, model, axes = drawn
    logits = volume_of((3, *model), seed)
    labels = labelled(shape, axes, logits, sorted(c for c in cuts if c < model[0]))
    expected, margin, inside = reference(shape, axes, logits)
    assert labels.shape == shape
    assert labels.dtype == np.uint8
    assert np.all(labels[~inside] == 0)
    clear = inside & (margin > 1e-4)
    assert np.array_equal(labels[clear], expected[clear])


@pytest.mark.parametrize("slabs", [list(range(1, 19)), [1], [10, 11], [18]])
def test_rows_give_the_same_labels_one_at_a_time_as_all_at_once(slabs: list[int]) -> None:
    axes = (AxisMap(2, -0.9, 13.5), AxisMap(0, 0.7, 0.1), AxisMap(1, 1.6, -3.0))
    logits = volume_of((4, 19, 12, 15))
    whole = labelled((16, 26, 11), axes, logits, [])
    assert np.array_equal(labelled((16, 26, 11), axes, logits, slabs), whole)
    assert len(np.unique(whole)) == 4


@pytest.mark.parametrize("slabs", [[], [1], [7, 8, 18]])
def test_masks_of_overlapping_regions_lie_where_their_logits_are_positive(
    slabs: list[int],
) -> None:
    # The first input axis is the model's last and runs backwards.
    axes = (AxisMap(2, -1.0, 14.0), AxisMap(0, 1.0, 0.0), AxisMap(1, 1.0, 0.0))
    logits = volume_of((3, 19, 12, 15))
    out = InputGrid((15, 19, 12), axes, [(0, 19), (0, 12), (0, 15)], arg_max, UINT8, regions=3)
    for first, last in pairwise([0, *slabs, 19]):
        out.add(logits[:, first:last])
    assert out.regions is not None
    expected = (logits > 0).permute(0, 3, 1, 2).flip(1).numpy()
    np.testing.assert_array_equal(out.regions, expected)


def test_exclusive_classes_have_no_masks() -> None:
    assert InputGrid((4, 4, 4), IDENTITY, [(0, 4)] * 3, arg_max, UINT8).regions is None


def test_a_voxel_more_than_half_a_model_voxel_outside_is_background() -> None:
    logits = torch.stack([torch.zeros(4, 4, 4), torch.ones(4, 4, 4)])
    near = (AxisMap(0, 1.0, -2.5), AxisMap(1, 1.0, 0.0), AxisMap(2, 1.0, 0.0))
    labels = labelled((10, 4, 4), near, logits, [])
    # Coordinates -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 4.5 …
    assert labels[:, 0, 0].tolist() == [0, 0, 1, 1, 1, 1, 1, 0, 0, 0]


def test_only_the_rows_still_needed_are_held() -> None:
    axes = (AxisMap(0, 0.5, 0.0), AxisMap(1, 1.0, 0.0), AxisMap(2, 1.0, 0.0))
    out = InputGrid((79, 4, 4), axes, [(0, 40), (0, 4), (0, 4)], arg_max, UINT8)
    for row in volume_of((2, 40, 4, 4)).split(1, dim=1):
        out.add(row)
        assert out._held is not None
        assert out._held.shape[1] <= 2


def test_labels_do_not_come_from_padding() -> None:
    # The image is rows 2 to 5 of 8, class 1; the padding round it is class 2.
    logits = torch.zeros(3, 8, 1, 1)
    logits[1, 2:6], logits[2, :2], logits[2, 6:] = 1.0, 5.0, 5.0
    axes = (AxisMap(0, 0.5, 1.0), AxisMap(1, 1.0, 0.0), AxisMap(2, 1.0, 0.0))
    out = InputGrid((11, 1, 1), axes, [(2, 6), (0, 1), (0, 1)], arg_max, UINT8)
    out.add(logits)
    # Coordinates 1, 1.5, 2 … 5, 5.5, 6.
    assert out.labels[:, 0, 0].tolist() == [0, *[1] * 9, 0]
