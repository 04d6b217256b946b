from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai import transforms
from monai.data.meta_tensor import MetaTensor
from numpy.typing import NDArray

from napari_tokensparse.volumes.preprocess import (
    AxisMap,
    Prepared,
    PreprocessError,
    preprocess,
    preprocess_pair,
)
from napari_tokensparse.volumes.volume import Volume

ORIENT: dict[str, Any] = {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"}
RAS = (("L", "R"), ("P", "A"), ("I", "S"))
SPACE: dict[str, Any] = {
    "_target_": "Spacingd",
    "keys": "image",
    "pixdim": [1.5, 2.0, 1.2],
    "mode": "bilinear",
}
CROP: dict[str, Any] = {
    "_target_": "CropForegroundd",
    "keys": "image",
    "source_key": "image",
    "channel_indices": [0],
    "allow_smaller": True,
}
SHAPE = (20, 26, 17)
SPACING = (1.3, 0.8, 2.1)
ORIGIN = (-31.0, 12.5, 88.0)
AXES = [
    pytest.param(order, signs, id="".join("RAS"[a] if s > 0 else "LPI"[a] for a, s in pairs))
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
    for pairs in [list(zip(order, signs, strict=True))]
]


def affine_of(order: tuple[int, ...], signs: tuple[int, ...]) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3] = 0.0
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, axis] = sign * SPACING[axis]
    affine[:3, 3] = ORIGIN
    return affine


def oblique() -> NDArray[np.float64]:
    a, b = np.radians([20.0, -35.0])
    turn_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    turn_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn_x @ turn_z @ np.diag([-0.7, 1.1, 3.3])
    affine[:3, 3] = ORIGIN
    return affine


def blob_volume(affine: NDArray[np.float64], centre: tuple[float, ...]) -> Volume:
    """Make channel 0 a bright blob on nothing, channels 1 to 3 each voxel's R, A and S in mm."""
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1).astype(float)
    millimetres = (grid - np.array(centre)) * np.linalg.norm(affine[:3, :3], axis=0)
    blob = np.exp(-((millimetres / 3.0) ** 2).sum(axis=-1) / 2)
    blob[blob < 0.01] = 0.0
    world = grid @ affine[:3, :3].T + affine[:3, 3]
    return Volume(np.concatenate([blob[None], np.moveaxis(world, -1, 0)]), affine, "blob")


def to_model(prepared: Prepared, voxel: NDArray[np.float64]) -> NDArray[np.float64]:
    spacing = np.full(3, np.nan)
    for axis, where in enumerate(prepared.axes):
        spacing[where.axis] = where.slope * voxel[axis] + where.start
    return spacing


def check_geometry(volume: Volume, prepared: Prepared) -> None:
    """Every model voxel within the input lies where `Prepared.affine` says, in mm."""
    world = prepared.image[1:].numpy()
    grid = np.stack(np.meshgrid(*map(np.arange, world.shape[1:]), indexing="ij"), axis=-1)
    said = grid @ prepared.affine[:3, :3].T + prepared.affine[:3, 3]
    back = np.linalg.inv(volume.affine)
    voxels = said @ back[:3, :3].T + back[:3, 3]
    inside = np.all((voxels >= -1e-6) & (voxels <= np.array(volume.shape) - 1 + 1e-6), axis=-1)
    assert inside.mean() > 0.5
    assert np.moveaxis(world, 0, -1)[inside] == pytest.approx(said[inside], abs=1e-3)
    for voxel in ((0, 0, 0), (19, 3, 11), (4, 25, 16)):
        expected = volume.affine[:3, :3] @ voxel + volume.affine[:3, 3]
        model = to_model(prepared, np.array(voxel, dtype=float))
        place = prepared.affine[:3, :3] @ model + prepared.affine[:3, 3]
        assert place == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("order", "signs"), AXES)
