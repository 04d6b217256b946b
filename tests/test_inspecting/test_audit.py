import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_tokensparse.inspecting.audit import (
    Audit,
    audit,
    auditing,
    compare,
    difference,
    token_shares,
)
from napari_tokensparse.inspecting.progress import RunProgress
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.segmenting import run as run_module
from napari_tokensparse.segmenting.infer import Segmentation, segment
from napari_tokensparse.volumes.region import Box
from napari_tokensparse.volumes.volume import Volume

MakeModel = Callable[..., SCD]
AFFINE = np.array([[0, -1.0, 0, 5], [2.0, 0, 0, -3], [0, 0, 1.5, 2], [0, 0, 0, 1.0]])
MM3 = 3.0


def scan(*shape: int) -> Volume:
    shape = shape or (32, 32, 32)
    coarse = np.random.default_rng(0).normal(size=[-(-n // 4) for n in shape]).astype(np.float32)
    array = coarse.repeat(4, 0).repeat(4, 1).repeat(4, 2)[tuple(map(slice, shape))]
    return Volume(array[None], AFFINE, "scan")


def test_a_voxel_is_the_same_lost_gained_or_of_another_class() -> None:
    before = np.array([0, 1, 1, 0, 2, 2, 1], np.uint8)
    after = np.array([0, 1, 0, 2, 1, 2, 2], np.uint8)
    assert difference(before, after).tolist() == [0, 0, 1, 2, 3, 0, 3]


def test_shares_count_a_masks_voxels_by_what_became_of_their_token() -> None:
    pruned_at = np.array([[0, 1, 1, 2], [3, 3, 3, 2]], np.uint8)
    mask = np.array([[1, 1, 0, 1], [1, 0, 0, 0]], bool)
    assert token_shares(mask, pruned_at, 2) == (0.25, 0.25, 0.25, 0.25)
    assert token_shares(pruned_at == 3, pruned_at, 2) == (0.0, 0.0, 0.0, 1.0)
    assert token_shares(np.zeros((2, 4), bool), pruned_at, 2) is None


@pytest.fixture
def runs(make_model: MakeModel) -> tuple[SCD, Volume, Segmentation]:
    model, volume = make_model(), scan()
    return model, volume, segment(volume, model, 0.5)


def painted(result: Segmentation, *boxes: tuple[int, tuple[slice, slice, slice]]) -> Segmentation:
    labels = np.zeros_like(result.labels)
    for value, where in boxes:
        labels[where] = value
    return replace(result, labels=labels)


def cube(i: int, j: int, k: int, n: int) -> tuple[slice, slice, slice]:
    return slice(i, i + n), slice(j, j + n), slice(k, k + n)


def test_two_runs_are_compared_class_by_class(
    runs: tuple[SCD, Volume, Segmentation],
) -> None:
    model, volume, run = runs
    assert model.info is not None
    before = painted(
        run, (17, cube(2, 2, 2, 4)), (17, cube(20, 20, 20, 2)), (53, cube(8, 8, 24, 3))
    )
    after = painted(run, (17, cube(2, 2, 2, 3)), (53, cube(8, 8, 24, 3)), (4, cube(20, 8, 8, 1)))
    result = compare(volume, model.info, before, after)

    expected = np.zeros(volume.shape, np.uint8)
    expected[cube(2, 2, 2, 4)] = expected[cube(20, 20, 20, 2)] = 1
    expected[cube(2, 2, 2, 3)] = 0
    expected[cube(20, 8, 8, 1)] = 2
    assert np.array_equal(result.difference, expected)
    assert result.voxels() == {
        "same": 32**3 - 46,
        "lost": 64 - 27 + 8,
        "gained": 1,
        "another class": 0,
    }
    listed = [(c.name, c.change, c.lost_mm3, c.voxel) for c in result.components]
    assert listed == [
        ("part 17", "shrank", pytest.approx(37 * MM3), (3, 3, 3)),
        ("part 17", "vanished", pytest.approx(8 * MM3), (20, 20, 20)),
        ("part 4", "appeared", pytest.approx(-1 * MM3), (20, 8, 8)),
    ]
    # Voxel (3.5, 3.5, 3.5): x = -3.5 + 5, y = 2 * 3.5 - 3, z = 1.5 * 3.5 + 2.
    assert result.components[0].centre_mm == pytest.approx((1.5, 4.0, 7.25))

    first, second, third = result.classes
    assert [c.name for c in result.classes] == ["part 17", "part 53", "part 4"]
    assert (first.before_mm3, first.after_mm3) == pytest.approx((72 * MM3, 27 * MM3))
    assert [c.dice for c in result.classes] == [pytest.approx(2 * 27 / 99), 1.0, 0.0]
    assert third.rebuilt_before is None
    pruned_at = run.tokens.on_input_grid(run.tokens.pruned_at)
    for row, labels, value in [(first, after.labels, 17), (second, after.labels, 53)]:
        fates = [float((pruned_at[labels == value] == n).mean()) for n in range(5)]
        assert row.rebuilt == pytest.approx(fates[1:4])
        assert (row.not_processed, row.kept) == pytest.approx((0.0, fates[4]))
    fates = [float((pruned_at[before.labels == 17] == n).mean()) for n in (1, 2, 3)]
    assert first.rebuilt_before == pytest.approx(fates)
    assert first.rebuilt_before != first.rebuilt


def test_a_loss_larger_than_another_comes_first_and_the_largest_gain_first_of_the_gains(
    runs: tuple[SCD, Volume, Segmentation],
) -> None:
    model, volume, run = runs
    assert model.info is not None
    before = painted(run, (17, cube(0, 0, 0, 2)), (53, cube(9, 9, 9, 3)))
    after = painted(run, (4, cube(20, 0, 0, 2)), (17, cube(0, 20, 20, 4)))
    result = compare(volume, model.info, before, after)
    assert [(c.value, c.change) for c in result.components] == [
        (53, "vanished"),
        (17, "vanished"),
        (17, "appeared"),
        (4, "appeared"),
    ]


def test_an_audit_compares_with_keep_ratio_one(make_model: MakeModel) -> None:
    model, volume = make_model(overlap=0.0), scan(48, 32, 32)
    events = list(auditing(volume, model, (0.5, 0.25, 1.0)))
    progress = [(e.run, e.runs, e.done) for e in events if isinstance(e, RunProgress)]
    assert progress == [(r, 2, d) for r in (1, 2) for d in (0, 1, 2)]
    result = events[-1]
    assert isinstance(result, Audit)
    before, after = segment(volume, model, 1.0), segment(volume, model, (0.5, 0.25, 1.0))
    assert np.array_equal(result.difference, difference(before.labels, after.labels))
    assert result.difference.any()
    assert result.keep_ratio == (0.5, 0.25, 1.0)
    for row in result.classes:
        assert row.after_mm3 == pytest.approx((after.labels == row.value).sum() * MM3)
        assert row.rebuilt is not None and row.kept is not None and row.not_processed is not None
        assert sum(row.rebuilt) + row.kept + row.not_processed == pytest.approx(1.0)
        assert row.rebuilt[0] > 0.2
        assert row.rebuilt[2] == 0.0  # the last stage prunes nothing


def test_an_audit_of_a_region_tells_of_the_region_alone(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of two threads, how many windows are run at once decides last digits.
    monkeypatch.setattr(run_module, "windows_at_once", lambda *_: 1)
    model, volume, box = make_model(), scan(), Box((3, 0, 5), (19, 17, 30))
    whole, part = audit(volume, model, 0.25), audit(volume, model, 0.25, region=box)
    expected = np.zeros_like(whole.difference)
    expected[box.slices] = whole.difference[box.slices]
    assert np.array_equal(part.difference, expected)
    assert part.region == box
    assert len(part.components) > 3
    labels = {r: segment(volume, model, r).labels for r in (1.0, 0.25)}
    for component in part.components:
        run = 0.25 if component.change == "appeared" else 1.0
        assert labels[run][component.voxel] == component.value
        assert all(a <= n < b for a, n, b in zip(box.start, component.voxel, box.stop, strict=True))
    near = [(AFFINE @ [*c.voxel, 1])[:3] - c.centre_mm for c in part.components]
    assert np.median(np.linalg.norm(near, axis=1)) < 4.0


def test_without_pruning_nothing_differs_and_there_is_one_run(make_model: MakeModel) -> None:
    events = list(auditing(scan(), make_model(), 1.0))
    assert {e.runs for e in events if isinstance(e, RunProgress)} == {1}
    result = events[-1]
    assert isinstance(result, Audit)
    assert not result.difference.any()
    assert result.components == ()
    assert {c.dice for c in result.classes} == {1.0}


def test_overlapping_classes_are_audited_by_their_masks(make_model: MakeModel) -> None:
    model, volume = make_model(values=(2, 1, 4), exclusive=False), scan()
    result = audit(volume, model, 0.25)
    masks = segment(volume, model, 0.25).regions
    assert masks is not None
    assert [c.after_mm3 for c in result.classes] == pytest.approx(masks.sum(axis=(1, 2, 3)) * MM3)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"keep_ratio": 0.0}, "keep ratio 0: must be in (0, 1]"),
        ({"keep_ratio": (0.5, 0.5)}, "keep ratio (0.5, 0.5): give one number, or one per stage"),
        ({"device": "tpu"}, "device 'tpu': this machine has"),
        ({"region": Box((0, 0, 0), (9, 9, 33))}, "region 0:9,0:9,0:33: scan has 32 voxels along k"),
    ],
)
def test_what_cannot_be_audited_is_refused_in_one_line(
    make_model: MakeModel, options: dict[str, Any], line: str
) -> None:
    with pytest.raises(ValueError) as refused:
        audit(scan(), make_model(), **{"keep_ratio": 0.5, **options})
    assert str(refused.value).startswith(line)


