import numpy as np
import pytest

from brain.structures import (
    BY_SIDE,
    CLASS_COUNT,
    STRUCTURES,
    class_ids,
    ids_to_classes,
    merge_ids,
    mirrored_classes,
)

IDS = [2, 3, 4, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 28]
IDS += [41, 42, 43, 46, 47, 49, 50, 51, 52, 53, 54, 60]


def test_the_27_structures_have_freesurfers_ids_in_ascending_order() -> None:
    assert [structure.id for structure in STRUCTURES] == IDS
    assert class_ids().tolist() == [0, *IDS]
    assert CLASS_COUNT == 28


def test_names_are_unique_and_colours_are_bytes() -> None:
    assert len({structure.name for structure in STRUCTURES}) == 27
    assert all(len(s.rgb) == 3 and all(0 <= c <= 255 for c in s.rgb) for s in STRUCTURES)


def test_mirroring_is_its_own_inverse_and_exchanges_the_sides() -> None:
    mirrored = mirrored_classes()
    assert mirrored[mirrored].tolist() == list(range(CLASS_COUNT))
    pairs = dict(zip(class_ids().tolist(), class_ids()[mirrored].tolist(), strict=True))
    assert {pairs[i] for i in (0, 14, 15, 16)} == {0, 14, 15, 16}
    assert [pairs[i] for i in (2, 3, 10, 17, 28)] == [41, 42, 49, 53, 60]
    assert sum(left == right for left, right in pairs.items()) == 4


@pytest.mark.parametrize(
    ("source", "merged"),
    [
        (1028, 3), (1000, 3), (2035, 42), (26, 11), (58, 50), (5, 4), (31, 4), (44, 43), (63, 43),
        (78, 2), (79, 41), (77, BY_SIDE), (253, BY_SIDE), (24, 0), (85, 0), (30, 0), (17, 17),
        (0, 0), (999, 0),
    ],
)  # fmt: skip
def test_freesurfer_ids_merge_into_the_structures(source: int, merged: int) -> None:
    assert merge_ids(np.array([[source]])).tolist() == [[merged]]


def test_ids_become_class_indices_and_back() -> None:
    ids = class_ids().reshape(4, 7)
    assert (class_ids()[ids_to_classes(ids)] == ids).all()


def test_an_unknown_id_is_refused_by_its_value() -> None:
    with pytest.raises(ValueError, match=r"\[5, 99\]"):
        ids_to_classes(np.array([2, 99, 5]))
