import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_tokensparse.datasets.cases import Case, DataSet, read_data_set, split
from napari_tokensparse.datasets.checks import checking
from napari_tokensparse.datasets.sampling import CaseSampler
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.training.recipes.choose import SIZES, Recipe, RecipeError, make_recipe
from napari_tokensparse.training.recipes.parts import network_of, step_bytes
from napari_tokensparse.volumes.preprocess import preprocess
from napari_tokensparse.volumes.volume import Volume

GIB = 2**30
ORGANS = {n: f"organ {n}" for n in range(1, 14)}
TUMOUR = {1: "edema", 2: "non-enhancing tumor", 3: "enhancing tumour"}


def volume(shape: tuple[int, ...], spacing: tuple[float, ...], name: str = "image") -> Volume:
    """Noise of mean 100 in voxels (i, j, k) that run to the left, front and top."""
    array = np.random.default_rng(0).normal(100, 20, (1, *shape)).astype(np.float32)
    return Volume(array, np.diag([-spacing[0], *spacing[1:], 1.0]), name)


def make_case(image: Volume, labels: dict[int, str], thickness: int = 8) -> Case:
    label = np.zeros((1, *image.shape), np.uint8)
    for number, value in enumerate(labels):
        label[:, 2 : 2 + thickness, number * thickness : (number + 1) * thickness, 1:-1] = value
    return Case(image.name, image, replace(image, array=label, channel_names=()))


def data_set(
    cases: list[Case], labels: dict[int, str], channels: tuple[str, ...] = ("T1",)
) -> DataSet:
    return DataSet("set", channels, labels, tuple(cases))


def recipe(name: str, cases: DataSet, **options: Any) -> Recipe:
    facts = [c.facts for c in checking(cases) if c.facts is not None and not c.held_out]
    assert len(facts) == len(cases.training)
    return make_recipe(name, cases, facts, **{"memory_bytes": 8 * GIB, **options})


def published(count: int, labels: dict[int, str], channels: int) -> DataSet:
    case = make_case(volume((12, 120, 6), (1, 1, 1)), labels)
    image = case.read_image()
    wide = replace(image, array=np.repeat(image.array, channels, axis=0))
    cases = [Case(f"case {n}", wide, case.label) for n in range(count)]
    return data_set(cases, labels, tuple(f"channel {n}" for n in range(channels)))


def names(definitions: tuple[dict[str, Any], ...]) -> list[str]:
    return [str(d["_target_"]) for d in definitions]


def test_btcv_is_as_published() -> None:
    made = recipe("btcv", published(18, ORGANS, 1))
    assert made.network == preset("btcv")
    training = made.training
    assert (training.steps, training.warmup_steps, training.batch_size) == (45_000, 450, 2)
    assert training.lr == pytest.approx(1.72e-2 * 2 / 256)
    assert (training.betas, training.weight_decay) == ((0.9, 0.95), 0.05)
    assert (training.layer_decay, training.schedule, training.loss) == (0.75, "cosine", "dice-ce")
    assert training.keep_range == pytest.approx((0.1, 0.1))
    assert (training.ema_decay, training.clip_norm) == (0.0, math.inf)
    plan = made.plan
    assert (plan.window, plan.crops, plan.positive_share) == ((96, 96, 96), 4, 0.5)
    assert (plan.image_threshold, plan.balanced) == (0.0, False)
    assert plan.values == tuple(range(14))
    assert names(plan.augmentation) == [
        *["RandFlipd"] * 3,
        *("RandRotate90d", "RandScaleIntensityd", "RandShiftIntensityd"),
    ]
    assert [d["prob"] for d in plan.augmentation] == [0.2, 0.2, 0.2, 0.2, 0.1, 0.1]
    assert [d["spatial_axis"] for d in plan.augmentation[:3]] == [0, 1, 2]
    assert plan.augmentation[3]["max_k"] == 3
    assert plan.augmentation[4]["factors"] == plan.augmentation[5]["offsets"] == 0.1
    assert plan.preprocessing == made.info.preprocessing
    assert names(plan.preprocessing) == [
        *("Orientationd", "Spacingd", "ScaleIntensityRanged", "CropForegroundd")
    ]
    assert plan.preprocessing[0]["axcodes"] == "RAS"
    assert plan.preprocessing[1]["pixdim"] == [1.5, 1.5, 2.0]
    assert (made.info.overlap, made.info.blending, made.info.exclusive) == (0.5, "constant", True)
    assert made.info.background == plan.background == -1.0


