from dataclasses import replace

import numpy as np
import pytest

from napari_tokensparse.datasets.checks import (
    CheckedCase,
    checking,
    class_notes,
    report,
    without_bad,
)
from napari_tokensparse.datasets.dataset import Case, DataError, DataSet
from napari_tokensparse.volumes.volume import Volume

SHAPE = (6, 5, 4)
GRID = np.diag([2.0, 1.0, 3.0, 1.0])


def volume(array: np.ndarray, affine: np.ndarray = GRID, name: str = "v") -> Volume:
    return Volume(array if array.ndim == 4 else array[None], affine, name)


def image() -> np.ndarray:
    return np.arange(120, dtype=np.float32).reshape(SHAPE)


def label() -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[1:3, 1:4, 2] = 1
    array[5, 4, 3] = 2
    return array


def data_set(*cases: Case, **fields: object) -> DataSet:
    made = DataSet("set", ("t1",), {1: "one", 2: "two"}, cases)
    return replace(made, **fields)  # type: ignore[arg-type]


def case(name: str = "a", **parts: Volume) -> Case:
    chosen = {"image": volume(image()), "label": volume(label()), **parts}
    return Case(name, chosen["image"], chosen["label"])


def checked(made: Case, **fields: object) -> CheckedCase:
    (case_read,) = checking(data_set(made, **fields))
    return case_read


def test_a_good_case_gives_its_facts() -> None:
    read = checked(case())
    assert read.problems == ()
    facts = read.facts
    assert facts is not None
    assert (facts.shape, facts.spacing) == (SHAPE, (2.0, 1.0, 3.0))
    assert facts.voxels == {0: 113, 1: 6, 2: 1}
    assert facts.extent_mm == (10.0, 4.0, 6.0)
    assert facts.nbytes == 480
    inside = image()[label() > 0]
    (channel,) = facts.channels
    assert channel.minimum == 0.0 and channel.zero_share == pytest.approx(1 / 120)
    assert (channel.mean, channel.std) == pytest.approx((inside.mean(), inside.std()))
    assert (channel.low, channel.high) == pytest.approx(tuple(np.percentile(inside, (0.5, 99.5))))


def broken() -> dict[str, tuple[Case, str]]:
    nan, far, moved = image(), label(), GRID.copy()
    nan[0, 0, 0] = np.nan
    far[0, 0, 0] = 9
    moved[0, 3] = 0.5
    return {
        "nan": (case(image=volume(nan)), "contains NaN"),
        "class": (case(label=volume(far)), "label 9 is not in the class list"),
        "empty": (case(label=volume(np.zeros(SHAPE, np.uint8))), "no voxel is labelled"),
        "shape": (case(label=volume(label()[:5])), "must be its image's"),
        "place": (case(label=volume(label(), moved)), "lies up to 0.50 mm from its image"),
        "flat": (case(image=volume(np.ones(SHAPE, np.float32))), "one value everywhere"),
        "channels": (case(image=volume(np.stack([image()] * 2))), "has 2 channels"),
        "floats": (case(label=volume(label() + 0.5)), "not whole numbers"),
    }


@pytest.mark.parametrize("name", broken())
def test_a_bad_case_is_told_in_a_line(name: str) -> None:
    made, said = broken()[name]
    read = checked(made)
    assert read.facts is None
    assert any(said in problem for problem in read.problems)
    assert not any("\n" in problem for problem in read.problems)


def test_every_problem_of_a_case_is_told() -> None:
    bad, nan = label()[:5].copy(), np.stack([image(), np.zeros(SHAPE, np.float32)])
    nan[0, 0, 0, 0], bad[0, 0, 0] = np.inf, 7
    read = checked(case(image=volume(nan), label=volume(bad)))
    assert read.facts is None
    assert [problem.partition(": ")[2] for problem in read.problems] == [
        "contains infinity (1 voxels); replace them, for example by 0",
        "has 2 channels: must have 1 (t1); put all into one 4-D file, or each into its own "
        "(case_0000, case_0001 …)",
        "channel 2 has one value everywhere; leave the case out",
        "label 7 is not in the class list; add or correct it",
        "shape (5, 5, 4): must be its image's (6, 5, 4); resample it",
    ]


@pytest.mark.parametrize(("moved_mm", "good"), [(0.009, True), (0.011, False)])
def test_a_label_may_lie_a_hundredth_of_a_millimetre_from_its_image(moved_mm, good) -> None:  # type: ignore[no-untyped-def]
    moved = GRID.copy()
    moved[0, 3] = moved_mm
    assert (checked(case(label=volume(label(), moved))).problems == ()) is good


def test_a_label_full_of_unknown_values_is_told_in_a_short_line() -> None:
    (problem,) = checked(case(label=volume(np.arange(120).reshape(SHAPE)))).problems
    assert "label 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, ... is not" in problem


def test_a_file_that_cannot_be_read_is_a_problem_not_an_error(tmp_path) -> None:  # type: ignore[no-untyped-def]
    read = checked(Case("a", tmp_path / "none.nii.gz", volume(label())))
    assert any("no such file" in problem for problem in read.problems)


def test_the_unlabelled_value_is_allowed() -> None:
    marked = label()
    marked[0, 0, 0] = 9
    assert checked(case(label=volume(marked)), unlabelled=9).problems == ()


def test_the_report_names_all_bad_cases_and_they_can_be_left_out() -> None:
    bad = [replace(made, name=name) for name, (made, _) in broken().items()]
    made = data_set(case("good"), *bad[:4], validation=(case("kept"), *bad[4:]))
    events = list(checking(made))
    assert [c.held_out for c in events] == [False] * 5 + [True] * 5
    said = report(events)
    assert said.startswith("8 of 10 cases cannot be used:\n")
    assert all(f"\n{name}: " in said for name in broken())
    assert "--skip-bad" in said
    rest = without_bad(made, events)
    assert [c.name for c in (*rest.training, *rest.validation)] == ["good", "kept"]
    assert report(list(checking(rest))).startswith("All 2 cases are good.")


def test_nothing_left_to_train_on_is_refused() -> None:
    made = data_set(broken()["nan"][0])
    with pytest.raises(DataError, match="every training case is bad"):
        without_bad(made, list(checking(made)))


def test_a_class_that_no_case_to_train_on_holds_is_told() -> None:
    held, named = label(), {1: "one", 2: "two", 3: "three", 4: "four"}
    held[0, 0, 0] = 3
    made = data_set(case("a"), labels=named, validation=(case("b", label=volume(held)),))
    assert class_notes(made, list(checking(made))) == (
        "Class 3 (three) is only in held-out cases (b): it is not learnt; train on one of them.",
        "Class 4 (four) is in no case: it is not learnt.",
    )
    assert class_notes(data_set(case()), list(checking(data_set(case())))) == ()


def test_what_is_to_know_of_good_cases_is_in_the_report_once_with_their_names():
    note = "qform and sform differ by up to 3.1 mm; the sform was used"
    noted = {"image": replace(volume(image()), notes=(note,))}
    noted["label"] = replace(volume(label()), notes=(note,))
    both = list(checking(data_set(case("a", **noted), case("b", **noted))))
    assert [each.notes[0] for each in both] == [note, note]
    assert report(both).splitlines()[:2] == ["All 2 cases are good.", f"a, b: {note}"]
