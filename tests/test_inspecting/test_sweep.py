import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from napari_tokensparse.benchmarks.macs import gmacs
from napari_tokensparse.inspecting.curve import save_curve
from napari_tokensparse.inspecting.drawing import RULE_COLOURS, SCORER_COLOURS
from napari_tokensparse.inspecting.points import SweepPoint
from napari_tokensparse.inspecting.progress import RunProgress
from napari_tokensparse.inspecting.sweep import Sweep, sweep, sweeping
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.segmenting.infer import SegmentError, segment
from napari_tokensparse.volumes.region import Box
from napari_tokensparse.volumes.volume import Volume

MakeModel = Callable[..., SCD]
BOX = Box((2, 0, 5), (15, 17, 25))


def scan(seed: int = 0) -> Volume:
    coarse = np.random.default_rng(seed).normal(size=(6, 4, 4)).astype(np.float32)
    return Volume(coarse.repeat(8, 0).repeat(8, 1).repeat(8, 2)[None], np.eye(4), "scan")


def labels_of(array: NDArray[np.integer]) -> Volume:
    return Volume(array[None], np.eye(4), "truth")


def dice_of(predicted: NDArray[np.integer], true: NDArray[np.integer], value: int) -> float:
    a, b = predicted == value, true == value
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_every_ratio_and_scorer_is_compared_with_keep_ratio_one(make_model: MakeModel) -> None:
    model, volume = make_model(), scan()
    result = sweep(volume, model, [0.5, 0.1], scorers=["learned", "random"])
    assert [(p.scorer, p.keep_ratio) for p in result.points] == [
        *(("learned", r) for r in (0.1, 0.5, 1.0)),
        *(("random", r) for r in (0.1, 0.5, 1.0)),
    ]
    whole = segment(volume, model, 1.0)
    for point in result.points:
        run = segment(volume, model, point.keep_ratio, scorer=point.scorer)
        assert list(point.dice) == ["part 17", "part 53", "part 4"]
        for value in (17, 53, 4):
            expected = dice_of(run.labels, whole.labels, value)
            assert point.dice[f"part {value}"] == pytest.approx(expected)
        assert point.mean_dice == pytest.approx(sum(point.dice.values()) / 3)
        assert point.labels_dice is point.mean_labels_dice is None
        assert (point.tokens_kept, point.tokens) == (
            run.stats.tokens["kept"],
            run.stats.tokens["processed"],
        )
        window = gmacs(model.config, point.keep_ratio)["total"]
        assert point.gmacs == pytest.approx(2 * window)  # windows
        assert 0 < point.network_seconds < point.seconds
        assert point.peak_mb >= 0
    low, half, one = result.line("learned")
    assert low.gmacs < half.gmacs < one.gmacs
    assert one.mean_dice == 1.0
    assert half.mean_dice is not None and low.mean_dice is not None
    assert 0.2 < low.mean_dice < 0.99 and 0.2 < half.mean_dice < 0.99
    assert result.line("random")[-1].seconds == one.seconds  # one run
    assert (result.model, result.device, result.region) == ("nano", "cpu", None)
    assert result.scorers == ("learned", "random")
    assert not result.has_labels


def test_in_a_region_only_its_voxels_are_compared_also_with_labels(make_model: MakeModel) -> None:
    model, volume = make_model(overlap=0.0), scan()
    truth = np.random.default_rng(3).choice([0, 17, 53], volume.shape).astype(np.uint8)
    truth[0] = 4  # outside the box
    result = sweep(volume, model, [0.3], labels=labels_of(truth), scorers=["intensity"], region=BOX)
    whole, point = (result.line("intensity")[n] for n in (1, 0))
    one = segment(volume, model, 1.0).labels[BOX.slices]
    run = segment(volume, model, 0.3, scorer="intensity")
    predicted, true = run.labels[BOX.slices], truth[BOX.slices]
    assert whole.labels_dice is not None and point.labels_dice is not None
    for value in (17, 53):
        name = f"part {value}"
        assert point.dice[name] == pytest.approx(dice_of(predicted, one, value))
        assert point.labels_dice[name] == pytest.approx(dice_of(predicted, true, value))
        assert whole.labels_dice[name] == pytest.approx(dice_of(one, true, value))
    assert point.labels_dice["part 4"] == 0.0  # found, but not true there
    assert result.region == BOX
    assert result.has_labels
    assert point.gmacs == pytest.approx(gmacs(model.config, 0.3)["total"])  # one window of two


def test_a_class_that_neither_run_finds_is_left_out(make_model: MakeModel) -> None:
    model = make_model()
    model.decoder.out.conv.conv.bias.data[2] = -99.0
    (point, _) = sweep(scan(), model, [0.5], scorers=["learned"]).points
    assert list(point.dice) == ["part 17", "part 4"]


