from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.inferers import sliding_window_inference
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray
from scipy import ndimage

from napari_tokensparse.compute.devices import DeviceError
from napari_tokensparse.model.bundle import write_bundle
from napari_tokensparse.model.controls import SCORERS, Scorer
from napari_tokensparse.model.folder import INFERENCE
from napari_tokensparse.model.noise import keyed_generator
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.segmenting import infer
from napari_tokensparse.segmenting import run as run_module
from napari_tokensparse.segmenting.infer import (
    Progress,
    Segmentation,
    SegmentError,
    available_devices,
    check_scorer,
    choose_device,
    read_input,
    segment,
    segmenting,
)
from napari_tokensparse.segmenting.options import options_for
from napari_tokensparse.segmenting.tokenmaps import window_maps
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.region import Box
from napari_tokensparse.volumes.volume import Volume, VolumeError, write_nifti
from napari_tokensparse.volumes.windows import window_grid

MakeModel = Callable[..., SCD]
RAS_LABELS = [["L", "R"], ["P", "A"], ["I", "S"]]
ORIENT = {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": RAS_LABELS}
NORMALISE = {"_target_": "NormalizeIntensityd", "keys": "image"}
SPACE = {"_target_": "Spacingd", "keys": "image", "pixdim": [1.5, 1.5, 1.5], "mode": "bilinear"}


def noise(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Make a volume of soft structures, a few voxels wide."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=[-(-n // 4) for n in shape])
    fine = coarse.repeat(4, 0).repeat(4, 1).repeat(4, 2)[tuple(map(slice, shape))]
    return (fine + 0.3 * rng.normal(size=shape)).astype(np.float32)


def volume_of(array: NDArray[Any], affine: NDArray[np.float64] | None = None) -> Volume:
    return Volume(array[None], np.eye(4) if affine is None else affine, "scan")


def values_of(model: SCD) -> NDArray[np.int64]:
    assert model.info is not None
    return np.array(model.info.label_values)


def margin_of(logits: torch.Tensor) -> NDArray[np.float32]:
    best = logits.topk(2, dim=0).values
    return (best[0] - best[1]).numpy()


def check_labels(
    labels: NDArray[Any], logits: torch.Tensor, model: SCD, clear: float = 1e-3
) -> None:
    """Check labels against logits: all voxels but those too close to call."""
    expected = values_of(model)[logits.argmax(dim=0).numpy()]
    assert labels.shape == expected.shape
    decided = margin_of(logits) > clear
    assert decided.mean() > 0.98
    assert np.array_equal(labels[decided], expected[decided])
    assert (labels == expected).mean() >= 0.999
    assert len(np.unique(expected)) >= 3


def oblique() -> NDArray[np.float64]:
    a, b = np.radians([20.0, -35.0])
    turn_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    turn_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn_x @ turn_z @ np.diag([-0.7, 1.1, 3.3])
    affine[:3, 3] = (-31.0, 12.5, 88.0)
    return affine


@pytest.mark.parametrize("keep_ratio", [None, 1.0, (1.0, 0.5, 0.1)])
def test_one_window_is_the_networks_own_forward_pass(
    make_model: MakeModel, keep_ratio: float | tuple[float, ...] | None
) -> None:
    model = make_model(preprocessing=(ORIENT, NORMALISE))
    # Stored as (A, L, S): the first axis towards the front, the second to the left.
    affine = np.array([[0, -1, 0, 5], [1, 0, 0, -3], [0, 0, 1, 2], [0, 0, 0, 1.0]])
    array = noise(27, 30, 32)
    result = segment(volume_of(array, affine), model, keep_ratio)

    turned = array.transpose(1, 0, 2)[::-1]  # (R, A, S)
    turned = (turned - turned.mean()) / turned.std()
    window = np.pad(turned, ((1, 1), (2, 3), (0, 0)))
    with torch.inference_mode():
        logits = model(torch.from_numpy(window)[None, None], keep_ratio).logits[0]
    inner = logits[:, 1:31, 2:29].flip(1).transpose(1, 2)
    check_labels(result.labels, inner, model)
    assert result.regions is None


@pytest.mark.parametrize("blending", ["gaussian", "constant"])
def test_many_windows_agree_with_monais_sliding_window(
    make_model: MakeModel, blending: str
) -> None:
    model = make_model(blending=blending)
    array = noise(56, 48, 40)
    result = segment(volume_of(array), model, 0.5)
    with torch.inference_mode():
        logits = sliding_window_inference(
            torch.from_numpy(array)[None, None],
            (32, 32, 32),
            1,
            lambda window: model(window, 0.5).logits,
            overlap=0.5,
            mode=blending,
        )
    assert result.stats.windows == 3 * 2 * 2
    assert isinstance(logits, torch.Tensor)
    check_labels(result.labels, logits[0], model)


def test_the_folder_run_by_monai_gives_the_same_labels(
    make_model: MakeModel, tmp_path: Path
) -> None:
    model = make_model(preprocessing=(ORIENT, SPACE, NORMALISE))
    write_bundle(tmp_path / "model", model, {"version": "0"}, "card")
    affine = np.diag([-1.3, 1.6, 1.1, 1.0])
    nib.save(Nifti1Image(noise(30, 28, 33), affine), tmp_path / "scan.nii.gz")
    parser = ConfigParser()
    parser.read_config(tmp_path / "model" / INFERENCE)
    parser["bundle_root"] = str(tmp_path / "model")
    parser["output_dir"] = str(tmp_path / "out")
    parser["images"] = [str(tmp_path / "scan.nii.gz")]
    parser["device"] = "$torch.device('cpu')"
    parser.get_parsed_content("run")
    (out,) = (tmp_path / "out").rglob("*.nii.gz")

    ours = segment(tmp_path / "scan.nii.gz", tmp_path / "model").labels
    theirs = np.asarray(nib.load(out).dataobj)
    assert set(np.unique(theirs)) == {0, *values_of(model)}
    assert ours.shape == theirs.shape == (30, 28, 33)
    assert (ours == theirs).mean() >= 0.999


def test_windows_of_background_are_not_run_and_the_others_are_labelled_as_ever(
    make_model: MakeModel,
) -> None:
    array = np.zeros((160, 32, 32), np.float32)
    array[5:30], array[100:120] = noise(25, 32, 32), noise(20, 32, 32, seed=1)
    skipping = make_model(overlap=0.0)
    assert skipping.info is not None
    running = SCD(skipping.config, skipping.info.model_copy(update={"background": -9.0})).eval()
    running.load_state_dict(skipping.state_dict())
    some, every = (segment(volume_of(array), model) for model in (skipping, running))
    assert (some.stats.windows, some.stats.skipped) == (2, 3)
    assert (every.stats.windows, every.stats.skipped) == (5, 0)
    run = np.zeros(160, bool)
    run[:32] = run[96:128] = True
    assert np.array_equal(some.labels[run], every.labels[run])
    assert np.all(some.labels[~run] == 0)
    assert every.labels[~run].any()
    assert some.stats.tokens["processed"] == 2 * 64
    assert np.all(some.tokens.pruned_at[4:12] == 0)
    assert np.isnan(some.tokens.importance[0][4:12]).all()


def test_windows_of_background_may_come_first(make_model: MakeModel) -> None:
    array = np.zeros((160, 32, 32), np.float32)
    array[100:120] = noise(20, 32, 32)
    model = make_model(overlap=0.0)
    result = segment(volume_of(array), model)
    assert (result.stats.windows, result.stats.skipped) == (1, 4)
    assert np.array_equal(result.labels[96:128], segment(volume_of(array[96:128]), model).labels)
    assert not result.labels[:96].any()


def test_a_volume_of_background_alone_is_all_background(make_model: MakeModel) -> None:
    model = make_model()
    volume = volume_of(np.zeros((70, 33, 40), np.uint8))
    events = list(segmenting(volume, model, options_for(model)))
    assert events[0] == Progress(0, 0, None)
    result = events[-1]
    assert isinstance(result, Segmentation)
    assert len(events) == 2
    assert result.stats.windows == 0
    assert result.stats.skipped == 4 * 2 * 2
    assert result.stats.tokens["processed"] == 0
    assert not result.labels.any()
    assert result.labels.shape == (70, 33, 40)


def test_token_maps_come_from_the_window_that_owns_the_token(make_model: MakeModel) -> None:
    model = make_model()
    array = noise(52, 32, 40)
    result = segment(volume_of(array), model, 0.5)
    grid = window_grid((52, 32, 40), (32, 32, 32), 8, 0.5)
    assert result.tokens.pruned_at.shape == grid.tokens == (7, 4, 5)
    padded = grid.pad(torch.from_numpy(array)[None], 0.0)
    seen = np.zeros(grid.tokens, int)
    for start in grid.starts:
        with torch.inference_mode():
            trace = model(grid.cut(padded, start)[None], 0.5).trace
        importance, pruned_at = window_maps(trace, 0, (4, 4, 4))
        owned = grid.owned(start)
        local = tuple(
            slice(o.start - s // 8, o.stop - s // 8) for o, s in zip(owned, start, strict=True)
        )
        seen[owned] += 1
        assert np.array_equal(result.tokens.pruned_at[owned], pruned_at[local])
        for stage in range(3):
            shown, expected = result.tokens.importance[stage][owned], importance[stage][local]
            # Several windows at once and one by itself may differ in the last digit.
            np.testing.assert_allclose(shown, expected, rtol=0, atol=1e-6)
    assert np.all(seen == 1)
    counts = result.stats.tokens
    assert counts == result.tokens.counts()
    assert counts["processed"] == 7 * 4 * 5
    pruned = [counts[f"pruned at {stage}"] for stage in (1, 2, 3)]
    assert sum(pruned) + counts["kept"] == counts["processed"]
    assert min(*pruned, counts["kept"]) > 0


def test_token_maps_lie_over_the_voxels_they_speak_of(make_model: MakeModel) -> None:
    model = make_model(preprocessing=(ORIENT,))
    affine = np.array([[0, -1, 0, 5], [1, 0, 0, -3], [0, 0, 1, 2], [0, 0, 0, 1.0]])
    result = segment(volume_of(noise(27, 30, 32), affine), model)
    # In front of 30 voxels along R lies 1 of padding, in front of 27 along A lie 2.
    shown = result.tokens.on_input_grid(result.tokens.pruned_at)
    for a, left, s in [(0, 0, 0), (5, 6, 7), (6, 7, 8), (26, 29, 31), (13, 22, 16)]:
        token = ((29 - left + 1) // 8, (a + 2) // 8, s // 8)
        assert shown[a, left, s] == result.tokens.pruned_at[token]


def test_an_oblique_anisotropic_file_keeps_its_shape_and_affine(
    make_model: MakeModel, tmp_path: Path
) -> None:
    model = make_model(preprocessing=(ORIENT, SPACE, NORMALISE))
    path = tmp_path / "scan.nii.gz"
    nib.save(Nifti1Image(noise(45, 38, 21), oblique()), path)
    result = segment(path, model)
    assert result.labels.shape == (45, 38, 21)
    assert len(np.unique(result.labels)) >= 3
    assert result.tokens.on_input_grid(result.tokens.pruned_at).min() >= 1
    out = write_nifti(tmp_path / "labels.nii.gz", result.labels, like=read_volume(path))
    assert nib.load(out).shape == (45, 38, 21)
    assert np.array_equal(nib.load(out).affine, nib.load(path).affine)
    assert np.array_equal(np.asarray(nib.load(out).dataobj), result.labels)


def test_a_volume_and_its_mirrored_storage_get_the_same_labels(make_model: MakeModel) -> None:
    model = make_model(preprocessing=(ORIENT, SPACE, NORMALISE))
    array, affine = noise(40, 30, 26), np.diag([1.2, 1.4, 1.7, 1.0])
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = 39
    one = segment(volume_of(array, affine), model).labels
    other = segment(volume_of(array[::-1], affine @ flip), model).labels
    assert (one == other[::-1]).mean() >= 0.999
    assert (one == other).mean() < 0.9


def test_regions_are_painted_in_the_order_of_the_classes(make_model: MakeModel) -> None:
    model = make_model(values=(2, 1, 4), exclusive=False)
    array = noise(32, 32, 32)
    result = segment(volume_of(array), model)
    with torch.inference_mode():
        logits = model(torch.from_numpy(array)[None, None]).logits[0].numpy()
    expected = np.zeros((32, 32, 32), int)
    for value, logit in zip((2, 1, 4), logits, strict=True):
        expected[logit > 0] = value
    clear = np.abs(logits).min(axis=0) > 1e-4
    assert np.array_equal(result.labels[clear], expected[clear])
    assert result.regions is not None
    assert result.regions.shape == (3, 32, 32, 32)
    assert result.regions.dtype == bool
    assert np.array_equal(result.regions[:, clear], logits[:, clear] > 0)
    overlapping = (logits > 0).sum(axis=0) > 1
    assert overlapping.mean() > 0.05
    assert set(np.unique(expected)) == {0, 1, 2, 4}


def test_progress_counts_windows_and_the_result_comes_last(make_model: MakeModel) -> None:
    model = make_model()
    *events, result = segmenting(volume_of(noise(56, 32, 32)), model, options_for(model, 0.25))
    assert all(isinstance(event, Progress) for event in events)
    assert [(e.done, e.total) for e in events if isinstance(e, Progress)] == [
        (n, 3) for n in range(4)
    ]
    left = [e.seconds_left for e in events if isinstance(e, Progress)]
    assert left[0] is None
    assert left[1] is not None and left[2] is not None
    assert left[1] > 0
    assert left[3] == 0
    assert isinstance(result, Segmentation)
    assert result.stats.windows == 3
    assert result.stats.keep_ratios == (0.25,) * 3
    assert result.stats.tokens_per_stage == (64, 16, 4, 1)
    assert result.stats.seconds.keys() == {"preprocess", "network", "stitch", "total"}
    parts = sum(v for k, v in result.stats.seconds.items() if k != "total")
    assert 0 < parts <= result.stats.seconds["total"]


def test_a_run_can_be_stopped_between_windows_and_started_anew(make_model: MakeModel) -> None:
    model, volume = make_model(), volume_of(noise(56, 32, 32))
    whole = segment(volume, model).labels
    run = segmenting(volume, model, options_for(model))
    assert next(run) == Progress(0, 3, None)
    next(run)
    run.close()  # type: ignore[attr-defined]
    with pytest.raises(StopIteration):
        next(run)
    assert np.array_equal(segment(volume, model).labels, whole)


def test_less_overlap_means_fewer_windows(make_model: MakeModel) -> None:
    volume = volume_of(noise(64, 32, 32))
    model = make_model(overlap=0.75)
    assert segment(volume, model).stats.windows == 5
    assert segment(volume, model, overlap=0.0).stats.windows == 2


@pytest.mark.parametrize(("top", "dtype"), [(255, np.uint8), (256, np.uint16), (65535, np.uint16)])
def test_labels_have_the_smallest_type_that_holds_the_models_values(
    make_model: MakeModel, top: int, dtype: type
) -> None:
    model = make_model(values=(3, top, 7))
    labels = segment(volume_of(noise(20, 20, 20)), model).labels
    assert labels.dtype == dtype
    assert set(np.unique(labels)) <= {0, 3, 7, top}


def test_a_volume_as_stored_is_not_changed(make_model: MakeModel) -> None:
    array = (100 * noise(30, 30, 30)).astype(">i2")
    array.flags.writeable = False
    before = array.copy()
    labels = segment(volume_of(array), make_model(preprocessing=(NORMALISE,))).labels
    assert np.array_equal(array, before)
    assert labels.any()


def refusal(model: SCD, array: NDArray[Any], **options: Any) -> str:
    volume = Volume(array, np.eye(4), "scan")
    with pytest.raises((SegmentError, VolumeError, ValueError)) as refused:
        segment(volume, model, **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_the_wrong_number_of_channels_is_refused(make_model: MakeModel) -> None:
    line = refusal(make_model(), np.ones((2, 9, 9, 9)))
    assert line == "scan: has 2 channels; model nano takes 1: T1"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_not_finite_are_refused(make_model: MakeModel, value: float) -> None:
    array = np.ones((1, 9, 9, 9), np.float32)
    array[0, 4, 5, 6] = value
    assert refusal(make_model(), array).startswith("scan: ")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"keep_ratio": 1.4}, "keep ratio 1.4: must be in (0, 1]"),
        ({"keep_ratio": (0.5, 0.5)}, "keep ratio (0.5, 0.5): give one number, or one per stage"),
        ({"overlap": 1.0}, "overlap 1: must be in [0, 1)"),
        ({"overlap": -0.1}, "overlap -0.1: must be in [0, 1)"),
        ({"overlap": float("nan")}, "overlap nan: must be in [0, 1)"),
        ({"device": "cuda:99"}, "device 'cuda:99': this machine has "),
        ({"device": torch.device("cuda", 99)}, "device 'cuda:99': this machine has "),
        ({"device": "gpu"}, "device 'gpu': this machine has "),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_in_one_line(
    make_model: MakeModel, options: dict[str, Any], line: str
) -> None:
    assert refusal(make_model(), np.ones((1, 9, 9, 9)), **options).startswith(line)


def test_a_network_that_knows_no_preprocessing_is_refused() -> None:
    line = refusal(SCD(preset("nano")), np.ones((1, 9, 9, 9)))
    assert line.startswith("this network has no ModelInfo")


def test_a_network_in_training_mode_is_refused(make_model: MakeModel) -> None:
    line = refusal(make_model().train(), np.ones((1, 9, 9, 9)))
    assert line == "the network is in training mode: call its eval() first"


def test_devices_are_named_and_auto_takes_the_first() -> None:
    devices = available_devices()
    assert devices[-1] == "cpu"
    assert choose_device("auto") == choose_device() == devices[0]
    assert choose_device("cpu") == "cpu"
    with pytest.raises(DeviceError) as refused:
        choose_device("tpu")
    assert str(refused.value) == f"device 'tpu': this machine has {', '.join(devices)}"


def controlled(
    model: SCD, array: NDArray[Any], keep_ratio: float = 0.5, **chosen: Any
) -> Segmentation:
    return segment(volume_of(array), model, keep_ratio, **chosen)


def test_random_scores_are_keyed_by_seed_and_window_alone(make_model: MakeModel) -> None:
    model, array = make_model(overlap=0.0), noise(64, 32, 32)
    for seed in (0, 5):
        first = controlled(model, array, scorer="random", seed=seed).tokens.importance[0]
        for window, owned in enumerate((first[:4], first[4:])):
            drawn = torch.rand(1, 64, generator=keyed_generator(seed, window))
            assert owned.flatten() == pytest.approx(drawn[0].numpy(), abs=1e-6)


def test_random_pruning_is_reproducible_and_differs_between_seeds(make_model: MakeModel) -> None:
    model, array = make_model(), noise(56, 32, 32)
    one, again, other = (controlled(model, array, scorer="random", seed=s) for s in (1, 1, 2))
    before = torch.get_rng_state()
    assert np.array_equal(one.labels, again.labels)
    assert np.array_equal(one.tokens.pruned_at, again.tokens.pruned_at)
    assert not np.array_equal(one.tokens.pruned_at, other.tokens.pruned_at)
    assert not np.array_equal(one.labels, other.labels)
    assert torch.equal(torch.get_rng_state(), before)


def test_intensity_and_foreground_keep_the_patches_that_they_rank_first(
    make_model: MakeModel,
) -> None:
    model, brightness = make_model(), np.zeros((4, 4, 4), np.float32)
    brightness.flat = np.random.default_rng(0).permutation(64) + 100.0
    bright = brightness.repeat(8, 0).repeat(8, 1).repeat(8, 2)
    tokens = controlled(model, bright, scorer="intensity").tokens
    assert np.array_equal(tokens.pruned_at == 1, brightness < 132)
    assert np.array_equal(tokens.pruned_at == 4, brightness >= 156)

    share = np.zeros((4, 4, 4))
    filled = np.zeros_like(bright)
    for n, at in enumerate(np.ndindex(4, 4, 4)):
        share[at] = (n * 37 % 64 + 1) * 8
        patch = np.zeros(512, np.float32)
        patch[: int(share[at])] = 1000.0 / share[at]  # of the same mean everywhere
        where = tuple(slice(8 * i, 8 * i + 8) for i in at)
        filled[where] = patch.reshape(8, 8, 8)
    tokens = controlled(model, filled, scorer="foreground").tokens
    assert np.array_equal(tokens.pruned_at == 1, share <= 32 * 8)
    assert np.array_equal(tokens.pruned_at == 4, share > 56 * 8)


@pytest.mark.parametrize("scorer", SCORERS[1:])
def test_a_control_prunes_as_many_tokens_as_the_model(
    make_model: MakeModel, scorer: Scorer
) -> None:
    model, array = make_model(), noise(48, 32, 32)
    own, control = segment(volume_of(array), model, 0.5), controlled(model, array, scorer=scorer)
    assert control.stats.tokens_per_stage == own.stats.tokens_per_stage
    assert sum(control.stats.tokens.values()) == sum(own.stats.tokens.values())
    assert not np.array_equal(control.tokens.pruned_at, own.tokens.pruned_at)
    assert not np.array_equal(control.labels, own.labels)


def test_where_nothing_is_pruned_the_scorer_makes_no_difference(make_model: MakeModel) -> None:
    model, array = make_model(), noise(40, 32, 32)
    own = segment(volume_of(array), model, 1.0)
    for scorer in SCORERS:
        result = controlled(model, array, 1.0, scorer=scorer)
        assert np.array_equal(result.labels, own.labels)
        assert np.all(result.tokens.pruned_at == 4)


def test_leaving_the_encoders_blocks_out_changes_the_labels_but_not_the_counts(
    make_model: MakeModel,
) -> None:
    model, array = make_model(), noise(32, 32, 32)
    own = segment(volume_of(array), model, 0.5)
    ablated = controlled(model, array, ablate="encoder")
    assert (own.labels != ablated.labels).mean() > 0.01
    assert ablated.stats.tokens == own.stats.tokens
    assert [i.shape for i in ablated.tokens.importance] == [i.shape for i in own.tokens.importance]
    image = torch.from_numpy(array)[None, None]
    with torch.inference_mode():
        whole, bare = model(image, 0.5), model(image, 0.5, skip_blocks=True)
    assert (whole.logits - bare.logits).abs().max() > 1e-3
    assert [s.shape for s in bare.trace.scores] == [s.shape for s in whole.trace.scores]
    assert [p.shape for p in bare.trace.pruned] == [p.shape for p in whole.trace.pruned]
    check_labels(ablated.labels, bare.logits[0], model)


def test_an_unknown_scorer_is_refused_before_anything_is_run() -> None:
    with pytest.raises(SegmentError) as refused:
        check_scorer("entropy")
    assert str(refused.value) == (
        "scorer 'entropy': choose one of learned, random, intensity, foreground"
    )


REGIONS = {
    "a corner": Box((0, 0, 0), (9, 30, 4)),
    "the middle": Box((17, 11, 20), (23, 19, 33)),
    "a voxel": Box((29, 0, 12), (30, 1, 13)),
    "a slice": Box((33, 0, 0), (34, 30, 36)),
}


@pytest.mark.parametrize("box", REGIONS.values(), ids=REGIONS)
@pytest.mark.parametrize("scorer", ["learned", "random"])
def test_inside_a_region_all_is_as_in_a_run_of_the_whole(
    make_model: MakeModel, box: Box, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of two threads, how many windows are run at once decides last digits.
    monkeypatch.setattr(run_module, "windows_at_once", lambda *_: 1)
    model = make_model(preprocessing=(ORIENT, SPACE, NORMALISE), overlap=0.25)
    affine = np.array([[0, 1.9, 0, 5], [-2.1, 0, 0, -3], [0, 0, 2.0, 2], [0, 0, 0, 1.0]])
    volume = volume_of(noise(60, 30, 36), affine)
    whole = segment(volume, model, 0.5, scorer=scorer)
    part = segment(volume, model, 0.5, scorer=scorer, region=box)
    assert whole.region is None
    assert part.region == box
    assert part.labels.shape == whole.labels.shape
    assert np.array_equal(part.labels[box.slices], whole.labels[box.slices])
    outside = part.labels.copy()
    outside[box.slices] = 0
    assert not outside.any()
    assert part.stats.windows < whole.stats.windows
    maps = [*zip(part.tokens.importance, whole.tokens.importance, strict=True)]
    for ours, theirs in [*maps, (part.tokens.pruned_at, whole.tokens.pruned_at)]:
        shown, expected = part.tokens.on_input_grid(ours), whole.tokens.on_input_grid(theirs)
        assert np.array_equal(shown[box.slices], expected[box.slices], equal_nan=True)
        same = np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f")
        assert not same  # elsewhere nothing is told
    inside = np.unique(part.tokens.on_input_grid(part.tokens.pruned_at)[box.slices])
    assert inside.min() > 0
    assert part.stats.tokens["processed"] == (part.tokens.pruned_at > 0).sum()


def test_a_region_of_the_whole_volume_is_the_whole_run(make_model: MakeModel) -> None:
    model, volume = make_model(preprocessing=(SPACE,)), volume_of(noise(20, 24, 33))
    whole = segment(volume, model)
    part = segment(volume, model, region=Box((0, 0, 0), (20, 24, 33)))
    assert np.array_equal(part.labels, whole.labels)
    shown, expected = (t.on_input_grid(t.pruned_at) for t in (part.tokens, whole.tokens))
    assert np.array_equal(shown, expected)
    assert part.stats.windows == whole.stats.windows


def test_overlapping_classes_are_masked_outside_a_region_too(make_model: MakeModel) -> None:
    model, box = make_model(values=(2, 1, 4), exclusive=False), Box((4, 4, 4), (20, 9, 30))
    volume = volume_of(noise(32, 32, 32))
    whole, part = segment(volume, model), segment(volume, model, region=box)
    assert whole.regions is not None and part.regions is not None
    assert np.array_equal(part.regions[:, *box.slices], whole.regions[:, *box.slices])
    assert part.regions.sum() == part.regions[:, *box.slices].sum() > 0


def test_windows_of_background_in_a_region_are_counted_as_skipped(make_model: MakeModel) -> None:
    array = np.zeros((160, 32, 32), np.float32)
    array[96:160] = noise(64, 32, 32)
    box = Box((40, 0, 0), (100, 32, 32))
    result = segment(volume_of(array), make_model(overlap=0.0), region=box)
    assert (result.stats.windows, result.stats.skipped) == (1, 2)
    assert result.labels[96:100].any()
    # Of the box, only voxels 96 to 99 lie in the window that was run: one token along i.
    assert result.stats.tokens["processed"] == 4 * 4


def test_a_region_beyond_the_volume_is_refused(make_model: MakeModel) -> None:
    box = Box((0, 0, 0), (9, 9, 10))
    line = refusal(make_model(), np.ones((1, 9, 9, 9)), region=box)
    assert line == "region 0:9,0:9,0:10: scan has 9 voxels along k"


@pytest.mark.parametrize(("shape", "held"), [((32, 32, 32), 0), ((32, 32, 48), 1)])
def test_memory_is_kept_where_several_windows_follow_one_another(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], held: int
) -> None:
    entered = []

    @contextmanager
    def counting() -> Iterator[None]:
        entered.append(1)
        yield

    monkeypatch.setattr(infer, "kept_memory", counting)
    segment(volume_of(noise(*shape)), make_model())
    assert len(entered) == held


def test_sharpening_changes_borders_and_without_it_every_voxel_is_as_before(
    make_model: MakeModel,
) -> None:
    model, volume = (
        make_model(preprocessing=(ORIENT, SPACE, NORMALISE)),
        volume_of(noise(40, 36, 30)),
    )
    plain, sharp, own = (segment(volume, model, sharpen=asked) for asked in (False, True, None))
    np.testing.assert_array_equal(own.labels, plain.labels)
    assert (plain.stats.sharpened, sharp.stats.sharpened) == (False, True)
    changed = sharp.labels != plain.labels
    assert 0 < changed.sum() < 0.5 * changed.size
    np.testing.assert_array_equal(sharp.tokens.pruned_at, plain.tokens.pruned_at)


def test_a_model_that_asks_for_it_is_sharpened_by_itself(make_model: MakeModel) -> None:
    model, volume = make_model(sharpen=True), volume_of(noise(40, 36, 30))
    assert segment(volume, model).stats.sharpened
    assert not segment(volume, model, sharpen=False).stats.sharpened


def test_overlapping_regions_are_not_sharpened_and_one_line_says_so(make_model: MakeModel) -> None:
    model = make_model(exclusive=False)
    with pytest.raises(ValueError, match=r"nano: its regions overlap.*leave sharpen out"):
        segment(volume_of(noise(20, 20, 20)), model, sharpen=True)


def test_pieces_of_which_the_network_is_nowhere_as_sure_as_asked_are_left_out(
    make_model: MakeModel,
) -> None:
    model, volume = make_model(), volume_of(noise(40, 36, 30))
    every = segment(volume, model, confidence=True)
    assert every.confidence is not None and every.stats.left_out == 0
    expected, surest = every.labels.copy(), []
    for value in range(1, int(every.labels.max()) + 1):
        pieces, count = ndimage.label(every.labels == value)
        for piece in range(1, count + 1):
            surest.append(int(every.confidence[pieces == piece].max()))
    middle = float(np.median(surest)) / 255
    for value in range(1, int(every.labels.max()) + 1):
        pieces, count = ndimage.label(every.labels == value)
        for piece in range(1, count + 1):
            if every.confidence[pieces == piece].max() < middle * 255:
                expected[pieces == piece] = 0
    some = segment(volume, model, least_confidence=middle)
    np.testing.assert_array_equal(some.labels, expected)
    assert some.stats.left_out == sum(each < middle * 255 for each in surest) > 0
    assert some.confidence is None and not some.probabilities
    said = f"{some.stats.left_out} pieces were left out, nowhere as probable as {middle:g}"
    assert said in some.stats.notes


def test_a_model_that_asks_for_a_least_confidence_has_it_by_itself(make_model: MakeModel) -> None:
    model, volume = make_model(least_confidence=0.99), volume_of(noise(40, 36, 30))
    assert segment(volume, model).stats.left_out > 0
    assert segment(volume, model, least_confidence=0).stats.left_out == 0


def test_a_file_of_several_volumes_names_how_to_choose_one(
    make_model: MakeModel, tmp_path: Path
) -> None:
    path = tmp_path / "bold.nii"
    nib.save(nib.Nifti1Image(np.ones((9, 9, 9, 3), np.float32), np.eye(4)), path)
    with pytest.raises(VolumeError, match=r"^bold: has 3 channels, or frames; .* with --frame N"):
        segment(path, make_model())
    assert read_input(path, make_model().info, frame=2).array.shape == (1, 9, 9, 9)