def test_a_voxel_is_found_on_the_model_grid_where_the_axis_map_says(
    order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    centre = (11.0, 15.0, 7.0)
    volume = blob_volume(affine_of(order, signs), centre)
    prepared = preprocess(volume, [ORIENT, SPACE, CROP])
    blob = prepared.image[0].numpy()
    grid = np.stack(np.meshgrid(*map(np.arange, blob.shape), indexing="ij"), axis=-1)
    weighted = (grid * blob[..., None]).sum(axis=(0, 1, 2)) / blob.sum()
    assert weighted == pytest.approx(to_model(prepared, np.array(centre)), abs=0.05)
    # The crop leaves only the blob, so that start is far from that of the whole volume.
    assert all(8 < n < 22 for n in blob.shape)
    assert {where.axis for where in prepared.axes} == {0, 1, 2}
    for axis, where in enumerate(prepared.axes):
        assert where.axis == order[axis]
        pixdim = SPACE["pixdim"][where.axis]
        assert where.slope == pytest.approx(signs[axis] * SPACING[axis] / pixdim)
    check_geometry(volume, prepared)


def test_an_oblique_volume_is_processed_along_its_own_axes_and_placed_exactly() -> None:
    volume = blob_volume(oblique(), (11.0, 15.0, 7.0))
    prepared = preprocess(volume, [ORIENT, SPACE, CROP])
    check_geometry(volume, prepared)
    slopes = [where.slope for where in prepared.axes]
    assert slopes == pytest.approx([-0.7 / 1.5, 1.1 / 2.0, 3.3 / 1.2])
    directions = prepared.affine[:3, :3] / np.linalg.norm(prepared.affine[:3, :3], axis=0)
    own = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    assert np.abs((directions * own).sum(axis=0)) == pytest.approx(1.0)


def test_without_transforms_the_volume_is_its_own_model_grid() -> None:
    volume = Volume(np.arange(24, dtype=np.int16).reshape(1, 2, 3, 4), oblique(), "ramp")
    prepared = preprocess(volume, [])
    assert np.array_equal(prepared.image.numpy(), volume.array)
    assert prepared.image.dtype.is_floating_point
    assert type(prepared.image).__name__ == "Tensor"
    for axis, where in enumerate(prepared.axes):
        assert where.axis == axis
        assert (where.slope, where.start) == pytest.approx((1.0, 0.0), abs=1e-12)
    assert prepared.affine == pytest.approx(oblique())


def test_a_read_only_view_of_a_file_is_left_alone() -> None:
    array = np.random.default_rng(0).normal(size=(1, 6, 5, 4)).astype(np.float32)
    array.flags.writeable = False
    prepared = preprocess(
        Volume(array.transpose(0, 3, 2, 1), np.diag([-1.0, 1, 1, 1]), "view"),
        [ORIENT, {"_target_": "NormalizeIntensityd", "keys": "image"}],
    )
    assert prepared.image.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert prepared.image.std(unbiased=False).item() == pytest.approx(1.0, abs=1e-5)


def test_coordinates_are_those_of_voxel_centres() -> None:
    assert AxisMap(1, -0.5, 4.0).coordinates(4).tolist() == [4.0, 3.5, 3.0, 2.5]


def test_intensities_are_scaled_as_the_definitions_say() -> None:
    array = np.array([-2000.0, -958.0, 184.0, 326.0, 3000.0]).reshape(1, 5, 1, 1)
    scale = {"_target_": "ScaleIntensityRanged", "keys": "image", "clip": True}
    prepared = preprocess(
        Volume(array, np.eye(4), "ct"),
        [{**scale, "a_min": -958, "a_max": 326, "b_min": -1, "b_max": 1}],
    )
    expected = [-1.0, -1.0, 2 * (184 + 958) / 1284 - 1, 1.0, 1.0]
    assert prepared.image.flatten().tolist() == pytest.approx(expected)


def refusal(*definitions: dict[str, Any], array: NDArray[Any] | None = None) -> str:
    values = np.ones((1, 4, 4, 4), np.float32) if array is None else array
    with pytest.raises(PreprocessError) as refused:
        preprocess(Volume(values, np.eye(4), "scan"), definitions)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("name", ["Lambdad", "LoadImaged", "os.system", None, "Orientation"])
def test_a_transform_that_is_not_on_the_list_is_refused(name: str | None) -> None:
    line = refusal({"_target_": name, "keys": "image"})
    assert line.startswith(f"transform {name!r}: must be one of CropForegroundd, DivisiblePadd")


@pytest.mark.parametrize("keys", ["label", ["image", "label"], None])
def test_a_transform_of_another_key_is_refused(keys: Any) -> None:
    assert refusal({**SPACE, "keys": keys}) == "transform 'Spacingd': works on 'image' alone"


def test_a_crop_by_another_image_is_refused() -> None:
    line = refusal({**CROP, "source_key": "label"})
    assert line == "transform 'CropForegroundd': works on 'image' alone"


@pytest.mark.parametrize(
    "pixdim", ["$print('ran')", ["@device"], {"a": ["$1"]}, [1, {"$x": 1}], "1 + $2"]
)
def test_expressions_and_references_are_refused(
    pixdim: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal({**SPACE, "pixdim": pixdim})
    assert line == "transform 'Spacingd': expressions are not evaluated"
    assert capsys.readouterr().out == ""


def test_a_component_inside_a_transform_is_not_made(tmp_path: Path) -> None:
    made = tmp_path / "made"
    nested = {"_target_": "pathlib.Path.mkdir", "self": str(made), "_mode_": "default"}
    nested_call = {"_target_": "os.mkdir", "path": str(made)}
    for inner in (nested, nested_call):
        assert refusal({**SPACE, "pixdim": inner}).startswith("transform 'Spacingd': ")
    assert not made.exists()


def test_a_file_named_in_a_transform_is_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.json").write_text('{"pixdim": "$print(\'ran\')"}')
    assert refusal({**SPACE, "pixdim": f"%{tmp_path / 'other.json'}#pixdim"})
    assert capsys.readouterr().out == ""


def test_arguments_that_a_transform_does_not_take_are_refused_in_one_line() -> None:
    line = refusal({**SPACE, "colour": "red"})
    assert line.startswith("transform 'Spacingd': ")
    assert "colour" in line


def test_a_volume_of_which_nothing_is_left_is_refused() -> None:
    line = refusal(ORIENT, CROP, array=np.zeros((1, 4, 4, 4), np.float32))
    assert line == "scan: nothing is left after preprocessing; is it empty?"


@pytest.mark.parametrize(("order", "signs"), AXES[::5])
def test_a_label_follows_its_image_and_keeps_its_values(
    order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    image = blob_volume(affine_of(order, signs), (8.0, 13.0, 7.0))
    bright = image.array[:1] > 0.5
    label = Volume((bright * 40_000).astype(np.uint16), image.affine, "label")
    definitions = [ORIENT, SPACE, CROP]
    prepared, followed = preprocess_pair(image, label, definitions)
    assert torch.equal(prepared, preprocess(image, definitions).image)
    assert (followed.shape, followed.dtype) == ((1, *prepared.shape[1:]), torch.int32)
    assert followed.unique().tolist() == [0, 40_000]
    assert ((followed > 0) == (prepared[:1] > 0.5)).float().mean() > 0.97


def test_a_label_is_left_alone_by_what_scales_intensities() -> None:
    image = blob_volume(oblique(), (8.0, 13.0, 7.0))
    label = Volume(np.arange(np.prod(SHAPE)).reshape(1, *SHAPE) % 7, image.affine, "label")
    scale = {"_target_": "NormalizeIntensityd", "keys": "image"}
    prepared, followed = preprocess_pair(image, label, [scale])
    assert prepared.mean().item() == pytest.approx(0.0, abs=1e-5)
    assert np.array_equal(followed.numpy(), label.array)


def test_a_pair_is_held_to_the_same_list_of_transforms() -> None:
    volume = Volume(np.ones((1, 4, 4, 4)), np.eye(4), "scan")
    with pytest.raises(PreprocessError, match="transform 'Lambdad': must be one of"):
        preprocess_pair(volume, volume, [{"_target_": "Lambdad", "keys": "image"}])
    with pytest.raises(PreprocessError, match="scan: nothing is left after preprocessing"):
        empty = Volume(np.zeros((1, 4, 4, 4)), np.eye(4), "scan")
        preprocess_pair(empty, empty, [CROP])


def test_the_volume_itself_is_left_as_it_is() -> None:
    """A float32 volume on the model's grid already needs no copy: it may be an open layer."""
    values = np.random.default_rng(0).uniform(1, 9, (1, *SHAPE)).astype(np.float32)
    volume = Volume(values.copy(), np.eye(4), "scan")
    scaling = {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True}
    same = {**SPACE, "pixdim": [1.0, 1.0, 1.0]}
    for definitions in ([scaling], [ORIENT, same, scaling]):
        assert preprocess(volume, definitions).image.mean().abs() < 1e-4
        preprocess_pair(volume, Volume(np.ones_like(values), np.eye(4), "label"), definitions)
        assert np.array_equal(volume.array, values)


SCALE: dict[str, Any] = {
    "_target_": "ScaleIntensityRanged",
    "keys": "image",
    "a_min": -1.5,
    "a_max": 1.0,
    "b_min": 0.0,
    "b_max": 1.0,
    "clip": True,
}
CHAINS = {
    "turned": [ORIENT],
    "turned elsewhere": [{**ORIENT, "axcodes": "PIL"}, SCALE],
    "scaled": [SCALE],
    "turned and scaled": [ORIENT, SCALE],
    "resampled": [SPACE],
    "turned and resampled": [ORIENT, SPACE, SCALE],
    "scaled before it is resampled": [ORIENT, SCALE, SPACE],
    "resampled in float32": [ORIENT, {**SPACE, "dtype": np.float32}],
    "turned last": [SCALE, ORIENT],
    "normalised over all": [{"_target_": "NormalizeIntensityd", "keys": "image"}],
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_the_image_is_what_monais_transforms_make_of_it(
    chain: list[dict[str, Any]], dtype: type
) -> None:
    array = (3 * np.random.default_rng(0).normal(size=(2, 40, 9, 11))).astype(dtype)
    affine = affine_of((1, 2, 0), (-1, 1, -1))
    frame = affine - affine * np.eye(4)[3]  # without the origin
    frame[3, 3] = 1.0
    made = [
        getattr(transforms, d["_target_"])(
            **{key: value for key, value in d.items() if key != "_target_"},
            **({"labels": RAS} if d["_target_"] == "Orientationd" else {}),
        )
        for d in chain
    ]
    given = MetaTensor(torch.from_numpy(array.astype(np.float32)), affine=torch.from_numpy(frame))
    expected = transforms.Compose(made)({"image": given})["image"]
    prepared = preprocess(Volume(array, affine, "scan"), chain)
    assert torch.equal(prepared.image, expected.as_tensor())
    assert prepared.image.dtype == torch.float32
    # Both know where model voxels lie: at the same input voxels.
    to_input = np.linalg.inv(frame) @ expected.affine.numpy()
    for axis, where in enumerate(prepared.axes):
        assert 1 / where.slope == pytest.approx(to_input[axis, where.axis])
        assert -where.start / where.slope == pytest.approx(to_input[axis, 3], abs=1e-6)


AVERAGE: list[dict[str, Any]] = [
    {**SPACE, "pixdim": [1.0, 1.0, 1.0]},
    {"_target_": "DivisiblePadd", "keys": "image", "k": 2, "mode": "edge"},
    {"_target_": "Zoomd", "keys": "image", "zoom": 0.5, "mode": "area", "keep_size": False},
]


@pytest.mark.parametrize("length", [20, 21])
def test_halving_after_resampling_averages_eight_voxels_and_keeps_the_geometry(
    length: int,
) -> None:
    ramp = np.arange(length, dtype=np.float32)[:, None, None] + np.zeros((length, 14, 12))
    noise = np.random.default_rng(0).normal(size=ramp.shape)
    volume = Volume(np.stack([ramp, noise]), np.diag([-1.0, -1.0, 1.0, 1.0]), "ramp")
    prepared = preprocess(volume, [ORIENT, *AVERAGE])
    assert prepared.image.shape == (2, -(-length // 2), 7, 6)
    first = prepared.axes[0]
    where = first.coordinates(length)
    whole = slice(1, -1)  # the padding of an odd length reaches one voxel
    at = np.arange(prepared.image.shape[1])[whole]
    assert prepared.image[0, whole, 0, 0].numpy() == pytest.approx(
        np.interp(at, np.sort(where), np.argsort(where)), abs=1e-5
    )
    assert abs(first.slope) == 0.5
    assert prepared.image[1].std() == pytest.approx(noise.std() / np.sqrt(8), rel=0.1)


def test_a_label_follows_a_halving_by_its_nearest_value() -> None:
    image = np.random.default_rng(1).normal(size=(1, 8, 8, 8)).astype(np.float32)
    label = np.zeros((1, 8, 8, 8), np.uint8)
    label[:, 4:] = 7
    pair = preprocess_pair(Volume(image, np.eye(4), "i"), Volume(label, np.eye(4), "l"), AVERAGE)
    assert pair[1].shape == (1, 4, 4, 4)
    assert pair[1][0, :, 0, 0].tolist() == [0, 0, 7, 7]