def test_overlapping_classes_are_compared_by_their_masks(make_model: MakeModel) -> None:
    model = make_model(values=(2, 1, 4), exclusive=False, regions=((1, 2, 4), (1, 4), (4,)))
    volume = scan()
    truth = np.random.default_rng(3).choice([0, 1, 2, 4], volume.shape).astype(np.uint8)
    (point, _) = sweep(volume, model, [0.3], labels=labels_of(truth), scorers=["learned"]).points
    one, run = (segment(volume, model, r).regions for r in (1.0, 0.3))
    assert one is not None and run is not None and point.labels_dice is not None
    for n, (name, values) in enumerate([("part 2", (1, 2, 4)), ("part 1", (1, 4))]):
        assert point.dice[name] == pytest.approx(dice_of(run[n], one[n], 1))
        assert point.labels_dice[name] == pytest.approx(dice_of(run[n], np.isin(truth, values), 1))


def test_the_reference_runs_first_and_once_and_progress_counts_all_runs(
    make_model: MakeModel,
) -> None:
    events = list(sweeping(scan(), make_model(), [1.0, 0.5, 0.5], scorers=["learned", "random"]))
    sweeps = [e for e in events if isinstance(e, Sweep)]
    assert events[-1] is sweeps[-1]
    assert [[p.keep_ratio for p in e.line("learned")] for e in sweeps] == [
        *([1.0], [0.5, 1.0], [0.5, 1.0])
    ]
    assert [[p.keep_ratio for p in e.line("random")] for e in sweeps] == [
        *([1.0], [1.0], [0.5, 1.0])
    ]
    progress = [e for e in events if isinstance(e, RunProgress)]
    assert [(e.run, e.done) for e in progress] == [(r, d) for r in (1, 2, 3) for d in (0, 1, 2)]
    assert {(e.runs, e.total) for e in progress} == {(3, 2)}
    assert [e.share for e in progress] == pytest.approx(
        [0, 1 / 6, 1 / 3, 1 / 3, 1 / 2, 2 / 3, 2 / 3, 5 / 6, 1]
    )
    assert progress[0].seconds_left is None
    assert progress[-1].seconds_left == 0


