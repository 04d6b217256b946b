from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch

from brain.appearance import random_contrast
from brain.deformation import random_warp, smooth_field
from brain.structures import CLASS_COUNT, mirrored_classes
from brain.synthesis import SynthesisConfig, Synthesizer, as_scan
from napari_tokensparse.model.noise import keyed_generator

STILL = SynthesisConfig(
    rotation_deg=0, scale=0, shear=0, warp_mm=0, fine_warp_mm=0, jitter_voxels=0, real_share=0
)
WINDOW = (32, 36, 32)
LEFT_CORTEX, RIGHT_CORTEX, LEFT_PUTAMEN, RIGHT_PUTAMEN, BRAIN_STEM = 2, 17, 8, 23, 12


def phantom() -> npt.NDArray[np.uint8]:
    """Ellipsoid of 52 x 60 x 48 mm: the two cortices, in them the putamina, below the stem."""
    i, j, k = np.indices((64, 72, 60)) - np.array([31.5, 35.5, 29.5]).reshape(3, 1, 1, 1)
    brain = (i / 26) ** 2 + (j / 30) ** 2 + (k / 24) ** 2 <= 1
    labels = np.where(i < 0, LEFT_CORTEX, RIGHT_CORTEX) * brain
    for centre, putamen in ((-12, LEFT_PUTAMEN), (12, RIGHT_PUTAMEN)):
        labels[(i - centre) ** 2 + (j - 8) ** 2 + k**2 <= 36] = putamen
    labels[(i**2 + (j + 6) ** 2 <= 30) & brain & (k < -8)] = BRAIN_STEM
    return np.asarray(labels, dtype=np.uint8)


