"""Small benchmarks, all the way from a plan to rows."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.util import find_spec
from math import log
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_tokensparse.benchmarks import apart, inference, training, volume
from napari_tokensparse.benchmarks.apart import Done, Job, nano_network, run, write_noise
from napari_tokensparse.benchmarks.bfloat16 import time_bfloat16
from napari_tokensparse.benchmarks.inference import time_inference
from napari_tokensparse.benchmarks.int8 import time_int8
from napari_tokensparse.benchmarks.macs import gmacs, step_gmacs, update_gmacs
from napari_tokensparse.benchmarks.networks import PRESETS, dense_of, families, has_unetr
from napari_tokensparse.benchmarks.plan import Plan, make_plan
from napari_tokensparse.benchmarks.preview import FULL, UPDATE, time_preview
from napari_tokensparse.benchmarks.report import HINTED, Report, Row, by_float32, by_full
from napari_tokensparse.benchmarks.sections import benchmark
from napari_tokensparse.benchmarks.sparse import SHARES, WINDOWS, held, time_sparse
from napari_tokensparse.benchmarks.timing import MatrixRate, Note, Round
from napari_tokensparse.compute.backends.base import Backend
from napari_tokensparse.model.presets import preset
from napari_tokensparse.segmenting.preview import PreviewSession
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import Volume, write_nifti
from napari_tokensparse.volumes.windows import window_grid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from napari_tokensparse.model.scd import SCD


class Fixed(MatrixRate):
    """A machine of 2 GMAC/s."""

    def __init__(self) -> None:
        self._seconds: list[float] = []

    def measure(self) -> None:
        self._seconds.append(2048**3 / 2e9)


def plan(**given: object) -> Plan:
    usual = Plan(("nano",), (0.5, 1.0), ("plain",), rounds=2, rate=Fixed())
    return replace(usual, **given)


def rows_of(events: Iterable[object]) -> list[Row]:
    return [event for event in events if isinstance(event, Row)]


@pytest.fixture(scope="module")
def report() -> Report:
    """Count and train once, at keep ratio 0.5."""
    *_, last = benchmark({"training", "macs"}, plan(rounds=1, keep_ratios=(0.5,)))
    assert isinstance(last, Report)
    return last


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[object], Path]:
    """Time a window once by two backends, where there are two; beside it the user's cache."""
    cache = tmp_path_factory.mktemp("cache")
    backends = ("plain", "openvino") if find_spec("openvino") else ("plain",)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKENSPARSE_CACHE", str(cache))
        events = list(time_inference(plan(rounds=1, backends=backends)))
        assert os.environ["TOKENSPARSE_CACHE"] == str(cache)
    return events, cache


@pytest.mark.xdist_group("window")  # one process has it
def test_a_window_is_timed_in_all_and_in_parts_pruned_dense_and_by_monai(
    timed: tuple[list[object], Path],
) -> None:
    rows = [row for row in rows_of(timed[0]) if row.backend == "plain"]
    totals = {(r.variant, r.keep_ratio): r for r in rows if r.part == "total"}
    named = [("scd", 0.5), ("scd", 1.0), ("dense", 1.0)]
    assert list(totals) == [*named, ("monai-unetr", 1.0)] if has_unetr() else named
    assert all(
        r.seconds and r.peak_mb is not None and r.backend == "plain" for r in totals.values()
    )
    assert totals["scd", 0.5].gmacs == gmacs(preset("nano"), 0.5)["total"]
    assert totals["dense", 1.0].gmacs == gmacs(dense_of(preset("nano")), 1.0)["total"]
    parts = {r.part: r for r in rows if (r.variant, r.keep_ratio) == ("scd", 0.5)}
    assert set(parts) == {
        *("total", "patch embedding", "blocks", "pruning", "completion", "decoder"),
        *("norms", "other"),
    }
    assert parts["decoder"].gmacs == gmacs(preset("nano"), 0.5)["decoder"]
    assert parts["norms"].gmacs is None
    dense = {r.part: r.gmacs for r in rows if r.variant == "dense"}
    assert "pruning" not in dense


