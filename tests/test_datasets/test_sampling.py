import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from napari_tokensparse.datasets.cases import Case
from napari_tokensparse.datasets.plan import SamplingPlan
from napari_tokensparse.datasets.sampling import UNLABELLED, CacheBudget, CaseSampler
from napari_tokensparse.volumes.preprocess import preprocess
from napari_tokensparse.volumes.volume import Volume, write_nifti
from napari_tokensparse.volumes.windows import window_grid

SHAPE = (40, 36, 20)
ORIENT: dict[str, Any] = {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"}
SPACE: dict[str, Any] = {
    "_target_": "Spacingd",
    "keys": "image",
    "pixdim": [1.5, 1.5, 2.0],
    "mode": "bilinear",
}
FLIPS = tuple(
    {"_target_": "RandFlipd", "keys": ["image", "label"], "prob": 0.5, "spatial_axis": axis}
    for axis in range(3)
)
PLAN = SamplingPlan(window=(16, 16, 16), crops=2, values=(0, 1, 2), preprocessing=(ORIENT,))


def make_case(number: int, shape: tuple[int, ...] = SHAPE) -> Case:
    """Label 1 is a box, label 2 a small one; the image is 10 times the label, plus 1 to 5."""
    label = np.zeros((1, *shape), np.uint8)
    label[:, 6:20, 8:20, 4:14] = 1
    label[:, 30:33, 25:28, 15:18] = 2
    image = 10.0 * label + np.random.default_rng(number).uniform(1, 5, label.shape)
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    return Case(
        f"case {number}",
        Volume(image.astype(np.float32), affine, "image"),
        Volume(label, affine, "label"),
    )


CASES = [make_case(number) for number in range(3)]


def with_label(case: Case, label: np.ndarray) -> Case:
    assert isinstance(case.label, Volume)
    return Case(case.name, case.image, Volume(label, case.label.affine, "label"))


def equal(some: list[Any], others: list[Any]) -> bool:
    return len(some) == len(others) and all(
        torch.equal(a, b)
        for pair, other in zip(some, others, strict=True)
        for a, b in zip(pair, other, strict=True)
    )


def test_a_window_is_an_image_and_the_classes_at_the_same_place() -> None:
    for index in range(6):
        for image, target in CaseSampler(CASES, PLAN).windows(0, index):
            assert (image.shape, image.dtype) == ((1, 16, 16, 16), torch.float32)
            assert (target.shape, target.dtype) == ((16, 16, 16), torch.int64)
            assert type(image) is torch.Tensor and type(target) is torch.Tensor
            assert torch.equal((image[0] / 10).floor().clamp(max=2).long(), target)


def test_augmentation_moves_image_and_label_alike() -> None:
    turn = {"_target_": "RandRotate90d", "keys": ["image", "label"], "prob": 1.0, "max_k": 3}
    plan = PLAN.model_copy(update={"augmentation": (*FLIPS, turn)})
    plain, moved = CaseSampler(CASES, PLAN), CaseSampler(CASES, plan)
    changed = 0
    for index in range(6):
        pairs = zip(plain.windows(0, index), moved.windows(0, index), strict=True)
        for (before, _), (image, target) in pairs:
            assert torch.equal((image[0] / 10).floor().clamp(max=2).long(), target)
            changed += not torch.equal(before, image)
    assert changed > 6


def test_windows_are_a_function_of_their_key_alone() -> None:
    plan = PLAN.model_copy(update={"augmentation": FLIPS})
    first, second = CaseSampler(CASES, plan), CaseSampler(CASES, plan)
    forwards = [first.windows(7, index) for index in range(6)]
    np.random.seed(1)
    torch.manual_seed(1)
    backwards = [second.windows(7, index) for index in reversed(range(6))]
    assert all(map(equal, forwards, reversed(backwards)))
    assert not equal(forwards[0], first.windows(8, 0))
    assert not equal(forwards[0], forwards[3])


def test_windows_do_not_share_memory_with_the_volume() -> None:
    sampler = CaseSampler(CASES, PLAN.model_copy(update={"window": SHAPE}))
    image, target = sampler.windows(0, 0)[0]
    before = image.clone()
    image.zero_()
    target.zero_()
    assert torch.equal(sampler.windows(0, 0)[0][0], before)


def test_every_epoch_has_every_case_once_in_its_own_order() -> None:
    plan = SamplingPlan(window=(4, 4, 4), values=(0, 1))
    label = Volume(np.ones((1, 4, 4, 4), np.uint8), np.eye(4), "label")
    images = [Volume(np.full((1, 4, 4, 4), n), np.eye(4), "image") for n in range(8)]
    cases = [Case(f"case {n}", image, label) for n, image in enumerate(images)]
    sampler = CaseSampler(cases, plan)
    assert len(sampler) == 8
    seen = [int(sampler.windows(0, n)[0][0].max()) for n in range(24)]
    epochs = [seen[:8], seen[8:16], seen[16:]]
    assert all(sorted(epoch) == list(range(8)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_the_grid_is_that_of_inference() -> None:
    plan = PLAN.model_copy(update={"window": (48, 48, 16), "preprocessing": (ORIENT, SPACE)})
    image, target = CaseSampler(CASES[:1], plan).windows(0, 0)[0]
    volume = CASES[0].read_image()
    prepared = preprocess(volume, plan.preprocessing).image
    padded = window_grid(prepared.shape[1:], plan.window, 8, 0.5).pad(prepared, 0.0)
    assert torch.equal(image, padded)
    inside = padded[0] > 0
    assert target[~inside].unique().tolist() == [0]
    alike = (target[inside] > 0) == (padded[0][inside] > 8)
    assert alike.float().mean() > 0.985  # linear and nearest differ at edges only


def test_a_small_volume_is_padded_with_background_on_both_sides() -> None:
    plan = PLAN.model_copy(update={"window": (16, 16, 32), "background": -3.0})
    for image, target in CaseSampler(CASES, plan).windows(0, 0):
        assert (image[..., :6] == -3).all() and (image[..., 26:] == -3).all()
        assert (image[..., 6:26] > 0).all()
        assert (target[..., :6] == 0).all()


def test_unlabelled_voxels_and_padding_are_left_out_of_the_target() -> None:
    plan = PLAN.model_copy(update={"window": (16, 16, 32), "unlabelled": 0})
    for index in range(3):
        for image, target in CaseSampler(CASES, plan).windows(0, index):
            assert set(target.unique().tolist()) <= {UNLABELLED, 1, 2}
            assert torch.equal(target == UNLABELLED, image[0] < 8)
            assert target[8, 8, 16] != UNLABELLED or (target > 0).any()


def test_another_unlabelled_value_leaves_zero_as_background() -> None:
    label = CASES[0].read_label().array.copy()
    label[..., :10] = 255
    plan = PLAN.model_copy(update={"window": (*SHAPE[:2], 32), "unlabelled": 255})
    _, target = CaseSampler([with_label(CASES[0], label)], plan).windows(0, 0)[0]
    padded = (slice(0, 6), slice(26, 32))
    assert all((target[..., part] == UNLABELLED).all() for part in (*padded, slice(6, 16)))
    assert target[..., 16:26].unique().tolist() == [0, 1, 2]


def test_overlapping_regions_are_masks_of_their_label_values() -> None:
    plan = PLAN.model_copy(update={"window": SHAPE, "regions": ((1, 2), (2,))})
    _, target = CaseSampler(CASES, plan).windows(0, 0)[0]
    assert (target.shape, target.dtype) == ((2, *SHAPE), torch.float32)
    assert target.flatten(1).sum(1).tolist() == [14 * 12 * 10 + 27, 27]


def centre_classes(plan: SamplingPlan, cases: list[Case] = CASES) -> np.ndarray:
    sampler = CaseSampler(cases, plan)
    half = plan.window[0] // 2
    classes = [t[half, half, half] for n in range(300) for _, t in sampler.windows(0, n)]
    return np.bincount(np.array(classes) + 1, minlength=4) / len(classes)


SMALL = PLAN.model_copy(update={"window": (4, 4, 4)})


def test_half_of_the_crops_are_centred_on_a_class_by_its_size() -> None:
    _, background, large, small = centre_classes(SMALL)
    assert background == pytest.approx(0.5, abs=0.07)
    assert large == pytest.approx(0.5, abs=0.07)
    assert small == pytest.approx(0.5 * 27 / 1707, abs=0.02)


def test_balanced_crops_are_centred_on_each_class_alike() -> None:
    plan = SMALL.model_copy(update={"balanced": True, "positive_share": 0.9})
    assert centre_classes(plan) == pytest.approx([0, 0.1, 0.45, 0.45], abs=0.07)


def test_every_crop_of_few_painted_voxels_holds_some() -> None:
    sampler = CaseSampler(CASES, SMALL.model_copy(update={"unlabelled": 0}))
    targets = [target for n in range(300) for _, target in sampler.windows(0, n)]
    assert all((target > 0).any() for target in targets)
    assert not any((target == 0).any() for target in targets)


@pytest.mark.parametrize("value", [0, 1])
def test_a_label_of_one_value_gives_crops_without_a_warning(value: int) -> None:
    case = with_label(CASES[0], np.full((1, *SHAPE), value, np.uint8))
    assert centre_classes(SMALL, [case])[value + 1] == 1


def test_background_crops_are_centred_above_the_threshold_or_anywhere() -> None:
    image = np.zeros((1, *SHAPE), np.float32)
    image[:, :10] = -1
    image[:, 35:] = 3
    case = Case("", Volume(image, np.eye(4), ""), Volume(np.zeros_like(image), np.eye(4), ""))
    plan = SMALL.model_copy(update={"preprocessing": ()})

    def centres(threshold: float | None) -> set[float]:
        changed = plan.model_copy(update={"image_threshold": threshold})
        sampler = CaseSampler([case], changed)
        return {float(i[0, 2, 2, 2]) for n in range(40) for i, _ in sampler.windows(0, n)}

    assert centres(0.0) == {3.0}
    assert centres(-0.5) == {0.0, 3.0}
    assert centres(None) == {-1.0, 0.0, 3.0}


@pytest.fixture
def files(tmp_path: Path) -> list[Case]:
    paths = []
    for case in CASES:
        image, label = case.read_image(), case.read_label()
        paths.append(
            Case(
                case.name,
                write_nifti(tmp_path / f"{case.name} image.nii", image.array[0], image),
                write_nifti(tmp_path / f"{case.name} label.nii", label.array[0], label),
            )
        )
    return paths


@pytest.mark.parametrize("memory", [0, 200_000, 2**30])
@pytest.mark.parametrize("on_disk", [True, False])
def test_windows_are_the_same_wherever_volumes_are_kept(
    files: list[Case], tmp_path: Path, memory: int, on_disk: bool
) -> None:
    plan = PLAN.model_copy(update={"augmentation": FLIPS, "preprocessing": (ORIENT, SPACE)})
    folder = tmp_path / "cache" if on_disk else None
    expected = CaseSampler(CASES, plan)
    sampler = CaseSampler(files, plan, CacheBudget(memory, folder))
    for index in range(6):
        assert equal(sampler.windows(0, index), expected.windows(0, index))
    written = len(list(folder.iterdir())) if folder else 0
    assert written == {0: 3, 200_000: 2, 2**30: 0}[memory] * on_disk


def test_a_kept_file_is_read_again_and_one_of_a_changed_image_is_not(
    files: list[Case], tmp_path: Path
) -> None:
    cache = CacheBudget(0, tmp_path / "cache")
    before = CaseSampler(files[:1], PLAN, cache).windows(0, 0)
    (kept,) = (tmp_path / "cache").iterdir()
    written = kept.stat().st_mtime_ns
    assert equal(CaseSampler(files[:1], PLAN, cache).windows(0, 0), before)
    assert kept.stat().st_mtime_ns == written
    image = CASES[0].read_image()
    assert isinstance(files[0].image, Path)
    write_nifti(files[0].image, image.array[0] + 100, image)
    after = CaseSampler(files[:1], PLAN, cache).windows(0, 0)
    assert torch.equal(after[0][0], before[0][0] + 100)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_volumes_in_memory_are_kept_on_disk_too(tmp_path: Path) -> None:
    sampler = CaseSampler(CASES, PLAN, CacheBudget(0, tmp_path))
    expected = CaseSampler(CASES, PLAN)
    for index in range(6):
        assert equal(sampler.windows(0, index), expected.windows(0, index))
    assert len(list(tmp_path.iterdir())) == 3


def test_a_sampler_is_pickled_without_its_volumes() -> None:
    sampler = CaseSampler(CASES, PLAN)
    sizes = [len(pickle.dumps(sampler))]
    expected = sampler.windows(0, 0)
    sizes.append(len(pickle.dumps(sampler)))
    assert sizes[1] == pytest.approx(sizes[0], abs=5000)
    assert equal(pickle.loads(pickle.dumps(sampler)).windows(0, 0), expected)


class Windows(Dataset[Any]):
    """Windows by their index, for a loader."""

    def __init__(self, sampler: CaseSampler) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Any:
        return self.sampler.windows(0, index)


def test_workers_draw_the_same_windows(tmp_path: Path) -> None:
    plan = PLAN.model_copy(update={"augmentation": FLIPS})
    sampler = CaseSampler(CASES, plan, CacheBudget(0, tmp_path))
    loader = DataLoader(Windows(sampler), batch_size=None, num_workers=2)
    expected = CaseSampler(CASES, plan)
    for index, windows in enumerate(loader):
        assert equal(windows, expected.windows(0, index))


def test_a_painted_slice_lies_anywhere_in_a_window() -> None:
    label = np.zeros((1, *SHAPE), np.uint8)
    label[:, 20] = 1
    label[:, 20, :18] = 2
    plan = PLAN.model_copy(update={"unlabelled": 0, "values": (0, 1, 2)})
    sampler = CaseSampler([with_label(CASES[0], label)], plan)
    places = [
        int(torch.where((target >= 0).any(dim=2).any(dim=1))[0][0])
        for index in range(60)
        for _, target in sampler.windows(0, index)
        if (target >= 0).any()
    ]
    assert len(places) > 100
    assert set(places) >= set(range(1, 16))