def real_image(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Image whose intensity grows with the class index, in a mask with a fluid rim."""
    rim = np.roll(labels, 2, axis=0) | np.roll(labels, -2, axis=0)
    return np.where(labels > 0, 100 + labels, np.where(rim > 0, 50, 0)).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small volumes: threads that wait for a busy processor only slow them down."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def synthesizer() -> Synthesizer:
    labels = phantom()
    return Synthesizer(labels, [real_image(labels)], WINDOW, 2.0)


def still(window: tuple[int, int, int] = WINDOW, spacing_mm: float = 2.0) -> Synthesizer:
    return Synthesizer(phantom(), [], window, spacing_mm, STILL)


def centre_of(labels: torch.Tensor, label: int) -> torch.Tensor:
    return (labels == label).nonzero().float().mean(dim=0)


def test_the_same_key_gives_the_same_sample_bit_for_bit(synthesizer: Synthesizer) -> None:
    first = synthesizer.sample(3, 17)
    torch.manual_seed(0)
    again = Synthesizer(phantom(), [real_image(phantom())], WINDOW, 2.0).sample(3, 17)
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.labels, again.labels)


@pytest.mark.parametrize("other", [(3, 18), (4, 17), (17, 3)])
def test_another_key_gives_another_sample(synthesizer: Synthesizer, other: tuple[int, int]) -> None:
    first, second = synthesizer.sample(3, 17), synthesizer.sample(*other)
    assert not torch.equal(first.image, second.image)
    assert not torch.equal(first.labels, second.labels)


def test_sampling_leaves_the_global_random_state_alone(synthesizer: Synthesizer) -> None:
    before = torch.get_rng_state()
    synthesizer.sample(0, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_shapes_types_and_labels(synthesizer: Synthesizer) -> None:
    known = set(np.unique(phantom()).tolist())
    for step in range(4):
        image, labels = synthesizer.sample(0, step)
        assert type(image) is torch.Tensor
        assert (image.shape, image.dtype) == ((1, *WINDOW), torch.float32)
        assert (labels.shape, labels.dtype) == (WINDOW, torch.uint8)
        assert set(np.unique(labels).tolist()) == known


def test_the_brain_is_z_scored_and_everything_else_is_exactly_zero(
    synthesizer: Synthesizer,
) -> None:
    for step in range(4):
        image, labels = synthesizer.sample(1, step)
        brain = image[0] != 0
        assert not brain[0, 0, 0]
        assert brain[labels > 0].all()
        assert (brain & (labels == 0)).any()
        assert float(image[0][brain].mean()) == pytest.approx(0, abs=1e-4)
        assert float(image[0][brain].std(correction=0)) == pytest.approx(1, abs=1e-3)


def test_the_brain_is_centred_as_inference_centres_it() -> None:
    config = SynthesisConfig(jitter_voxels=0)
    made = Synthesizer(phantom(), [], (48, 48, 48), 2.0, config)
    for step in range(6):
        where = (made.sample(0, step).labels > 0).nonzero()
        centre = (where.amin(dim=0) + where.amax(dim=0)) / 2
        assert float((centre - 23.5).abs().max()) <= 2.5


def test_a_brain_larger_than_the_window_is_cropped() -> None:
    labels = still((16, 16, 16)).sample(0, 0).labels
    assert labels.shape == (16, 16, 16)
    assert int((labels[0] > 0).sum()) > 100
    assert int((labels[-1] > 0).sum()) > 100


@pytest.mark.parametrize("spacing_mm", [1.0, 1.5, 2.0, 3.0])
def test_volumes_keep_their_size_in_mm(spacing_mm: float) -> None:
    made = still((64, 72, 60), spacing_mm)
    volume = int((made.sample(0, 0).labels > 0).sum()) * spacing_mm**3
    assert volume == pytest.approx(int((phantom() > 0).sum()), rel=0.05)


def test_a_mirrored_anatomy_still_has_its_left_on_the_left() -> None:
    made = still()
    mirrored = [random_warp(STILL, keyed_generator(0, step)).mirror for step in range(12)]
    assert {True, False} == set(mirrored)
    for step in range(4):
        labels = made.sample(0, step).labels
        for left, right in ((LEFT_CORTEX, RIGHT_CORTEX), (LEFT_PUTAMEN, RIGHT_PUTAMEN)):
            assert centre_of(labels, left)[0] < centre_of(labels, right)[0] - 8


def test_mirroring_exchanges_the_sides_of_an_asymmetric_anatomy() -> None:
    labels = phantom()
    labels[labels == LEFT_PUTAMEN] = LEFT_CORTEX  # only the right one is left
    made = Synthesizer(labels, [], WINDOW, 2.0, STILL)
    for step in range(8):
        mirror = random_warp(STILL, keyed_generator(0, step)).mirror
        present = set(np.unique(made.sample(0, step).labels).tolist())
        assert (LEFT_PUTAMEN in present) == mirror
        assert (RIGHT_PUTAMEN in present) != mirror


@pytest.mark.parametrize("tissue_share", [0.0, 1.0])
def test_both_sides_of_a_structure_look_alike(tissue_share: float) -> None:
    contrast = random_contrast(tissue_share, keyed_generator(0, 1))
    mirrored = torch.from_numpy(mirrored_classes()).long()
    for values in contrast:
        assert len(values) == CLASS_COUNT + 2
        assert torch.equal(values[mirrored], values[:CLASS_COUNT])
    assert len(np.unique(contrast.mean)) == 18  # 12 pairs, 3 midline, background, fluid, residue


def test_structures_differ_in_intensity_and_sides_do_not() -> None:
    quiet = STILL.model_copy(update={"bias": 0.0, "noise": 0.0})
    image, labels = Synthesizer(phantom(), [], WINDOW, 2.0, quiet).sample(0, 2)
    means = {label: float(image[0][labels == label].mean()) for label in (2, 17, 8, 23)}
    assert means[LEFT_CORTEX] == pytest.approx(means[RIGHT_CORTEX], abs=0.1)
    assert means[LEFT_PUTAMEN] == pytest.approx(means[RIGHT_PUTAMEN], abs=0.1)
    assert abs(means[LEFT_PUTAMEN] - means[LEFT_CORTEX]) > 0.5


def test_a_real_image_keeps_its_contrast_or_is_inverted() -> None:
    config = STILL.model_copy(update={"real_share": 1.0, "noise": 0.0, "bias": 0.0})
    made = Synthesizer(phantom(), [real_image(phantom())], WINDOW, 2.0, config)
    upright = 0
    for step in range(12):
        image, labels = made.sample(0, step)
        fluid = (image[0] != 0) & (labels == 0)
        upright += int(image[0][labels > 0].mean() > image[0][fluid].mean())
    assert 6 <= upright < 12


def test_the_deformation_does_not_fold() -> None:
    axes = tuple(torch.arange(-80.0, 81.0, 5.0) for _ in range(3))
    for step in range(10):
        warp = random_warp(SynthesisConfig(), keyed_generator(0, step))
        points = warp.source_mm((axes[0], axes[1], axes[2]))
        gradients = [torch.stack(torch.gradient(axis, spacing=5.0)) for axis in points]
        determinant = torch.linalg.det(torch.stack(gradients).permute(2, 3, 4, 0, 1))
        assert bool((determinant * (-1 if warp.mirror else 1) > 0).all())


def test_a_smooth_field_has_unit_variance_and_is_smooth() -> None:
    axis = torch.arange(-100.0, 101.0, 5.0)
    fields = torch.stack(
        [smooth_field((axis, axis, axis), 32.0, keyed_generator(0, step)) for step in range(8)]
    )
    assert float(fields.std()) == pytest.approx(1, abs=0.1)
    assert float(fields.diff(dim=1).abs().max()) < 0.8


def test_as_scan_is_positive_and_normalises_back(synthesizer: Synthesizer) -> None:
    image = synthesizer.sample(0, 0).image
    scan = as_scan(image)
    assert torch.equal(scan > 0, image != 0)
    brain = scan[scan > 0]
    again = (brain - brain.mean()) / brain.std(correction=0)
    assert torch.allclose(again, image[image != 0], atol=1e-3)


@pytest.mark.parametrize("spacing_mm", [0.5, 4.0])
def test_a_spacing_out_of_range_is_refused(spacing_mm: float) -> None:
    with pytest.raises(ValueError, match=str(spacing_mm)):
        still(spacing_mm=spacing_mm)


def test_an_image_on_another_grid_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(4, 4, 4\)"):
        Synthesizer(phantom(), [np.ones((4, 4, 4), np.float32)], WINDOW, 2.0)


def test_an_empty_label_map_is_refused() -> None:
    with pytest.raises(ValueError, match="no brain"):
        Synthesizer(np.zeros((8, 8, 8), np.uint8), [], WINDOW, 2.0)


def test_a_training_step_takes_the_sample_of_its_key(synthesizer: Synthesizer) -> None:
    sample = synthesizer.sample(3, 17)
    ((image, target),) = synthesizer.windows(3, 17)
    assert torch.equal(image, sample.image)
    assert target.dtype == torch.int64
    assert torch.equal(target, sample.labels.long())