@pytest.mark.xdist_group("window")  # one process has it
def test_every_backend_is_timed_and_leaves_nothing_in_the_users_cache(
    timed: tuple[list[object], Path],
) -> None:
    pytest.importorskip("napari_tokensparse.compute.backends.ov", exc_type=ImportError)
    events, cache = timed
    assert not [event for event in events if isinstance(event, Note)]
    rows = [r for r in rows_of(events) if r.variant in ("scd", "dense")]
    totals = [(r.variant, r.keep_ratio, r.backend) for r in rows if r.part == "total"]
    assert totals == [
        *[("scd", ratio, "plain") for ratio in (0.5, 1.0)],
        *[("scd", ratio, "openvino") for ratio in (0.5, 1.0)],
        *[("dense", 1.0, backend) for backend in ("plain", "openvino")],
    ]
    assert {"blocks", "decoder"} <= {r.part for r in rows if r.backend == "openvino"}
    assert list(cache.iterdir()) == []


def test_a_backend_that_another_stands_in_for_is_left_out_with_a_note(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stand_in(model: SCD, _name: str) -> Backend:
        return Backend("plain", model, ("it cannot",))

    monkeypatch.setattr(inference, "make_backend", stand_in)
    events = list(time_inference(plan(rounds=1, backends=("openvino",))))
    notes = [event.text for event in events if isinstance(event, Note)]
    assert "nano scd by openvino is left out: it cannot" in notes
    assert {r.variant for r in rows_of(events)} <= {"monai-unetr"}


@pytest.mark.deep
def test_bfloat16_is_timed_beside_float32_in_operations_and_in_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("napari_tokensparse.compute.backends.ov", exc_type=ImportError)
    monkeypatch.setenv("TOKENSPARSE_CACHE", str(tmp_path))
    wanted = plan(rounds=1, backends=("plain", "openvino"))
    rows = rows_of(time_bfloat16(wanted))
    named = [(row.preset, row.variant, row.backend, row.keep_ratio) for row in rows]
    operations = [("product", "float32"), ("product", "bfloat16")]
    operations += [("convolution", name) for _, name in operations]
    ways = ("plain", "bfloat16", "openvino", HINTED)
    assert named == [
        *(("operation", kind, name, None) for kind, name in operations),
        *(("nano", "scd", way, 0.5) for way in ways),
    ]
    assert all(row.seconds and row.gmacs for row in rows)
    half = rows[5]
    assert by_float32(rows, half) == rows[4].seconds / half.seconds
    assert by_float32(rows, rows[1]) == rows[0].seconds / rows[1].seconds
    assert [row.agreement for row in rows[:4]] == [None] * 4
    assert rows[4].agreement == 1.0
    assert all(row.agreement > 0.98 for row in rows[5:])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.deep
def test_int8_is_timed_beside_float32_the_bundled_model_at_every_ratio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENSPARSE_CACHE", str(tmp_path))
    wanted = plan(rounds=1, presets=("brain-structures", "nano"), keep_ratios=(0.25, 0.5))
    rows = rows_of(time_int8(wanted))
    cases = [("brain-structures", 0.25), ("brain-structures", 0.5), ("nano", 0.25)]
    assert [(row.preset, row.keep_ratio, row.backend) for row in rows] == [
        (*case, way) for case in cases for way in ("plain", "openvino", "int8")
    ]
    assert all(row.seconds and row.gmacs for row in rows)
    assert [row.agreement for row in rows[::3]] == [1.0] * 3
    assert all(row.agreement > 0.9999 for row in rows[1::3])
    assert all(0.98 < row.agreement < 1 for row in rows[2:6:3])
    assert by_float32(rows, rows[2]) == rows[0].seconds / rows[2].seconds


def test_int8_is_left_out_with_a_note_where_a_package_is_lacking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("napari_tokensparse.benchmarks.int8.find_spec", lambda _: None)
    (note,) = time_int8(plan())
    assert note == Note("int8 is left out: pip install 'napari-tokensparse[int8]'")


def test_windows_that_hold_little_are_timed_beside_full_ones() -> None:
    rows = rows_of(time_sparse(plan(rounds=1)))
    assert [(row.variant, row.keep_ratio) for row in rows] == [
        (variant, share) for share in SHARES for variant in ("coarse-to-fine", "gated-pyramid")
    ]
    assert all(row.seconds and row.windows == WINDOWS for row in rows)
    assert by_full(rows, rows[0]) == rows[0].seconds / rows[-2].seconds
    assert by_full(rows, rows[-1]) == 1.0


@pytest.mark.parametrize("share", SHARES)
def test_half_of_the_windows_hold_most_of_what_there_is(share: float) -> None:
    counts = [int((scores > log(0.5)).sum()) for scores in held(1000, share)]
    assert sum(counts) == pytest.approx(1000 * WINDOWS * share)
    assert counts[0] == counts[2] == min(1000, 2000 * share)


@pytest.mark.xdist_group("report")
def test_a_training_step_is_timed_with_its_parts_and_memory(report: Report) -> None:
    rows = report.section("training")
    assert [(r.variant, r.keep_ratio, r.part) for r in rows] == [
        (variant, ratio, part)
        for variant, ratio in (("scd", 0.5), ("dense", 1.0))
        for part in ("total", "forward", "loss", "backward", "optimiser")
    ]
    whole, forward, loss, backward, optimiser = rows[:5]
    assert whole.gmacs == step_gmacs(preset("nano"), 0.5)
    assert forward.gmacs == gmacs(preset("nano"), 0.5)["total"]
    assert backward.gmacs == whole.gmacs - forward.gmacs
    assert loss.gmacs is None and optimiser.gmacs is None
    assert min(row.seconds for row in rows) > 0
    assert whole.peak_mb >= 0


def test_a_training_step_changes_the_weights() -> None:
    trainee = training.Trainee(preset("nano"))
    before = [p.detach().clone() for p in trainee.model.parameters()]
    trainee.step(0.5)
    changed = [
        not torch.equal(a, b) for a, b in zip(before, trainee.model.parameters(), strict=True)
    ]
    assert sum(changed) > 0.9 * len(changed)
    assert all(p.grad is None for p in trainee.model.parameters())


def test_a_preview_is_timed_whole_and_updated_at_every_keep_ratio(
    make_model: Callable[..., SCD],
) -> None:
    model = make_model()
    begun: list[None] = []
    model.encoder.patch_embed.register_forward_hook(lambda *_: begun.append(None))
    scan = Volume(np.ones((1, 32, 32, 32), np.float32), np.eye(4), "scan")
    rows = rows_of(time_preview(PreviewSession(scan, model), "nano", plan(rounds=1)))
    assert [(r.part, r.keep_ratio) for r in rows] == [
        (part, ratio) for ratio in (0.5, 1.0) for part in (FULL, UPDATE)
    ]
    assert len(begun) == 2 * 2  # with the warm-up, once for each whole window
    assert all(r.seconds > 0 for r in rows)
    for whole, update in zip(rows[::2], rows[1::2], strict=True):
        assert whole.gmacs == gmacs(model.config, whole.keep_ratio)["total"]
        assert update.gmacs == update_gmacs(model.config, update.keep_ratio) < whole.gmacs


def test_both_engines_give_a_volume_of_noise_the_same_labels_window_by_window(
    tmp_path: Path,
) -> None:
    scan = write_noise(tmp_path / "noise.nii", (168, 96, 96))
    threads = torch.get_num_threads()
    done = {
        name: run(Job(name, scan, tmp_path / f"{name}.nii", "nano", threads))
        for name in ("ours", "monai")
    }
    labels = {name: read_volume(tmp_path / f"{name}.nii").array for name in done}
    assert len(np.unique(labels["ours"])) == apart.CLASSES
    assert np.mean(labels["ours"] == labels["monai"]) >= 0.9999
    assert done["ours"].windows == done["monai"].windows == 2
    for one in done.values():
        parts = sum(s for part, s in one.seconds.items() if part != "total")
        assert 0.5 * one.seconds["total"] < parts <= one.seconds["total"]


def test_volumes_are_timed_by_each_engine_and_their_labels_compared() -> None:
    jobs: list[Job] = []

    def faked(job: Job) -> Done:
        jobs.append(job)
        scan = read_volume(job.scan)
        labels = np.zeros(scan.shape, np.uint8)
        labels[0] = job.engine == "monai"
        write_nifti(job.labels, labels, scan)
        spent = {"network": 3.0, "write": 1.0, "total": 5.0 + len(jobs)}
        return Done(spent, 100.0 + len(jobs), ((12, 12, 12),) * 5)

    wanted = plan(rounds=6, backends=("plain", "openvino"))
    events = list(volume.time_volumes(wanted, shapes=((16, 8, 8),), apart=faked))
    assert [(job.model, job.engine, job.backend) for job in jobs] == [
        *[("brain-structures", "ours", "plain"), ("brain-structures", "ours", "openvino")] * 2,
        *[("nano", "ours", "plain"), ("nano", "monai", "plain")] * 2,
    ]
    rounds = [event for event in events if isinstance(event, Round)]
    assert [r.what for r in rounds] == ["volume 197 × 233 × 189"] * 2 + ["volume 16 × 8 × 8"] * 2
    sample, by_openvino, ours, monai = (r for r in rows_of(events) if r.part == "total")
    assert (by_openvino.backend, by_openvino.agreement) == ("openvino", 1.0)
    assert (sample.preset, ours.preset, monai.variant) == (
        "brain-structures",
        "nano",
        "monai-inferer",
    )
    assert (sample.shape, ours.shape) == ((197, 233, 189), (16, 8, 8))
    assert (sample.seconds, sample.spread, sample.windows) == (7.0, 0.5, 5)
    assert (ours.peak_mb, monai.peak_mb) == (107.0, 108.0)
    assert ours.agreement is None and monai.agreement == 15 / 16
    network = next(r for r in rows_of(events) if r.part == "network" and r.preset == "nano")
    assert network.gmacs == 5 * gmacs(nano_network().config, 0.1)["total"]


def test_noise_is_segmented_in_bfloat16_too_by_both_engines_where_the_plan_names_it() -> None:
    jobs: list[Job] = []

    def faked(job: Job) -> Done:
        jobs.append(job)
        scan = read_volume(job.scan)
        write_nifti(job.labels, np.zeros(scan.shape, np.uint8), scan)
        return Done({"total": 1.0}, 1.0, ((12, 12, 12),))

    backends = ("plain", "openvino", "bfloat16")
    wanted = plan(rounds=1, backends=backends, shapes=((16, 8, 8), (24, 8, 8)))
    rows = rows_of(volume.time_volumes(wanted, apart=faked))
    noise = [job for job in jobs if job.model == "nano"]
    assert [(job.engine, job.backend) for job in noise] == 2 * [
        *(("ours", "plain"), ("monai", "plain")),
        *(("ours", "bfloat16"), ("monai", "bfloat16")),
    ]
    assert len({job.labels for job in noise}) == 4
    halves = [row for row in rows if row.preset == "nano" and row.backend == "bfloat16"]
    assert [(row.variant, row.shape) for row in halves] == [
        *(("scd", (16, 8, 8)), ("monai-inferer", (16, 8, 8))),
        *(("scd", (24, 8, 8)), ("monai-inferer", (24, 8, 8))),
    ]


def test_a_window_stands_for_as_many_voxels_in_each_volume() -> None:
    window, voxels = nano_network().config.window, []
    for shape in volume.SHAPES:
        grid = window_grid(shape, window, 8, 0.25)
        assert grid.padded == shape
        voxels.append(np.prod(shape) / len(grid.starts))
    assert max(voxels) <= 1.055 * min(voxels)


def test_monais_inferer_is_left_out_where_its_logits_have_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(volume, "_ROOM", 1e12)

    def faked(job: Job) -> Done:
        return Done({"total": 1.0}, 1.0, ((12, 12, 12),))

    events = list(volume.time_volumes(plan(), shapes=((8, 8, 8),), apart=faked))
    (note,) = (event for event in events if isinstance(event, Note))
    assert note.text == "monai-inferer is left out of 8 × 8 × 8: too little memory"
    assert {r.variant for r in rows_of(events)} == {"scd"}


@pytest.mark.xdist_group("report")
def test_a_report_holds_the_wanted_sections_with_their_efficiency(report: Report) -> None:
    assert list(dict.fromkeys(row.section for row in report.rows)) == ["macs", "training"]
    assert report.gemm_gmac_s == pytest.approx(2.0)
    (dense,) = (r for r in report.section("training") if (r.variant, r.part) == ("dense", "total"))
    assert dense.efficiency == pytest.approx(dense.gmacs / (dense.seconds * 2.0))
    assert all(row.efficiency is None for row in report.section("macs"))


def test_presets_of_one_family_take_turns_and_a_quick_plan_takes_the_small_ones() -> None:
    assert families(PRESETS) == {
        "btcv": ["btcv", "btcv-lite"],
        "brats": ["brats"],
        "small": ["small"],
        "brain-structures": ["brain-structures"],
    }
    quick = make_plan(quick=True)
    assert quick.presets_of(PRESETS) == ("small", "brain-structures")
    assert quick.rounds < make_plan().rounds
    assert make_plan(("btcv",), quick=True).presets_of(PRESETS) == ("btcv",)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"presets": ("tiny",)}, "preset 'tiny': choose one of"),
        ({"keep_ratios": (0.5, 1.5)}, "keep ratio 1.5: must be in"),
        ({"backends": ("auto",)}, "backend 'auto': name one of those"),
        ({"backends": ("tpu",)}, "backend 'tpu': choose one of"),
        ({"rounds": 0}, "rounds 0: must be at least 1"),
        ({"shapes": ((256, 100, 8),)}, "voxels 256x100x8: each must be a multiple of 8"),
    ],
)
def test_a_plan_that_cannot_be_measured_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plan(**given)