def test_tables_and_json_hold_every_class_and_component(
    runs: tuple[SCD, Volume, Segmentation], tmp_path: Path
) -> None:
    model, volume, run = runs
    assert model.info is not None
    before, after = painted(run, (17, cube(2, 2, 2, 4))), painted(run, (53, cube(2, 2, 2, 1)))
    result = compare(volume, model.info, before, after)

    def rows(path: Path) -> list[dict[str, str]]:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    lost, new = rows(result.components_to_csv(tmp_path / "components.csv"))
    assert lost == {
        **{"class": "part 17", "value": "17", "change": "vanished", "before_mm3": "192.0"},
        **{"after_mm3": "0.0", "lost_mm3": "192.0", "x_mm": "1.5", "y_mm": "4.0", "z_mm": "7.25"},
        **{"i": "3", "j": "3", "k": "3"},
    }
    assert (new["class"], new["change"], new["lost_mm3"]) == ("part 53", "appeared", "-3.0")
    classes = rows(result.classes_to_csv(tmp_path / "classes.csv"))
    assert [c["class"] for c in classes] == ["part 17", "part 53", "part 4"]
    assert list(classes[0])[5:] == [
        *("rebuilt_stage_1", "rebuilt_stage_2", "rebuilt_stage_3", "kept", "not_processed"),
        *("before_rebuilt_stage_1", "before_rebuilt_stage_2", "before_rebuilt_stage_3"),
    ]
    assert classes[0]["rebuilt_stage_1"] == classes[0]["kept"] == ""
    written = json.loads(result.to_json(tmp_path / "audit.json").read_text())
    assert written["voxels"] == {"same": 32**3 - 64, "lost": 63, "gained": 0, "another class": 1}
    assert written["keep_ratio"] == [0.5, 0.5, 0.5]
    assert written["voxel_mm3"] == 3.0
    assert written["region"] is None
    assert written["components"][0]["centre_mm"] == [1.5, 4.0, 7.25]
    assert written["components"][0]["lost_mm3"] == 192.0
    assert written["classes"][2]["dice"] is None
    assert written["classes"][0]["rebuilt"] is None
