"""Components matched by hand: ``#`` is of the class, along the first axis unless told otherwise."""

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_tokensparse.inspecting.components import Component, changed_components, match_components
from napari_tokensparse.model.info import LabelClass

CLASS = LabelClass(value=7, name="lesion", color=(255, 0, 0))
MM = np.ones(3)


def line(text: str) -> NDArray[np.bool_]:
    return np.array([letter == "#" for letter in text]).reshape(-1, 1, 1)


def changed(before: str, after: str) -> list[tuple[str, float, float, int]]:
    changes = changed_components(line(before), line(after), np.eye(4), CLASS)
    return [(c.change, c.before_mm3, c.after_mm3, c.voxel[0]) for c in changes]


def owners(before: str, after: str) -> str:
    changes = match_components(line(before), line(after), MM)
    letters = zip(changes.owner.ravel(), changes.appeared.ravel(), strict=True)
    return "".join("+" if new else ("." if not old else str(old)) for old, new in letters)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("..###....", "..###....", []),
        ("..###....", ".........", [("vanished", 3, 0, 3)]),
        (".........", "..###....", [("appeared", 0, 3, 3)]),
        ("#####....", "####.....", []),  # 20 % is not more than 20 %
        ("####.....", "###......", [("shrank", 4, 3, 1)]),
        ("..###....", "...###...", []),  # it moved
        ("..###....", "..######.", []),  # it grew
        (".###.....", ".....###.", [("vanished", 3, 0, 2), ("appeared", 0, 3, 6)]),
        (".........", ".........", []),
    ],
)
def test_a_component_by_itself(before: str, after: str, expected: list[object]) -> None:
    assert changed(before, after) == expected


def test_what_broke_into_parts_has_lost_only_what_all_parts_lack() -> None:
    assert owners("###########", "###.###.###") == "111.111.111"
    assert changed("###########", "###.###.###") == []  # 9 of 11 are left
    assert changed("########", "##.##.##") == [("shrank", 8, 6, 3)]


def test_a_part_that_lies_apart_from_where_it_was_is_not_counted_for_it() -> None:
    assert owners("#####.....", "##.....###") == "11.....+++"
    assert changed("#####.....", "##.....###") == [("shrank", 5, 2, 2), ("appeared", 0, 3, 8)]


def test_a_neighbour_that_it_merged_with_does_not_hide_what_a_component_lost() -> None:
    before, after = "####....####", "...#########"
    assert owners(before, after) == "...111222222"
    # Of the first 4 voxels 1 is left, and 2 grew nearer to it than to the second.
    assert changed(before, after) == [("shrank", 4, 3, 1)]
    assert changed("##########..##", "........######") == [("shrank", 10, 3, 4)]


def test_what_grew_together_has_lost_nothing() -> None:
    assert owners("###.###", "#######")[:3] + owners("###.###", "#######")[4:] == "111222"
    assert changed("###.###", "#######") == []


def test_every_found_voxel_is_counted_once() -> None:
    rng = np.random.default_rng(0)
    before, after = (rng.random((9, 8, 7)) < 0.12 for _ in range(2))
    changes = match_components(before, after, MM)
    assert before.sum() > 40 and changes.before.max() > 9
    counted = (changes.owner > 0).astype(int) + (changes.appeared > 0)
    assert np.array_equal(counted, after.astype(int))
    overlap = before & after
    assert np.array_equal(changes.owner[overlap], changes.before[overlap])


@pytest.mark.parametrize(("spacing", "first"), [((1, 10, 1), 3), ((10, 1, 1), 2)])
def test_the_nearest_is_meant_in_millimetres(spacing: tuple[float, ...], first: int) -> None:
    after = np.zeros((3, 3, 1), bool)
    after[:, 0] = after[2] = True
    before = np.zeros_like(after)
    before[0, 0] = before[2, 2] = True
    owner = match_components(before, after, np.array(spacing, float)).owner
    # The corner (2, 0) is 2 steps from both.
    assert (owner == 1).sum() == first
    assert (owner == 2).sum() == 5 - first


def test_voxels_that_touch_at_a_corner_are_connected() -> None:
    before = np.zeros((4, 4, 4), bool)
    before[0, 0, 0] = before[1, 1, 1] = True
    assert match_components(before, before, MM).before.max() == 1
    before[3, 3, 3] = True
    assert match_components(before, before, MM).before.max() == 2


def test_volumes_and_centres_are_in_millimetres_by_the_files_affine() -> None:
    affine = np.array([[0, -2.0, 0.5, 10], [3.0, 0, 0, -20], [0, 0, 4.0, 30], [0, 0, 0, 1]])
    before, after = np.zeros((2, 6, 6, 6), bool)
    before[1:4, 2, 2:4] = True
    after[1:4, 2, 2] = after[5, 5, 5] = True
    origin = (10, 20, 30)
    changes = changed_components(before, after, affine, CLASS, origin)
    assert changes == [
        Component(
            name="lesion",
            value=7,
            change="shrank",
            before_mm3=pytest.approx(6 * 24),
            after_mm3=pytest.approx(3 * 24),
            # Voxel (12, 22, 32.5): x = -2 * 22 + 0.5 * 32.5 + 10, y = 3 * 12 - 20, …
            centre_mm=pytest.approx((-17.75, 16.0, 160.0)),
            voxel=(12, 22, 32),
        ),
        Component(
            name="lesion",
            value=7,
            change="appeared",
            before_mm3=0.0,
            after_mm3=pytest.approx(24),
            centre_mm=pytest.approx((-22.5, 25.0, 170.0)),
            voxel=(15, 25, 35),
        ),
    ]
    assert [c.lost_mm3 for c in changes] == pytest.approx([72, -24])


def test_the_voxel_of_a_ring_lies_on_it_though_its_centre_does_not() -> None:
    ring = np.zeros((5, 5, 1), bool)
    ring[...] = True
    ring[1:4, 1:4] = False
    (change,) = changed_components(ring, np.zeros_like(ring), np.diag([1.0, 2.0, 1.0, 1.0]), CLASS)
    assert change.centre_mm == (2.0, 4.0, 0.0)
    assert change.voxel in [(0, 2, 0), (4, 2, 0)]  # 2 mm away; along j it would be 4