def test_btcv_scales_hounsfield_units_and_crops_to_what_is_above_minus_316() -> None:
    made = recipe("btcv", published(2, ORGANS, 1))
    array = np.full((1, 9, 9, 9), -2000.0, np.float32)
    array[0, 4, 4, 3:8] = [-317, -958, 326, 1000, -315]
    prepared = preprocess(
        Volume(array, np.diag([1.5, 1.5, 2.0, 1.0]), "ct"), made.plan.preprocessing
    )
    assert prepared.image.shape == (1, 1, 1, 3)
    assert prepared.image.flatten().tolist() == pytest.approx(
        [1, 1, 2 * (958 - 315) / 1284 - 1], abs=1e-6
    )


def test_brats_is_as_published() -> None:
    made = recipe("brats", published(4, TUMOUR, 4))
    assert made.network == preset("brats")
    training = made.training
    assert (training.steps, training.warmup_steps, training.batch_size) == (2132, 52, 1)
    assert training.lr == pytest.approx(1.72e-2 / 256)
    assert (training.layer_decay, training.loss) == (0.75, "dice")
    assert training.keep_range == (0.25, 0.25)
    plan = made.plan
    assert (plan.window, plan.crops, plan.positive_share) == ((128, 128, 128), 3, 0.5)
    assert plan.image_threshold == 0.0
    assert plan.regions == ((2, 3), (1, 2, 3), (3,))
    assert names(plan.preprocessing) == ["Orientationd", "Spacingd"]
    assert plan.preprocessing[1]["pixdim"] == [1.0, 1.0, 1.0]
    assert names(plan.augmentation) == [
        *["RandFlipd"] * 3,
        *("RandRotate90d", "NormalizeIntensityd", "RandScaleIntensityd", "RandShiftIntensityd"),
    ]
    info = made.info
    assert names(info.preprocessing) == [
        *("Orientationd", "Spacingd", "CropForegroundd", "NormalizeIntensityd")
    ]
    assert [c.name for c in info.classes] == ["tumour core", "whole tumour", "enhancing tumour"]
    assert (info.exclusive, info.regions, info.overlap) == (False, plan.regions, 0.5)
    assert info.blending == "constant"


@pytest.mark.parametrize(("as_authors", "enhancing"), [(False, 3), (True, 2)])
def test_brats_paints_its_regions_back_to_the_label_values(
    as_authors: bool, enhancing: int
) -> None:
    made = recipe("brats", published(4, TUMOUR, 4), et_as_authors=as_authors)
    assert made.info.regions == ((2, 3), (1, 2, 3), (enhancing,))
    painted = {0: 0}
    for value in TUMOUR:
        for channel in made.info.paint_order:
            if value in made.info.regions[channel]:
                painted[value] = made.info.classes[channel].value
    assert painted == {0: 0, 1: 1, 2: 2, 3: 3}
    assert f"Label {enhancing} " in made.reasons[-1]


def test_brats_finds_its_parts_by_name_and_refuses_other_labels() -> None:
    swapped = {1: "Non-enhancing tumour core", 2: "peritumoral oedema", 3: "enhancing tumor"}
    assert recipe("brats", published(2, swapped, 4)).plan.regions == ((1, 3), (1, 2, 3), (3,))
    with pytest.raises(RecipeError, match="labels liver: must be edema, non-enhancing"):
        recipe("brats", published(2, {1: "liver"}, 4))
    with pytest.raises(RecipeError, match="label 0 as unlabelled"):
        recipe("brats", replace(published(2, TUMOUR, 4), unlabelled=0))


