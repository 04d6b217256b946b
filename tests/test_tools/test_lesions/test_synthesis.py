from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from brain.deformation import grid_axes, random_warp
from brain.looks import LOOKS
from brain.people import anatomy_of
from brain.structures import CLASS_COUNT
from brain.synthesis import SynthesisConfig
from lesions.flair import FlairConfig, random_means, with_lesions, with_likenesses
from lesions.heads import head_of
from lesions.hosts import VENTRICLES, WHITE, Host, host_of, looks_named, whole_host
from lesions.patients import Lesions, lesions_of
from lesions.synthesis import LesionConfig, LesionSampler, Moved, patient_in, source_of
from napari_tokensparse.model.noise import keyed_generator
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.training.events import StepDone
from napari_tokensparse.training.loop import TrainSetup, train
from napari_tokensparse.training.trainconfig import TrainConfig

STILL = LesionConfig(
    anatomy=SynthesisConfig(rotation_deg=0.0, scale=0.0, shear=0.0, warp_mm=0.0, fine_warp_mm=0.0),
    grow_mm=(0.0, 0.0),
    rough_mm=0.0,
    shift_mm=0.0,
    stretch=0.0,
    thin_share=0.0,
    strip_mm=(0.0, 0.0),
)
WINDOW = (32, 32, 32)


def head() -> npt.NDArray[np.int32]:
    """Skull (515), fluid (24), cortex (3, 42), white matter (2, 41) and a ventricle (4, 43)."""
    i, j, k = np.indices((64, 66, 62)) - np.array([31.5, 32.5, 30.5]).reshape(3, 1, 1, 1)
    far = np.sqrt(i**2 + j**2 + k**2)
    ids = np.zeros(far.shape, np.int32)
    for radius, left, right in ((29, 515, 515), (25, 24, 24), (23, 3, 42), (19, 2, 41), (5, 4, 43)):
        ids = np.where(far <= radius, np.where(i < 0, left, right), ids)
    return ids.astype(np.int32)


@pytest.fixture(scope="module")
def host() -> Host:
    """A head whose MNI coordinates are its voxels from the middle of the left-right axis."""
    made = host_of(anatomy_of(head()), np.zeros((CLASS_COUNT - 1, 3)))
    i, j, k = made.anatomy.centre.tolist()
    to_mni = torch.tensor([[1.0, 0, 0, -i], [0, 1, 0, -j], [0, 0, 1, -k]])
    return replace(made, to_mni=to_mni)


def lesions_at(*places: tuple[int, int, int], radius: float = 3.0) -> Lesions:
    """Balls at places in mm from the middle."""
    grid = np.indices((64, 64, 64)) - 32
    mask = np.zeros((64, 64, 64), np.bool_)
    for place in places:
        far = grid - np.array(place).reshape(3, 1, 1, 1)
        mask |= (far**2).sum(axis=0) <= radius**2
    affine = np.eye(4)
    affine[:3, 3] = -32
    return lesions_of(mask, affine)


def made_of(host: Host, lesions: Lesions, seed: int, **changes: Any) -> Any:
    config = STILL.model_copy(update=changes)
    rng = keyed_generator(seed, 0)
    moved = Moved(host, lesions, config, rng)
    warp = random_warp(config.anatomy, rng)
    return patient_in(host, warp, moved, grid_axes((64, 64, 64), 1.0), config, rng)


