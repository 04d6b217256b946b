"""Several single-channel volumes as the channels of one."""

import numpy as np
import pytest

from napari_tokensparse.volumes.channels import stack_channels
from napari_tokensparse.volumes.volume import Volume, VolumeError

AFFINE = np.array([[0, -1.0, 0, 20], [0, 0, 2.0, -30], [1.5, 0, 0, 5], [0, 0, 0, 1]])


def slope(affine: np.ndarray, shape: tuple[int, int, int], name: str) -> Volume:
    """Each voxel holds a linear function of where it lies: x + 10 y - 3 z, in RAS mm."""
    index = np.indices(shape).reshape(3, -1)
    x, y, z = affine[:3, :3] @ index + affine[:3, 3:]
    return Volume((x + 10 * y - 3 * z).reshape(1, *shape), affine, name)


def test_channels_are_in_the_models_order_and_one_grid_is_not_resampled() -> None:
    a, b = (
        Volume(np.full((1, 3, 4, 5), value, np.int16), AFFINE, name)
        for value, name in ((1, "a"), (2, "b"))
    )
    both = stack_channels({"flair": b, "t1": a}, ("t1", "flair"))
    assert both.array.dtype == np.int16
    assert both.array.max(axis=(1, 2, 3)).tolist() == [1, 2]
    assert (both.channel_names, both.name, both.notes) == (("t1", "flair"), "b", ())
    assert np.array_equal(both.affine, AFFINE)


def test_another_grid_is_resampled_to_the_first_ones_positions_with_a_note() -> None:
    first = slope(AFFINE, (6, 7, 8), "t1")
    turn = np.array([[0.8, -0.6, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    there = turn @ np.diag([1.5, 1.2, 3.0, 1.0])
    middle = (AFFINE @ [2.5, 3, 3.5, 1])[:3]
    there[:3, 3] = middle - there[:3, :3] @ np.array([14.5, 14.5, 9.5])
    other = slope(there, (30, 30, 20), "t2")
    both = stack_channels({"t1": first, "t2": other}, ("t1", "t2"))
    assert both.array.dtype == np.float32
    assert np.abs(both.array[1] - first.array[0]).max() < 1e-3
    assert both.notes == ("channel t2 was resampled to the grid of channel t1 (linear)",)


TURNED = np.array(
    [
        [np.cos(0.3), -np.sin(0.3), 0, -31.7],
        [np.sin(0.3), np.cos(0.3), 0, 11.729],
        [0, 0, 1, 5.3],
        [0, 0, 0, 1],
    ]
) @ np.diag([0.7, 0.7, 1.3, 1.0])


def moved(affine: np.ndarray, voxels: float) -> np.ndarray:
    """A grid moved along its first axis."""
    offset = np.eye(4)
    offset[0, 3] = voxels
    return affine @ offset


# Rounding is some 1e-15 voxels, to either side, as the processor has it; these are far beyond it.
@pytest.mark.parametrize("nudge", [-1e-9, 0.0, 1e-9])
def test_the_edge_of_a_coarser_grid_is_kept_where_rounding_puts_it_outside(nudge: float) -> None:
    coarser = moved(TURNED @ np.diag([2.0, 1.0, 1.0, 1.0]), nudge)
    first, other = slope(TURNED, (21, 5, 4), "t1"), slope(coarser, (11, 5, 4), "t2")
    both = stack_channels({"t1": first, "t2": other}, ("t1", "t2"))
    assert np.abs(both.array[1] - first.array[0]).max() < 1e-3


@pytest.mark.parametrize("nudge", [-1e-9, 0.0, 1e-9])
def test_voxels_on_the_faces_of_another_grid_are_covered_whatever_the_rounding(
    nudge: float,
) -> None:
    # Both ends of the first grid lie half a voxel beyond the centres of the other's last voxels.
    grid = moved(TURNED, 0.5 + nudge)
    first, other = slope(TURNED, (6, 5, 4), "t1"), slope(grid, (5, 5, 4), "t2")
    both = stack_channels({"t1": first, "t2": other}, ("t1", "t2"))
    assert both.notes == ("channel t2 was resampled to the grid of channel t1 (linear)",)


def test_what_a_channel_does_not_cover_is_zero_and_is_told() -> None:
    first = Volume(np.ones((1, 10, 4, 4)), np.eye(4), "t1")
    other = Volume(np.ones((1, 5, 4, 4)), np.eye(4), "t2")
    both = stack_channels({"t1": first, "t2": other}, ("t1", "t2"))
    assert both.array[1].sum(axis=(1, 2)).tolist() == [16] * 5 + [0] * 5
    assert both.notes[-1] == "channel t2 covers 50% of channel t1; the rest is 0"
    away = np.eye(4)
    away[0, 3] = 50
    with pytest.raises(VolumeError, match="channel t2: far does not overlap t1; give scans"):
        stack_channels({"t1": first, "t2": Volume(other.array, away, "far")}, ("t1", "t2"))


def test_wrong_channels_are_named_in_one_line() -> None:
    one, two = (Volume(np.ones((n, 2, 2, 2)), np.eye(4), f"file{n}") for n in (1, 2))
    with pytest.raises(
        VolumeError, match=r"^channels: missing 'flair', unknown 't9'; .* takes 't1', 'flair'$"
    ):
        stack_channels({"t1": one, "t9": one}, ("t1", "flair"))
    with pytest.raises(VolumeError, match="channel t1: file2 has 2 channels: must have one"):
        stack_channels({"t1": two}, ("t1",))
