"""Before a run: what it will take is told from rates of this machine, measured once and kept."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_tokensparse.compute.backends.choice import make_backend
from napari_tokensparse.compute.batching import network_bytes
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.folder import bundled_models_folder, describe_folder
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.segmenting.estimating import estimate as estimate_module
from napari_tokensparse.segmenting.estimating import labelrates, outline
from napari_tokensparse.segmenting.estimating import rates as rates_module
from napari_tokensparse.segmenting.estimating.estimate import Room, estimate, room
from napari_tokensparse.segmenting.estimating.learned import learn_from
from napari_tokensparse.segmenting.estimating.rates import Rates, calibrating, measuring, value_of
from napari_tokensparse.segmenting.estimating.timing import Stopwatch
from napari_tokensparse.segmenting.infer import segment, segment_with
from napari_tokensparse.segmenting.options import Options, options_for
from napari_tokensparse.segmenting.result import SegmentError
from napari_tokensparse.segmenting.windowing import windowed
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.region import Box
from napari_tokensparse.volumes.samples import sample_path
from napari_tokensparse.volumes.volume import Volume

MakeModel = Callable[..., SCD]
RATES = Rates(
    start=0.5,
    network=(0.25, 1.0, 0.0),
    stitch=0.125,
    label=(1e-6, 2e-6),
    sharpen=(0.25, 6e-6),
    likely=7e-6,
    prepare=(3e-6, 4e-6),
)
SHAPES = {
    "Orientationd": {"axcodes": "RAS"},
    "Spacingd": {"pixdim": [2.0, 1.5, 3.0], "mode": "bilinear"},
    "CropForegroundd": {"source_key": "image"},
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOKENSPARSE_CACHE", str(tmp_path))
    return tmp_path / "calibration"


def brain_in_a_box(shape: tuple[int, int, int] = (96, 80, 64)) -> Volume:
    """Make a bright block in a corner of an empty, oblique volume."""
    grey = np.zeros((1, *shape), np.float32)
    grey[:, 8:72, 16:56, 8:40] = np.random.default_rng(0).uniform(1, 2, (1, 64, 40, 32))
    affine = np.array([[0, 0, 1.5, 5], [-1, 0.05, 0, 0], [0, 1.2, 0, 0], [0, 0, 0, 1]])
    return Volume(grey, affine, "box")


def ticks(seconds: float = 1.0) -> Callable[[], float]:
    """Return a clock of which each look takes so many seconds."""
    times: Iterator[int] = iter(range(10_000))
    return lambda: seconds * next(times)


class OnAFreeMachine(Stopwatch):
    """A stopwatch of work that alone moves the clock."""

    def slowdown(self) -> float:
        return 1.0


def on_a_free_machine(estimated: estimate_module.Estimate) -> float:
    """Return the seconds of an estimate, whatever runs beside this test."""
    return estimated.seconds / estimated.slowdown


def of_a_machine(slowdown: float) -> Stopwatch:
    """Return a stopwatch of which each look takes a second, of a machine that is so busy."""
    return Stopwatch(ticks(), ticks(torch.get_num_threads() / slowdown))


@pytest.mark.parametrize("voxels", [2**21, 2**14])
@pytest.mark.parametrize("names", [(), ("Orientationd", "Spacingd"), tuple(SHAPES)])
@pytest.mark.parametrize("region", [None, Box((30, 20, 10), (50, 40, 30))])
def test_an_outline_is_that_of_the_run(
    make_model: MakeModel,
    monkeypatch: pytest.MonkeyPatch,
    voxels: int,
    names: tuple[str, ...],
    region: Box | None,
) -> None:
    monkeypatch.setattr(outline, "_VOXELS", voxels)
    steps = tuple({"_target_": name, "keys": "image", **SHAPES[name]} for name in names)
    model, volume = make_model(preprocessing=steps), brain_in_a_box()
    assert model.info is not None
    outlined = outline.outline(volume, model.config, model.info, region)
    run = segment(volume, model, region=region)
    assert outlined.windows == run.stats.windows
    assert outlined.voxels == (96 * 80 * 64 if region is None else 8000)
    grid = windowed(volume, model.config, model.info, model.info.overlap).grid
    cropped = "CropForegroundd" in names and voxels < 2**20
    assert outlined.grid.shape == pytest.approx(grid.shape, abs=4 if cropped else 0)


def test_the_sample_is_looked_at_coarsely() -> None:
    volume = read_volume(sample_path())
    folder = describe_folder(bundled_models_folder() / "brain-structures")
    outlined = outline.outline(volume, folder.config, folder.info)
    exact = windowed(volume, folder.config, folder.info, folder.info.overlap)
    assert outlined.grid.shape == pytest.approx(exact.grid.shape, abs=2)  # it is cropped
    assert outlined.windows == sum(map(exact.is_foreground, exact.grid.starts))


def test_seconds_are_rates_times_what_there_is_to_do(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate_module, "calibrating", known_rates)
    noise = np.random.default_rng(0).normal(100, 20, (1, 60, 50, 40)).astype(np.float32)
    estimated = estimate(Volume(noise, np.eye(4), "noise"), make_model(), (1.0, 0.5, 0.25))
    assert estimated.windows == 18  # run 6 at a time, on a grid of 60 x 50 x 40
    share = (6 * 1 + 3 * 0.5 + 3 * 0.125) / 12  # of tokens: 64, 64, 32, 8 after 0, 3, 6, 9 blocks
    voxels = 60 * 50 * 40
    expected = 0.5 + 18 * (0.25 + share) + 18 * 0.125 + voxels * (1e-6 + 2e-6 + 3e-6 + 4e-6)
    assert on_a_free_machine(estimated) == pytest.approx(expected, rel=1e-6)


def test_what_is_measured_is_kept_until_something_changes(
    make_model: MakeModel, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []

    def measure(backend: Any, clock: Any) -> Iterator[None]:
        measured.append(backend.name)
        yield
        return RATES

    monkeypatch.setattr(rates_module, "measuring", measure)
    model = make_model()
    for _ in range(2):
        assert value_of(calibrating(model)) == RATES
        assert value_of(calibrating(make_model())) == RATES  # other weights take as long
    assert len(measured) == 1
    (file,) = cache.iterdir()

    value_of(calibrating(make_model((1, 2))))
    other = make_model()
    assert other.info is not None
    other.info = other.info.model_copy(update={"preprocessing": (spacing(2.0),)})
    value_of(calibrating(other))
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 77)
        value_of(calibrating(model))
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "99.9")
        value_of(calibrating(model))
    assert len(measured) == 5
    assert len(list(cache.iterdir())) == 5

    for broken in ("", "{}", json.dumps({**RATES.model_dump(), "stitch": -1.0})):
        file.write_text(broken)
        assert value_of(calibrating(model)) == RATES
        assert Rates.model_validate_json(file.read_text()) == RATES
    assert len(measured) == 8


@pytest.mark.parametrize(("busy", "now", "again"), [(4.0, 1.0, 1), (4.0, 2.0, 0), (1.2, 1.0, 0)])
def test_what_a_busy_machine_took_is_measured_again_when_it_is_free(
    make_model: MakeModel,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    busy: float,
    now: float,
    again: int,
) -> None:
    measured: list[str] = []

    def measure(backend: Any, watch: Any) -> Iterator[None]:
        measured.append(backend.name)
        yield
        return RATES

    monkeypatch.setattr(rates_module, "measuring", measure)
    model = make_model()
    value_of(calibrating(model))
    (file,) = cache.iterdir()
    then = RATES.model_copy(update={"busy": busy})
    file.write_text(then.model_dump_json())
    value_of(calibrating(model, watch=of_a_machine(now)))
    assert len(measured) == 1 + again


def test_a_busy_machine_is_measured_as_if_it_were_free(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates_module, "_PHANTOM", 32**3)
    backend = make_backend(make_model(), "plain")
    free = value_of(measuring(backend, of_a_machine(1.0)))
    busy = value_of(measuring(backend, of_a_machine(4.0)))
    assert (free.busy, busy.busy) == (pytest.approx(1.0), pytest.approx(4.0))
    assert free.stitch == pytest.approx(1.0)
    assert busy.stitch == pytest.approx(0.25)
    assert sum(busy.network) == pytest.approx(sum(free.network) / 4, rel=0.01)


def test_a_machine_that_gives_no_seconds_is_as_busy_as_can_be() -> None:
    assert Stopwatch(ticks(), lambda: 0.0).slowdown() == 20.0
    assert of_a_machine(0.5).slowdown() == 1.0  # another thread worked too


def spacing(millimetres: float) -> dict[str, Any]:
    return {"_target_": "Spacingd", "keys": "image", "pixdim": [millimetres] * 3}


def test_a_cache_that_cannot_be_written_to_is_none(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TOKENSPARSE_CACHE", str(tmp_path / "file"))
    rates = value_of(calibrating(make_model(), "plain"))
    assert rates.network[0] + rates.network[1] > 0.0


@pytest.mark.parametrize("pixdim", [None, 2.0, [2.0, 1.5], [2.0, 1.5, 1.0]])
def test_parts_are_measured_by_the_clock(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, pixdim: Any
) -> None:
    monkeypatch.setattr(rates_module, "_PHANTOM", 32**3)
    steps = () if pixdim is None else ({**spacing(1.0), "pixdim": pixdim},)
    model = make_model(preprocessing=steps)
    rates = value_of(measuring(make_backend(model, "plain"), of_a_machine(1.0)))
    # Every part takes a second: a pass is of 8 windows of 32³, at either keep ratio.
    assert rates.start == 0.0
    assert sum(rates.network) == pytest.approx(1 / 8, rel=0.1)
    assert rates.stitch == 1.0
    assert rates.label[0] * 32**3 + rates.label[1] * 64**3 == pytest.approx(1.0, rel=0.2)
    if pixdim is None:
        assert sum(rates.prepare) * 32**3 == pytest.approx(1.0, rel=0.2)


def test_sharpening_is_measured_by_how_much_there_is_to_sharpen(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, sharpen = [0.0], labelrates.sharpen

    def slowly(labels: Any, contests: Any, *given: Any) -> int:
        now[0] += 1.0 + 1e-5 * len(contests)
        return sharpen(labels, contests, *given)

    monkeypatch.setattr(rates_module, "_PHANTOM", 32**3)
    monkeypatch.setattr(labelrates, "sharpen", slowly)
    backend = make_backend(make_model(), "plain")
    measured = value_of(measuring(backend, OnAFreeMachine(lambda: now[0])))
    assert measured.sharpen == pytest.approx((1.0, 1e-5), rel=0.01)
    assert measured.label == (0.0, 0.0)


@pytest.mark.parametrize("sharpen", [None, False, True])
def test_sharpening_is_counted_where_the_run_does_it(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, sharpen: bool | None
) -> None:
    monkeypatch.setattr(estimate_module, "calibrating", known_rates)
    volume, model = brain_in_a_box(), make_model(sharpen=True)
    bare = estimate(volume, model, 0.5, sharpen=False)
    estimated = estimate(volume, model, 0.5, sharpen=sharpen)
    wanted = 0.0 if sharpen is False else 0.25 + 6e-6 * 64 * 40 * 32  # voxels of the block
    more = on_a_free_machine(estimated) - on_a_free_machine(bare)
    assert more == pytest.approx(wanted, rel=0.1)


def test_maps_of_probabilities_are_counted_by_class(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate_module, "calibrating", known_rates)
    volume, model = brain_in_a_box(), make_model()
    estimates = []
    for kept in ({}, {"confidence": True}, {"probabilities": ["all"]}):
        options = options_for(model, **kept)
        watch = of_a_machine(1.0)
        estimates.append(value_of(estimate_module.estimating(volume, model, options, watch)))
    bare, sure, every = estimates
    voxels, channels = 96 * 80 * 64, model.config.out_channels
    assert sure.seconds - bare.seconds == pytest.approx(7e-6 * voxels * channels)
    names = len(model.info.classes)
    assert every.seconds - sure.seconds == pytest.approx(7e-6 * voxels * names)
    assert sure.room.peak_mb - bare.room.peak_mb == pytest.approx(voxels / 1e6)
    assert every.room.peak_mb - bare.room.peak_mb == pytest.approx(names * voxels / 1e6)


@pytest.mark.parametrize(("looks", "slowdown"), [((1, 20, 1), 1), ((6, 1, 1), 1), ((6, 6, 1), 6)])
def test_of_three_looks_at_a_machine_one_that_was_held_up_does_not_count(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, looks: tuple[float, ...], slowdown: int
) -> None:
    monkeypatch.setattr(estimate_module, "calibrating", known_rates)
    coming = iter(looks)
    monkeypatch.setattr(Stopwatch, "slowdown", lambda _: next(coming))
    assert estimate(brain_in_a_box(), make_model(), 0.5).slowdown == slowdown


@pytest.mark.parametrize(("slowdown", "ends"), [(1.0, 1.3), (1.5, 1.3**1.5), (3.0, 1.69)])
def test_what_else_goes_on_is_counted_and_widens_the_span(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, slowdown: float, ends: float
) -> None:
    monkeypatch.setattr(estimate_module, "calibrating", known_rates)
    volume, model = brain_in_a_box(), make_model()
    options = options_for(model, 0.5)

    def told(watch: Stopwatch) -> estimate_module.Estimate:
        return value_of(estimate_module.estimating(volume, model, options, watch))

    free, busy = told(of_a_machine(1.0)), told(of_a_machine(slowdown))
    assert busy.slowdown == pytest.approx(slowdown)
    assert busy.seconds == pytest.approx(slowdown * free.seconds)
    assert busy.span == pytest.approx((busy.seconds / ends, busy.seconds * ends))


def test_runs_put_right_what_is_told_whatever_else_went_on(
    make_model: MakeModel, cache: Path
) -> None:
    """The middle one of the latest three counts, as on a free machine, by either rule."""
    volume, model = brain_in_a_box(), make_model()
    keep, least = options_for(model, 0.5), options_for(model, importance=0.3)
    run = segment_with(volume, model, keep)
    learn_from(volume, model, keep, run, 1.0)
    assert not cache.exists()  # nothing was measured yet
    rates_module._keep(make_backend(model, keep.backend, keep.precision), RATES)

    def told(options: Options) -> float:
        watch = of_a_machine(1.0)
        return value_of(estimate_module.estimating(volume, model, options, watch)).seconds

    before = told(keep)
    selected = segment_with(volume, model, least)
    of_selected = told(options_for(model, selected.stats.kept_shares))
    for options, result, seconds, busy in (
        (keep, run, 2 * before, 1.2),
        (least, selected, 2 * of_selected, 1.0),
        (keep, run, 100 * before, 1.0),
        (keep, run, before, 4.0),  # of a busy machine, which says nothing of a free one
    ):
        took = {"total": 7.0 + busy * seconds, "strip": 7.0}
        stats = replace(result.stats, seconds=took)
        learn_from(volume, model, options, replace(result, stats=stats), busy)
        assert told(keep) == pytest.approx(2 * before)
    (file,) = cache.iterdir()
    runs = Rates.model_validate_json(file.read_bytes()).runs
    assert [times for _, times in runs] == pytest.approx([2, 2, 4, 1])
    assert [met for met, _ in runs] == [1.2, 1.0, 1.0, 4.0]


def test_a_head_costs_the_pass_of_the_model_that_strips_it_besides(
    make_model: MakeModel,
    write_nano: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOKENSPARSE_MODELS", str(tmp_path))
    write_nano("cutter")
    free = {"cutter": 3.0, "nano": 1.0}

    def rates(model: SCD, *_: Any, **__: Any) -> Iterator[None]:
        each = free[model.info.name]
        return known_rates(network=(each, 0.0, 0.0))

    monkeypatch.setattr(estimate_module, "calibrating", rates)
    head, asked = brain_in_a_box(), {"foreground_ml": (0.0, 1.0), "strip": True}

    def seconds(strip: bool, **said: Any) -> float:
        model = make_model(**asked, **said)
        options = options_for(model, strip=strip)
        told = value_of(estimate_module.estimating(head, model, options, of_a_machine(1.0)))
        assert told.at_most == strip
        return told.seconds

    windows = outline.outline(head, make_model().config, make_model().info).windows
    both = seconds(True, strip_by="cutter") - seconds(True)
    assert both == pytest.approx(2 * windows)
    # What is left of a head is no larger than a brain may be: a window's worth, of sixty.
    assert windows == 60 and 0 < seconds(True) - windows < 5


def known_rates(*_: Any, **changes: float) -> Iterator[None]:
    yield
    return RATES.model_copy(update=changes)


def test_memory_counts_what_is_held(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate_module, "free_mb", lambda _: 100.0)
    model, volume = make_model(), brain_in_a_box()
    channels = model.config.out_channels
    image, labels = 4 * 96 * 80 * 64, 96 * 80 * 64
    sums = 4 * (channels + 1) * (32 * 80 * 64 + 32**3)
    run = segment(volume, model)
    at_once = 8 if run.stats.windows >= 8 else run.stats.windows
    passes = -(-run.stats.windows // at_once)
    network = network_bytes(model.config, -(-run.stats.windows // passes))
    memory = room(volume, model)
    assert memory.device == "cpu"
    assert memory.peak_mb == pytest.approx(20 + (image + labels + sums + network) / 1e6)
    assert memory.is_enough
    resampled = make_model(preprocessing=(spacing(0.6),))
    assert room(volume, resampled).peak_mb > 8 * 3 * image / 1e6  # doubles of a finer grid


def test_memory_counts_the_voxels_that_may_be_sharpened(make_model: MakeModel) -> None:
    image = np.random.default_rng(0).normal(100, 5, (1, 64, 64, 64)).astype(np.float32)
    volume = Volume(image, np.eye(4), "full")
    plain, sharp = (room(volume, make_model(sharpen=each)).peak_mb for each in (False, True))
    assert sharp - plain == pytest.approx(20 * 64**3 / 1e6, rel=0.05)


def test_a_run_that_does_not_fit_is_told_with_its_figures() -> None:
    short = Room("cuda:0", 12_345.6, 8_000.0)
    assert not short.is_enough
    assert replace(short, free_mb=12_345.6).is_enough
    assert short.lacking("scan").startswith(
        "scan: this run takes about 12,346 MB of memory on cuda:0, and 8,000 MB are free: "
    )
    assert "\n" not in short.lacking("scan")


def test_what_no_run_takes_has_no_estimate(make_model: MakeModel) -> None:
    with pytest.raises(SegmentError, match="has 2 channels"):
        estimate(Volume(np.ones((2, 40, 40, 40)), np.eye(4), "two"), make_model())
    with pytest.raises(ValueError, match=r"keep ratio 1\.5: must be in"):
        estimate(brain_in_a_box(), make_model(), 1.5)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "1 s"),
        (3.2, "2 to 5 s"),
        (41.4, "31 to 54 s"),
        (119, "1 to 3 min"),
        (50, "38 to 65 s"),
    ],
)
def test_an_estimate_in_words(seconds: float, said: str) -> None:
    estimated = estimate_module.Estimate(seconds, 1, Room("cpu", 293.1, 18_000.0))
    assert str(estimated) == f"About {said} and 293 MB of memory on cpu, of 18,000 free: 1 window"


@pytest.mark.deep
def test_the_bundled_model_is_measured_whole(cache: Path) -> None:
    volume, model = read_volume(sample_path()), load_model("brain-structures")
    estimated = estimate(volume, model, 0.5, backend="plain")
    assert estimated.windows == 1
    assert estimated.seconds > 0.0
    assert len(list(cache.iterdir())) == 1