def test_a_host_is_cut_to_its_brain_and_knows_its_parts(host: Host) -> None:
    shape = host.anatomy.looks.shape
    assert max(shape) <= 51 + 2 * 10 + 2
    i, j, k = (round(c) for c in host.anatomy.centre.tolist())
    assert float(host.ventricle_mm[i, j, k]) == 0.0
    assert float(host.ventricle_mm[i + 12, j, k]) == pytest.approx(12 - 5, abs=1.0)
    assert float(host.white[i + 12, j, k]) == pytest.approx(1.0)
    assert float(host.white[i + 22, j, k]) < 0.05
    assert host.half.tolist() == pytest.approx([25, 25, 25], abs=1.0)
    depth = host.anatomy.depth[i // 2, j // 2, k // 2]
    assert float(depth) == pytest.approx(-24, abs=3.5)


def test_a_whole_head_is_its_brain_stripped_by_the_truth_and_what_lies_round_it(host: Host) -> None:
    lesions, anatomy = lesions_at((12, 0, 0)), anatomy_of(head())
    i, j, k = anatomy.centre.tolist()
    to_mni = torch.tensor([[1.0, 0, 0, -i], [0, 1, 0, -j], [0, 0, 1, -k]])
    whole = replace(whole_host(anatomy, np.zeros((CLASS_COUNT - 1, 3))), to_mni=to_mni)
    scan, stripped, truth = head_of(whole, lesions, (64, 64, 64), keyed_generator(1, 0), "head")
    brain = stripped.array != 0
    np.testing.assert_array_equal(stripped.array[brain], scan.array[brain])
    ball = 4 / 3 * np.pi * 25**3  # of fluid and all within it, stretched by up to 12 %
    assert 0.6 * ball < brain.sum() < 1.6 * ball
    assert scan.array.min() >= 0 and (scan.array > 0).all()  # air is noisy
    assert truth.sum() > 20 and brain[0][truth].all()


def test_the_affine_takes_centroids_where_they_are_in_mni_space() -> None:
    first = host_of(anatomy_of(head()), np.zeros((CLASS_COUNT - 1, 3)))
    looks = first.anatomy.looks.numpy()
    there = [look for look in range(1, CLASS_COUNT) if (looks == look).any()]
    ours = np.array([np.argwhere(looks == look).mean(axis=0) for look in there])
    mni = np.full((CLASS_COUNT - 1, 3), np.nan)
    mni[np.array(there) - 1] = 1.1 * ours + (-30, -40, -50)
    made = host_of(anatomy_of(head()), mni).to_mni.numpy()
    placed = ours @ made[:, :3].T + made[:, 3]
    np.testing.assert_allclose(placed, mni[np.array(there) - 1], atol=0.01)


def test_lesions_lie_in_white_matter_and_are_brighter(host: Host) -> None:
    lesions = lesions_at((12, 0, 0), (-12, 0, 0))
    made = made_of(host, lesions, 1)
    assert int(made.labels.sum()) == pytest.approx(
        2 * 123, rel=0.3
    )  # interpolated: balls of 3 voxels
    assert bool(made.white[made.labels > 0].all())
    white = made.white & (made.labels == 0)
    inside = made.image[made.labels > 0].mean() - made.image[white].mean()
    assert float(inside) > 0.3  # standard deviations of the brain
    assert not made.labels[40:, 40:, 40:].any()
    assert float(made.image[0, 0].abs().max()) == 0.0


def test_what_is_not_white_matter_holds_no_lesion(host: Host) -> None:
    made = made_of(host, lesions_at((0, 0, 0), (0, 21, 0)), 2)
    assert int(made.labels.sum()) < 20  # the ventricle and the cortex, but for their border


def test_lesions_grow_shrink_and_are_thinned_out(host: Host) -> None:
    lesions = lesions_at((12, 0, 0), (-12, 0, 0), (0, 12, 0), (0, -12, 0))
    plain, grown, shrunk = (
        int(made_of(host, lesions, 3, grow_mm=(g, g)).labels.sum()) for g in (0.0, 0.8, -0.8)
    )
    assert shrunk < 0.7 * plain < plain < 0.8 * grown


def test_some_regions_lose_their_lesions(host: Host) -> None:
    lesions = lesions_at((12, 0, 0), (-12, 0, 0), (0, 12, 0), (0, -12, 0))
    axes = grid_axes((40, 40, 40), 1.0)
    points = source_of(host, random_warp(STILL.anatomy, keyed_generator(0)), axes)
    volumes = {}
    for thin in (0.0, 1.0):
        config = STILL.model_copy(update={"thin_share": thin})
        rng = keyed_generator(1)
        moved = [Moved(host, lesions, config, rng) for _ in range(12)]
        volumes[thin] = [float(m.share(points, axes, rng).sum()) for m in moved]
    assert min(volumes[1.0]) < 0.5 * min(volumes[0.0])
    assert max(volumes[1.0]) == pytest.approx(max(volumes[0.0]), rel=0.05)


def test_a_look_has_dark_fluid_and_brighter_grey_than_white_matter() -> None:
    for seed in range(5):
        mean = random_means(keyed_generator(seed, 1))
        white, grey = mean[WHITE].mean(), mean[looks_named("Cortex")].mean()
        assert float(mean[VENTRICLES].max()) < 0.35 < 0.45 < float(white) < float(grey)


def test_each_lesion_has_its_margin_and_none_too_little() -> None:
    image, share = torch.full((40, 40, 40), 0.5), torch.zeros(40, 40, 40)
    share[5:15, 5:15, 5:15] = share[25:35, 25:35, 25:35] = 1.0
    mean = torch.full((LOOKS,), 0.5)
    mean[looks_named("Cortex")] = 0.65
    config = FlairConfig()
    margins = []
    for seed in range(6):
        axes = grid_axes((40, 40, 40), 1.0)
        made = with_lesions(image, share, axes, mean, config, keyed_generator(seed, 2))
        assert torch.equal(made[18:22], image[18:22])
        margins += [float(made[8:12, 8:12, 8:12].min()), float(made[28:32, 28:32, 28:32].min())]
    assert min(margins) >= 0.5 + 1.2 * 0.15 - 1e-3
    assert max(margins) - min(margins) > 0.05


def test_what_looks_like_a_lesion_is_none_and_no_brighter_than_cortex() -> None:
    image, share = torch.full((40, 40, 40), 0.5), torch.zeros(40, 40, 40)
    share[10:30, 10:30, 10:30] = 1.0
    mean = torch.full((LOOKS,), 0.5)
    mean[looks_named("Cortex")] = 0.65
    axes = grid_axes((40, 40, 40), 1.0)
    seen = [with_likenesses(image, share, axes, mean, keyed_generator(s, 3)) for s in range(8)]
    middle = torch.stack([made[18:22, 18:22, 18:22].mean() for made in seen])
    assert all(torch.equal(made[:4], image[:4]) for made in seen)
    assert float(torch.stack(seen).max()) < 0.5 + 1.1 * 0.15  # lesions begin at 1.2
    assert float(middle.min()) > 0.51 and float(middle.max()) > 0.58


def test_likenesses_stand_about_lesions_in_a_share_of_the_samples(host: Host) -> None:
    lesions, bright = lesions_at((12, 0, 0), (-12, 0, 0)), {}
    for share in (0.0, 1.0):
        config = STILL.model_copy(update={"likeness_share": share, "likeness_mm": (4.0, 4.0)})
        sampler = LesionSampler([host], [lesions], (48, 48, 48), config=config)
        rings = []
        for step in range(4):
            image, labels = sampler.sample(0, step)
            near, far = (
                torch.nn.functional.max_pool3d(labels[None].float(), n, 1, n // 2)[0] > 0
                for n in (5, 9)
            )
            rings.append(float(image[0][far & ~near].median()))
        bright[share] = np.mean(rings)
    assert bright[1.0] > bright[0.0] + 0.1  # of the brain's standard deviations


def test_a_key_gives_its_window_and_a_box_leaves_the_rest_empty(host: Host) -> None:
    sampler = LesionSampler([host], [lesions_at((12, 0, 0))], (48, 48, 48), box=32)
    (image, labels), (again, _) = sampler.windows(0, 5)[0], sampler.windows(0, 5)[0]
    other = sampler.windows(0, 6)[0][0]
    assert torch.equal(image, again)
    assert not torch.equal(image, other)
    assert (image.shape, labels.shape, labels.dtype) == ((1, 48, 48, 48), (48, 48, 48), torch.int64)
    held = (image[0] != 0).nonzero()
    low, high = held.amin(dim=0), held.amax(dim=0)
    assert bool((high - low < 32).all())
    assert bool((low // 8 >= 0).all())
    assert set(labels.unique().tolist()) <= {0, 1}


def test_it_trains_the_layout_of_the_model(host: Host, tmp_path: Path) -> None:
    small: dict[str, Any] = {
        "window": WINDOW,
        "embed_dim": 24,
        "num_heads": 4,
        "depth": 4,
        "completion_dim": 24,
        "feature_size": 4,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SCD(preset("ms-lesions", **small))
    config = TrainConfig(
        steps=14, lr=5e-3, warmup_steps=2, token_weight=0.5, score_weight=0.2, keep_range=(0.2, 1.0)
    )
    sampler = LesionSampler([host], [lesions_at((12, 0, 0), (-12, 0, 0))], WINDOW)
    setup = TrainSetup(sampler, tmp_path, class_weights=torch.tensor([1.0, 4.0]))
    losses = [e.loss for e in train(model, config, setup) if isinstance(e, StepDone)]
    assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:5])
