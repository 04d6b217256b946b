"""OME-Zarr images as public tools write them: placed, lazy, the level near the model's grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

from napari_tokensparse.contributions.reader import get_reader, read_layers
from napari_tokensparse.outputs.writing import write_volume
from napari_tokensparse.volumes.reading import could_be_volume, read_volume
from napari_tokensparse.volumes.volume import VolumeError, is_lazy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VOXELS = np.random.default_rng(0).integers(0, 4000, (2, 24, 20, 16)).astype(np.uint16)  # c, z, y, x


def write_image(
    path: Path,
    version: str = "0.5",
    unit: str | None = "micrometer",
    factor: float = 1000.0,
    voxels: np.ndarray = VOXELS,
    axes: str = "czyx",
    **more: Any,
) -> Path:
    """Write a pyramid of three levels: 1 x 1 x 2 mm along (x, y, z), then twice and four times."""
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    spatial = {"type": "space", **({"unit": unit} if unit else {})}
    kinds = {"c": {"type": "channel"}, "t": {"type": "time", "unit": "second"}}
    datasets = []
    lead = [1.0] * (len(axes) - 3)
    for level in range(3):
        step = 2**level
        data = voxels[..., ::step, ::step, ::step]
        group.create_array(str(level), data=np.ascontiguousarray(data), chunks=data.shape)
        sides = [side * step * factor for side in (2.0, 1.0, 1.0)]
        shift = [*([0.0] * len(lead)), *(mm * factor for mm in (30.0, 20.0, 10.0))]
        datasets.append(
            {
                "path": str(level),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [*lead, *sides]},
                    {"type": "translation", "translation": shift},
                ],
            }
        )
    said: dict[str, Any] = {
        "multiscales": [
            {
                "axes": [{"name": axis, **kinds.get(axis, spatial)} for axis in axes],
                "datasets": datasets,
                **more,
            }
        ],
        "omero": {"channels": [{"label": "T1"}, {"label": "T2"}]},
    }
    if version == "0.5":
        group.attrs["ome"] = {"version": "0.5", **said}
    else:
        said["multiscales"][0]["version"] = "0.4"
        group.attrs.update(said)
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(("unit", "factor"), [("micrometer", 1000.0), ("meter", 0.001)])
def test_an_image_is_placed_in_mm_with_its_channels(
    tmp_path: Path, version: str, unit: str, factor: float
) -> None:
    path = write_image(tmp_path / "scan.ome.zarr", version, unit, factor)
    volume = read_volume(path)
    assert (volume.name, volume.channel_names) == ("scan", ("T1", "T2"))
    assert is_lazy(volume.array)
    assert volume.shape == (16, 20, 24)
    assert volume.spacing == pytest.approx((1, 1, 2))
    assert np.array_equal(np.asarray(volume.array), VOXELS.transpose(0, 3, 2, 1))
    # x to the left, y to the back: the first voxel lies at R -10, A -20, S 30.
    np.testing.assert_allclose(volume.affine @ (0, 0, 0, 1), (-10, -20, 30, 1))
    np.testing.assert_allclose(volume.affine @ (1, 0, 0, 1), (-11, -20, 30, 1))
    np.testing.assert_allclose(volume.affine @ (0, 1, 1, 1), (-10, -21, 32, 1))
    assert any("left and right are assumed" in note for note in volume.notes)
    assert volume.notes[-1] == "level 1 of 3 of the pyramid was read (1 × 1 × 2 mm)"


@pytest.mark.parametrize("key", ["orientation", "anatomicalOrientation"])
def test_which_way_the_axes_run_is_read_where_it_is_stated(tmp_path: Path, key: str) -> None:
    path = write_image(tmp_path / "scan.zarr", unit="millimeter", factor=1.0)
    group = zarr.open_group(path, mode="a")
    said = dict(group.attrs["ome"])
    runs = ("left-to-right", "superior-to-inferior", "posterior-to-anterior")
    for axis, run in zip(said["multiscales"][0]["axes"][1:], runs, strict=True):
        axis[key] = {"type": "anatomical", "value": run}
    group.attrs["ome"] = said
    volume = read_volume(path)
    assert volume.shape == (16, 20, 24)
    # z leads to the right in steps of 2 mm from 30, y down from 20, x to the front from 10.
    np.testing.assert_allclose(volume.affine @ (0, 0, 0, 1), (30, 10, -20, 1))
    np.testing.assert_allclose(volume.affine @ (1, 2, 3, 1), (36, 11, -22, 1))
    assert not any("left and right are assumed" in note for note in volume.notes)

    labels = (np.asarray(volume.array[0]) > 2000).astype(np.uint8)
    written = read_volume(write_volume(path / "labels/brain", labels, volume))
    assert np.array_equal(np.asarray(written.array[0]), labels)  # voxel for voxel as the image
    np.testing.assert_allclose(written.affine, volume.affine)
    alone = read_volume(write_volume(tmp_path / "brain.ome.zarr", labels, volume))
    world = written.affine @ (1, 2, 3, 1)
    index = np.linalg.solve(alone.affine, world).round().astype(int)[:3]
    assert np.asarray(alone.array)[(0, *index)] == labels[1, 2, 3]
    assert np.diag(alone.affine)[:3].tolist() == [-2.0, -1.0, 1.0]


@pytest.mark.parametrize(
    ("spacing", "size"),
    [((1, 1, 1), (1, 1, 2)), ((3, 3, 3), (2, 2, 4)), ((9, 9, 9), (4, 4, 8)), (None, (1, 1, 2))],
)
def test_the_level_nearest_to_the_models_voxels_is_read(
    tmp_path: Path, spacing: tuple[float, ...] | None, size: tuple[float, ...]
) -> None:
    path = write_image(tmp_path / "scan.zarr", unit="millimeter", factor=1.0)
    volume = read_volume(path, spacing=spacing)
    assert volume.spacing == pytest.approx(size)
    np.testing.assert_allclose(volume.affine @ (0, 0, 0, 1), (-10, -20, 30, 1))


def test_scales_of_all_levels_and_missing_units_are_honoured(tmp_path: Path) -> None:
    doubled = [{"type": "scale", "scale": [1, 2, 2, 2]}]
    path = write_image(
        tmp_path / "scan.zarr", unit=None, factor=1.0, coordinateTransformations=doubled
    )
    volume = read_volume(path)
    assert volume.spacing == pytest.approx((2, 2, 4))
    np.testing.assert_allclose(volume.affine[:3, 3], (-20, -40, 60))
    assert any("millimetres are assumed" in note for note in volume.notes)


def test_frames_are_chosen_as_of_any_time_series(tmp_path: Path) -> None:
    path = write_image(tmp_path / "film.zarr", "0.4", axes="tzyx")
    with pytest.raises(VolumeError, match="time series of 2 frames; pick one with --frame"):
        read_volume(path)
    assert np.array_equal(
        np.asarray(read_volume(path, frame=1).array)[0], VOXELS[1].transpose(2, 1, 0)
    )
    ((levels, kwargs, _),) = read_layers(str(path))
    assert [level.shape for level in levels] == [(2, 24, 20, 16), (2, 12, 10, 8), (2, 6, 5, 4)]
    assert kwargs["scale"] == pytest.approx((1, 2, 1, 1))


def test_what_is_no_image_of_a_volume_is_refused_in_one_line(tmp_path: Path) -> None:
    def said(path: Path) -> str:
        with pytest.raises(VolumeError) as refused:
            read_volume(path)
        assert "\n" not in str(refused.value)
        return str(refused.value)

    parsec = write_image(tmp_path / "far.zarr", unit="parsec")
    assert said(parsec).startswith("far.zarr: unit parsec: must be one of angstrom, ")
    flat = write_image(tmp_path / "flat.zarr", voxels=VOXELS[0, :, :, :], axes="cyx")
    assert said(flat) == "flat.zarr: has axes c, y, x; give a volume of t, c, z, y, x"
    plate = tmp_path / "plate.zarr"
    zarr.open_group(plate, mode="w")
    assert "give the image's own folder, for example plate.zarr/0" in said(plate)
    assert not could_be_volume(plate)
    gone = write_image(tmp_path / "gone.zarr")
    for file in (gone / "0").rglob("zarr.json"):
        file.unlink()
    assert said(gone).startswith("gone.zarr: level 0 cannot be read")
    (tmp_path / "none.zarr").mkdir()
    assert said(tmp_path / "none.zarr").startswith("none.zarr: is not an OME-Zarr image")


def test_napari_gets_every_level_of_each_channel_in_mm(tmp_path: Path) -> None:
    path = write_image(tmp_path / "scan.ome.zarr", "0.4")
    read: Callable[..., Any] | None = get_reader(str(path))
    assert read is not None
    layers = read(str(path))
    assert [(said["name"], kind) for _, said, kind in layers] == [
        ("scan T1", "image"),
        ("scan T2", "image"),
    ]
    levels, said, _ = layers[1]
    assert said["multiscale"]
    assert [level.shape for level in levels] == [(24, 20, 16), (12, 10, 8), (6, 5, 4)]
    assert all(is_lazy(level) for level in levels)
    assert said["scale"] == pytest.approx((2, 1, 1))
    assert said["translate"] == pytest.approx((30, 20, 10))
    assert np.array_equal(np.asarray(levels[1]), VOXELS[1, ::2, ::2, ::2])
