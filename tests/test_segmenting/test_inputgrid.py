from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from napari_tokensparse.segmenting.inputgrid import InputGrid
from napari_tokensparse.segmenting.labelrule import LabelRule
from napari_tokensparse.segmenting.stitch import Rows
from napari_tokensparse.volumes.preprocess import AxisMap
from napari_tokensparse.volumes.region import Box

Axes = tuple[AxisMap, AxisMap, AxisMap]
IDENTITY = (AxisMap(0, 1.0, 0.0), AxisMap(1, 1.0, 0.0), AxisMap(2, 1.0, 0.0))


def volume_of(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def arg_max(channels: int) -> LabelRule:
    return LabelRule(tuple(range(channels)))


def filled(grid: InputGrid, logits: torch.Tensor, slabs: list[int]) -> InputGrid:
    """Hand logits ``(K, h, w, d)`` over as the stitcher does: summed up, and taken back."""
    weights = 0.1 + torch.rand(logits.shape[1:], generator=torch.Generator().manual_seed(1))
    sums = (logits * weights).movedim(0, -1).contiguous()
    for first, last in pairwise([0, *slabs, logits.shape[1]]):
        rows = Rows(sums[first:last].clone(), weights[first:last].clone())
        grid.add(rows)
        rows.sums.fill_(torch.nan)
        rows.weights.zero_()
    return grid


def labelled(
    shape: tuple[int, int, int], axes: Axes, logits: torch.Tensor, slabs: list[int]
) -> NDArray[np.unsignedinteger]:
    extents = [(0, n) for n in logits.shape[1:]]
    return filled(InputGrid(shape, axes, extents, arg_max(len(logits))), logits, slabs).labels


def interpolated(
    shape: tuple[int, int, int], axes: Axes, logits: torch.Tensor
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Logits at every input voxel, and which voxels lie on the model's grid."""
    voxels = np.indices(shape).astype(float)
    model = np.empty((3, *shape))
    for axis, where in enumerate(axes):
        model[where.axis] = where.slope * voxels[axis] + where.start
    on_input = np.stack(
        [ndimage.map_coordinates(c, model, order=1, mode="nearest") for c in logits.numpy()]
    )
    limits = np.array(logits.shape[1:]).reshape(3, 1, 1, 1) - 1
    inside = np.all((model >= -0.5 - 1e-6) & (model <= limits + 0.5 + 1e-6), axis=0)
    return on_input, inside


def reference(
    shape: tuple[int, int, int], axes: Axes, logits: torch.Tensor
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """Labels, margin between the two best classes, and which voxels lie on the model's grid."""
    on_input, inside = interpolated(shape, axes, logits)
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
    rule = LabelRule((1, 2, 3), exclusive=False)
    out = InputGrid((15, 19, 12), axes, [(0, 19), (0, 12), (0, 15)], rule)
    filled(out, logits, slabs)
    assert out.regions is not None
    expected = (logits > 0).permute(0, 3, 1, 2).flip(1).numpy()
    np.testing.assert_array_equal(out.regions, expected)


def test_exclusive_classes_have_no_masks() -> None:
    assert InputGrid((4, 4, 4), IDENTITY, [(0, 4)] * 3, arg_max(2)).regions is None


def test_a_voxel_more_than_half_a_model_voxel_outside_is_background() -> None:
    logits = torch.stack([torch.zeros(4, 4, 4), torch.ones(4, 4, 4)])
    near = (AxisMap(0, 1.0, -2.5), AxisMap(1, 1.0, 0.0), AxisMap(2, 1.0, 0.0))
    labels = labelled((10, 4, 4), near, logits, [])
    # Coordinates -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 4.5 …
    assert labels[:, 0, 0].tolist() == [0, 0, 1, 1, 1, 1, 1, 0, 0, 0]


def test_labels_do_not_come_from_padding() -> None:
    # The image is rows 2 to 5 of 8, class 1; the padding round it is class 2.
    logits = torch.zeros(3, 8, 1, 1)
    logits[1, 2:6], logits[2, :2], logits[2, 6:] = 1.0, 5.0, 5.0
    axes = (AxisMap(0, 0.5, 1.0), AxisMap(1, 1.0, 0.0), AxisMap(2, 1.0, 0.0))
    out = filled(InputGrid((11, 1, 1), axes, [(2, 6), (0, 1), (0, 1)], arg_max(3)), logits, [])
    # Coordinates 1, 1.5, 2 … 5, 5.5, 6.
    assert out.labels[:, 0, 0].tolist() == [0, *[1] * 9, 0]


@settings(deadline=None, max_examples=60)
@given(axis_maps(), st.integers(2, 30), st.integers(0, 9), st.booleans())
def test_no_label_but_one_too_close_to_call_is_other_than_of_all_channels_at_every_voxel(
    drawn: tuple[tuple[int, int, int], tuple[int, int, int], Axes],
    channels: int,
    seed: int,
    exclusive: bool,
) -> None:
    shape, model, axes = drawn
    # Few borders, sharp and soft ones: most cells have one class, the others contend in few.
    coarse = volume_of((channels, *(-(-n // 4) for n in model)), seed)
    smooth = coarse.repeat_interleave(4, 1).repeat_interleave(4, 2).repeat_interleave(4, 3)
    logits = smooth[:, : model[0], : model[1], : model[2]] + 0.2 * volume_of(
        (channels, *model), seed
    )
    rule = LabelRule(tuple(range(1, channels + 1)), exclusive)
    grid = filled(InputGrid(shape, axes, [(0, n) for n in model], rule), logits, [])
    on_input, inside = interpolated(shape, axes, logits)
    if exclusive:
        ranked = np.sort(on_input, axis=0)
        clear = inside & (ranked[-1] - ranked[-2] > 1e-4)
        assert np.array_equal(grid.labels[clear], on_input.argmax(axis=0)[clear] + 1)
        assert grid.regions is None
    else:
        clear = inside & (np.abs(on_input).min(axis=0) > 1e-4)
        assert grid.regions is not None
        assert np.array_equal(grid.regions[:, clear], on_input[:, clear] > 0)
        painted = ((on_input > 0) * np.arange(1, channels + 1).reshape(-1, 1, 1, 1)).max(axis=0)
        assert np.array_equal(grid.labels[clear], painted[clear])
    assert not grid.labels[~inside].any()


def test_of_equal_logits_the_first_channel_wins_between_voxels_too() -> None:
    axes = (AxisMap(0, 0.25, 0.0), AxisMap(1, 0.25, 0.0), AxisMap(2, 0.25, 0.0))
    logits = volume_of((4, 5, 5, 5))
    doubled = logits[[0, 0, 1, 1, 2, 2, 3, 3]]
    once, twice = labelled((17,) * 3, axes, logits, []), labelled((17,) * 3, axes, doubled, [])
    assert len(np.unique(once)) == 4
    assert np.array_equal(2 * once, twice)


def test_more_channels_than_a_byte_holds_are_told_apart() -> None:
    winners = torch.arange(216).reshape(6, 6, 6) + 84
    logits = torch.zeros(300, 6, 6, 6).scatter_(0, winners[None], 1.0)
    rule = LabelRule((*range(299), 60_000))
    grid = filled(InputGrid((6, 6, 6), IDENTITY, [(0, 6)] * 3, rule), logits, [2, 5])
    assert grid.labels.dtype == np.uint16
    assert np.array_equal(grid.labels, np.array(rule.values)[winners.numpy()])


def test_a_voxel_on_a_model_voxel_up_to_rounding_takes_its_label() -> None:
    logits = torch.zeros(2, 4, 4, 4)
    logits[1, :, :, ::2], logits[1, :, :, 1::2] = 1e-6, -1.0
    axes = (AxisMap(0, 1 + 1e-9, -1e-8), AxisMap(1, -1.0, 3 - 1e-8), AxisMap(2, 1.0, 1e-5))
    labels = labelled((4, 4, 4), axes, logits, [])
    assert labels[0, 0].tolist() == [1, 0, 1, 0]  # 1e-5 of the way to the next, they would be 0


def test_labels_lie_in_memory_as_a_file_has_them() -> None:
    grid = InputGrid((4, 5, 6), IDENTITY, [(0, 9)] * 3, arg_max(2))
    assert grid.labels.shape == (4, 5, 6)
    assert grid.labels.flags.f_contiguous


def test_outside_a_box_nothing_is_labelled() -> None:
    axes = (AxisMap(1, 0.5, 0.3), AxisMap(0, -0.7, 9.0), AxisMap(2, 1.0, 0.0))
    logits = volume_of((3, 10, 8, 7))
    logits[0] -= 9  # no background
    box = Box((3, 2, 0), (9, 3, 5))
    extents = [(0, n) for n in (10, 8, 7)]
    whole = filled(InputGrid((14, 12, 7), axes, extents, arg_max(3)), logits, [4]).labels
    part = filled(InputGrid((14, 12, 7), axes, extents, arg_max(3), box), logits, [4]).labels
    assert part[box.slices].all()
    assert np.array_equal(part[box.slices], whole[box.slices])
    assert np.count_nonzero(part) == np.prod(box.shape)