def test_by_importance_as_many_tokens_are_kept_as_by_a_share(
    make_model: MakeModel, tmp_path: Path
) -> None:
    model, volume = make_model(), scan()
    events = list(sweeping(volume, model, [0.8, 0.5], scorers=["learned"], by_importance=True))
    assert {e.runs for e in events if isinstance(e, RunProgress)} == {5}
    result = events[-1]
    assert isinstance(result, Sweep)
    by_share, by_importance = result.line("learned"), result.importance_line
    assert len(by_share) == len(by_importance) == 3
    assert by_importance[-1].importance == 0.0 and by_importance[-1].mean_dice == 1.0
    least = [p.importance for p in by_importance]
    assert least == sorted(least, reverse=True)
    for point, share in zip(by_importance[:-1], by_share[:-1], strict=True):
        run = segment(volume, model, importance=point.importance)
        kept = run.stats.tokens["kept"]
        assert (point.tokens_kept, point.tokens) == (kept, share.tokens)
        assert point.keep_ratio**3 == pytest.approx(kept / share.tokens)
        assert abs(point.kept_share - share.kept_share) < 0.15
        assert 0 < point.gmacs < by_share[-1].gmacs
    points = json.loads(result.to_json(tmp_path / "sweep.json").read_text())["points"]
    assert [p.get("importance") for p in points][:3] == [None] * 3
    assert points[3]["importance"] == pytest.approx(least[0])
    with result.to_csv(tmp_path / "sweep.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file))[-1]["importance"]
    with Image.open(save_curve(tmp_path / "sweep.png", result)) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    middle = pixels[:, pixels.shape[1] // 3 : 2 * pixels.shape[1] // 3]
    for colour in RULE_COLOURS.values():
        wanted = tuple(bytes.fromhex(colour[1:]))
        assert (np.abs(middle - wanted).max(axis=-1) < 8).sum() > 100


@pytest.fixture(scope="module")
def swept() -> Sweep:
    def point(scorer: str, ratio: float, dice: float, true: float, cost: float) -> SweepPoint:
        return SweepPoint(
            scorer,  # type: ignore[arg-type]
            ratio,
            {"liver": dice},
            {"liver": true, "lung": 0.5},
            2 * cost,
            cost,
            10 * cost,
            100 * cost,
            int(64 * ratio),
            64,
        )

    points = (
        *(point("learned", 0.25, 0.8, 0.7, 0.5), point("learned", 1.0, 1.0, 0.9, 1.0)),
        *(point("random", 0.25, 0.4, 1 / 3, 0.5), point("random", 1.0, 1.0, 0.9, 1.0)),
    )
    return Sweep("nano", ("liver", "lung"), "cpu", "growth", BOX, points)


def test_csv_has_a_row_for_each_class_and_the_mean(swept: Sweep, tmp_path: Path) -> None:
    with swept.to_csv(tmp_path / "sweep.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 3
    assert [row["class"] for row in rows[:3]] == ["mean", "liver", "lung"]
    assert rows[0] == {
        "scorer": "learned",
        "keep_ratio": "0.25",
        "class": "mean",
        "dice": "0.8",
        "labels_dice": "0.6",
        "seconds": "1.0",
        "network_seconds": "0.5",
        "gmacs": "5.0",
        "peak_mb": "50.0",
        "tokens_kept": "16",
        "tokens": "64",
    }
    assert (rows[2]["dice"], rows[2]["labels_dice"]) == ("", "0.5")
    assert rows[7]["labels_dice"] == "0.333333"


def test_json_holds_every_point_and_what_was_measured(swept: Sweep, tmp_path: Path) -> None:
    written = json.loads(swept.to_json(tmp_path / "sweep.json").read_text())
    assert (written["model"], written["device"], written["memory"]) == ("nano", "cpu", "growth")
    assert written["region"] == "2:15,0:17,5:25"
    assert written["points"][0] == {
        "scorer": "learned",
        "keep_ratio": 0.25,
        "mean_dice": 0.8,
        "dice": {"liver": 0.8},
        "labels_mean_dice": 0.6,
        "labels_dice": {"liver": 0.7, "lung": 0.5},
        "seconds": 1.0,
        "network_seconds": 0.5,
        "gmacs": 5.0,
        "peak_mb": 50.0,
        "tokens_kept": 16,
        "tokens": 64,
    }


def test_the_picture_draws_the_learned_line_thick_and_the_controls_thin(
    swept: Sweep, tmp_path: Path
) -> None:
    with Image.open(save_curve(tmp_path / "sweep.png", swept)) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    first = pixels[:, : pixels.shape[1] // 3]  # the agreement with keep ratio 1.0

    def drawn(scorer: str) -> NDArray[np.bool_]:
        wanted = tuple(bytes.fromhex(SCORER_COLOURS[scorer][1:]))  # type: ignore[index]
        mask: NDArray[np.bool_] = np.abs(first - wanted).max(axis=-1) < 8
        return mask

    some = slice(first.shape[1] * 5 // 10, first.shape[1] * 7 // 10)
    masks = {name: drawn(name)[:, some] for name in ("learned", "random")}
    thickness = {name: mask.sum(axis=0).mean() for name, mask in masks.items()}
    assert thickness["learned"] >= 2 * thickness["random"] > 0
    rows = {name: np.nonzero(mask)[0].mean() for name, mask in masks.items()}
    assert rows["learned"] < rows["random"]  # the better one lies higher


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"keep_ratios": [0.5, 1.4]}, "keep ratio 1.4: must be in (0, 1]"),
        ({"keep_ratios": []}, "nothing to sweep: give at least one keep ratio and one scorer"),
        ({"scorers": ["entropy"]}, "scorer 'entropy': choose one of learned, random, intensity"),
        ({"region": Box((0, 0, 0), (49, 1, 1))}, "region 0:49,0:1,0:1: scan has 48 voxels along i"),
        (
            {"labels": labels_of(np.full((48, 32, 32), 2, np.uint8))},
            "truth: holds no label of model nano; choose labels with its values",
        ),
        (
            {"labels": labels_of(np.full((48, 32, 31), 4, np.uint8))},
            "truth: shape (48, 32, 31): must be its image's (48, 32, 32); resample it",
        ),
    ],
)
def test_what_cannot_be_swept_is_refused_in_one_line_before_anything_is_run(
    make_model: MakeModel, options: dict[str, object], line: str
) -> None:
    events = sweeping(scan(), make_model(), **{"keep_ratios": [0.5], **options})  # type: ignore[arg-type]
    with pytest.raises(ValueError) as refused:
        next(events)
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)


def test_a_model_without_pruning_cannot_be_swept(make_model: MakeModel) -> None:
    from napari_tokensparse.model.presets import preset

    dense = preset("nano", prune_after=(), keep_ratio=(), completion="none", out_channels=4)
    model = SCD(dense, make_model().info).eval()
    with pytest.raises(SegmentError, match="this model prunes no tokens"):
        sweep(scan(), model, [0.5])