def test_a_published_recipe_says_what_is_not_as_published() -> None:
    cases = published(18, ORGANS, 1)
    assert len(recipe("btcv", cases, memory_bytes=80 * GIB).reasons) == 1
    made = recipe("btcv", cases, size="nano", epochs=100, keep_range=(0.1, 1.0), max_minutes=5.0)
    assert made.training.steps == 900
    assert made.training.warmup_steps == 9
    assert made.training.max_minutes == 5.0
    assert made.network.embed_dim == SIZES["nano"]["embed_dim"]
    text = " ".join(made.reasons)
    assert "Size nano as asked for" in text
    assert "100 epochs as asked for; published are 5000" in text
    assert "Keep ratios from 0.1 to 1 as asked for" in text


def test_windows_at_a_time_follow_the_memory() -> None:
    cases = published(18, ORGANS, 1)
    recipes = [recipe("btcv", cases, memory_bytes=n * GIB) for n in (4, 16, 80)]
    assert recipes[0].training.micro_batch == 1
    assert 1 < recipes[1].training.micro_batch < 8
    assert recipes[2].training.micro_batch == 8
    assert "choose a smaller size" in recipes[0].reasons[0]
    assert "choose a smaller size" not in recipes[1].reasons[0]


def kept_bytes(model: SCD, image: torch.Tensor) -> int:
    """Bytes that a forward pass keeps for the backward pass, each once."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = model(image, 1.0).logits
    return sum(kept.values()) + logits.nbytes


def test_the_estimate_of_memory_covers_what_a_step_keeps() -> None:
    cases = published(1, {1: "one"}, 1)
    for size, edge in (("small", 64), ("base", 48)):
        network = network_of(size, cases, window=(edge, edge, edge))
        counted = kept_bytes(SCD(network).train(), torch.zeros(1, 1, *network.window))
        said = step_bytes(network, 2) - step_bytes(network, 1)
        assert counted < said < 2.5 * counted


def tubes(folder: Path) -> DataSet:
    return split(read_data_set(folder))


def test_auto_keeps_thick_slices_and_takes_the_whole_of_small_volumes(
    write_msd: Callable[..., Path],
) -> None:
    made = recipe("auto", tubes(write_msd("tubes", cases=3)), max_minutes=5.0)
    assert made.plan.preprocessing[1]["pixdim"] == pytest.approx([1, 1, 2.5])
    assert made.network.window == made.plan.window == (64, 64, 32)
    assert (made.network.in_channels, made.network.out_channels) == (2, 4)
    assert (made.network.patch_size, made.network.embed_dim) == (8, SIZES["small"]["embed_dim"])
    assert made.plan.crops == 1
    assert made.plan.values == (0, 1, 2, 3)
    assert made.info.preprocessing == made.plan.preprocessing
    assert made.info.preprocessing[2]["_target_"] == "NormalizeIntensityd"
    assert (made.training.steps, made.training.max_minutes) == (None, 5.0)
    assert made.training.keep_range == (0.1, 1.0)
    assert [c.name for c in made.info.classes] == ["tube", "ball", "rod"]
    assert len({c.color for c in made.info.classes}) == 3
    assert "Spacing 1x1x2.5 mm: typical of the 2 training cases" in made.reasons[0]
    assert all(reason.endswith(".") and "\n" not in reason for reason in made.reasons)


def test_what_auto_makes_fits_together(write_msd: Callable[..., Path]) -> None:
    cases = tubes(write_msd("tubes", cases=3))
    made = recipe("auto", cases, size="nano", epochs=3)
    (image, target), *others = CaseSampler(cases.training, made.plan).windows(0, 0)
    assert not others or made.plan.crops == 1 + len(others)
    logits = SCD(made.network, made.info)(image[None], made.network.keep_ratio).logits
    assert logits.shape == (1, 4, *target.shape)
    assert made.training.steps == 6
    assert torch.isfinite(logits).all()


def test_a_short_run_is_validated_five_times_by_its_steps_or_its_minutes(
    write_msd: Callable[..., Path],
) -> None:
    cases = tubes(write_msd("tubes", cases=3))
    by_steps = recipe("auto", cases, size="nano", epochs=30).training
    assert (by_steps.steps, by_steps.validate_every) == (60, 12)
    assert by_steps.validate_minutes is None
    by_minutes = recipe("auto", cases, size="nano", max_minutes=10.0)
    assert by_minutes.training.validate_minutes == 2.0
    assert "or 2 minutes" in by_minutes.reasons[-1]


def ct(minimum: float, channels: tuple[str, ...] = ("channel 1",)) -> Recipe:
    """Choose for a CT whose structure is between 300 and 700 HU."""
    case = make_case(volume((64, 64, 48), (1, 1, 1)), {1: "bone"})
    image, inside = case.read_image(), case.read_label().array > 0
    array = np.full(image.array.shape, 40, np.int16)
    array[0, 0] = minimum
    array[inside] = np.linspace(300, 700, inside.sum())
    return recipe(
        "auto", data_set([replace(case, image=replace(image, array=array))], {1: "bone"}, channels)
    )


@pytest.mark.parametrize(
    ("minimum", "channel"), [(-1024, "channel 1"), (0, "CT"), (0, "CT portal venous")]
)
def test_auto_clips_ct_round_its_structures(minimum: float, channel: str) -> None:
    made = ct(minimum, (channel,))
    scale = made.info.preprocessing[2]
    assert scale["_target_"] == "ScaleIntensityRanged"
    assert (scale["a_min"], scale["a_max"]) == pytest.approx((203, 797), abs=2)
    assert (scale["b_min"], scale["b_max"], scale["clip"]) == (-1.0, 1.0, True)
    assert made.info.background == made.plan.background == -1.0
    assert names(made.plan.augmentation) == ["RandFlipd"] * 3
    assert "Hounsfield units" in made.reasons[1]


def test_auto_scales_each_scan_by_itself_where_units_have_no_meaning() -> None:
    made = ct(0, ("T1",))
    scan = volume((8, 8, 8), (1, 1, 1))
    doubled = replace(scan, array=2 * scan.array)
    prepared, scaled = (preprocess(v, made.info.preprocessing).image for v in (scan, doubled))
    assert prepared.mean().item() == pytest.approx(0, abs=1e-5)
    assert prepared.std().item() == pytest.approx(1, abs=0.01)
    assert torch.allclose(scaled, prepared, atol=1e-4)
    assert (made.info.background, made.plan.background) == (0.0, 0.0)
    assert "mean 0 and spread 1" in made.reasons[1]


def test_auto_takes_smaller_steps_for_wider_networks() -> None:
    sizes = ("nano", "small", "base", "paper")
    rates = [spaced((1, 1, 1), size=size).training.lr for size in sizes]
    assert rates == pytest.approx([5e-3, 5e-3, 1.25e-3, 6.25e-4])


def spaced(*spacings: tuple[float, float, float], **options: Any) -> Recipe:
    cases = [
        make_case(volume((40, 24, 20), spacing, f"case {n}"), {1: "one"})
        for n, spacing in enumerate(spacings)
    ]
    return recipe("auto", data_set(cases, {1: "one"}), **options)


def test_auto_takes_the_median_spacing() -> None:
    made = spaced((0.5, 0.6, 1.0), (0.8, 0.8, 1.2), (1.5, 0.9, 1.4))
    assert made.plan.preprocessing[1]["pixdim"] == pytest.approx([0.8, 0.8, 1.2])


def test_auto_takes_thinner_slices_where_they_are_thick() -> None:
    made = spaced(*[(0.5, 0.5, 5.0)] * 5, *[(0.5, 0.5, 3.0)] * 4)
    assert made.plan.preprocessing[1]["pixdim"] == pytest.approx([0.5, 0.5, 3.0])


def test_auto_reads_spacing_along_the_patients_axes() -> None:
    image = volume((40, 24, 20), (1, 1, 1))
    turned = np.zeros((4, 4))
    turned[[2, 0, 1, 3], [0, 1, 2, 3]] = [3.0, 0.7, 0.9, 1.0]  # i runs to the top
    case = make_case(replace(image, affine=turned), {1: "one"})
    made = recipe("auto", data_set([case], {1: "one"}))
    assert made.plan.preprocessing[1]["pixdim"] == pytest.approx([0.7, 0.9, 3.0])
    assert made.network.window == (32, 32, 48)


@pytest.mark.parametrize(("thickness", "coarser"), [(4, False), (40, True)])
def test_auto_is_coarser_only_where_structures_bear_it(thickness: int, coarser: bool) -> None:
    """A volume of some 300 windows, with a plate of 4 or a block of 40 voxels of 0.5 mm."""
    image = volume((380, 380, 260), (0.5, 0.5, 0.5))
    made = recipe("auto", data_set([make_case(image, {1: "one"}, thickness)], {1: "one"}))
    (pixdim,) = {round(v, 6) for v in made.plan.preprocessing[1]["pixdim"]}
    assert (pixdim > 0.5) == coarser
    assert pixdim < 0.9
    assert ("bear nothing coarser" in made.reasons[0]) != coarser


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("left kidney", [1, 2]),
        ("Kidney_R", [1, 2]),
        ("ctx-rh-insula", [1, 2]),
        ("liver", [0, 1, 2]),
        ("bright spot", [0, 1, 2]),
    ],
)
def test_auto_mirrors_left_and_right_only_where_no_class_names_a_side(
    name: str, axes: list[int]
) -> None:
    case = make_case(volume((40, 24, 20), (1, 1, 1)), {1: name})
    flips = recipe("auto", data_set([case], {1: name})).plan.augmentation
    assert [flip["spatial_axis"] for flip in flips] == axes


def test_auto_chooses_more_on_a_gpu_with_more_memory() -> None:
    case = make_case(volume((200, 200, 120), (1, 1, 1)), {1: "one"})
    cases = data_set([replace(case, name=str(n)) for n in range(20)], {1: "one"})
    facts = [next(iter(checking(replace(cases, training=cases.training[:1])))).facts] * 20

    def on(device: str, gib: int) -> Recipe:
        return make_recipe("auto", cases, facts, device=device, memory_bytes=gib * GIB)  # type: ignore[arg-type]

    chosen = [on("cuda:0", gib) for gib in (2, 4, 12, 80)]
    widths = [f.network.embed_dim for f in chosen]
    voxels = [math.prod(f.network.window) for f in chosen]
    assert widths == sorted(widths) and widths[0] < widths[-1] == SIZES["paper"]["embed_dim"]
    for gib, made in zip((2, 4, 12, 80), chosen, strict=True):
        assert step_bytes(made.network, made.training.micro_batch) <= gib * GIB
        assert all(side % 16 == 0 and side >= 32 for side in made.network.window)
    assert voxels[-1] > 64**3
    assert math.prod(on("cpu", 80).network.window) <= 64**3
    assert "GiB" in chosen[-1].reasons[2]


def test_unlabelled_voxels_reach_the_plan() -> None:
    case = make_case(volume((40, 24, 20), (1, 1, 1)), {1: "one", 2: "two"})
    cases = replace(data_set([case], {1: "one", 2: "two"}), unlabelled=0)
    for name in ("auto", "btcv"):
        assert recipe(name, cases).plan.unlabelled == 0


def test_unknown_recipes_and_sizes_are_refused() -> None:
    cases = published(1, ORGANS, 1)
    with pytest.raises(RecipeError, match=r"^recipe 'nnunet': choose one of auto, btcv, brats$"):
        recipe("nnunet", cases)
    with pytest.raises(RecipeError, match=r"^size 'huge': choose one of auto, nano, small, base"):
        recipe("auto", cases, size="huge")


@pytest.mark.parametrize("keep_range", [(0.1, 0.3), (0.7, 1.0), (0.2, 0.8)])
def test_the_default_keep_ratio_lies_within_the_range(keep_range: tuple[float, float]) -> None:
    made = spaced((1, 1, 1), keep_range=keep_range)
    assert made.training.keep_range == keep_range
    assert all(keep_range[0] <= r <= keep_range[1] for r in made.network.keep_ratio)
