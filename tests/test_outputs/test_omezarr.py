"""Labels as OME-Zarr: of their own, and in the labels of the image that they are of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import zarr

from napari_tokensparse.contributions.reader import read_layers
from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.outputs.hashes import hash_of
from napari_tokensparse.outputs.receipts import receipt_path
from napari_tokensparse.outputs.writing import check_output, output_stem, write_volume
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import Volume, VolumeError

if TYPE_CHECKING:
    from pathlib import Path

INFO = ModelInfo(
    name="two", channels=("T1",),
    classes=(
        LabelClass(value=17, name="Left-Hippocampus", color=(220, 216, 20)),
        LabelClass(value=53, name="Right-Hippocampus", color=(0, 0, 255)),
    ),
)  # fmt: skip
LABELS = np.random.default_rng(0).choice([0, 17, 53], (130, 20, 16)).astype(np.uint16)


def scan(*signs: float) -> Volume:
    """Return a volume of 1 x 2 x 3 mm whose axes run to the right, front and up, or not."""
    affine = np.diag([*(s * mm for s, mm in zip(signs, (1.0, 2.0, 3.0), strict=True)), 1.0])
    affine[:3, 3] = (5.0, 6.0, 7.0)
    return Volume(np.zeros((1, *LABELS.shape), np.uint8), affine, "scan")


def points(labels: np.ndarray, affine: np.ndarray) -> set[tuple[float, ...]]:
    """Return where label 17 lies, in RAS mm."""
    places = np.argwhere(labels == 17) @ affine[:3, :3].T + affine[:3, 3]
    return {tuple(np.round(place, 3)) for place in places}


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (-1, 1, -1)])
def test_labels_lie_where_they_lay_whatever_the_scans_axes(tmp_path: Path, signs) -> None:
    volume = scan(*signs)
    path = write_volume(tmp_path / "out.ome.zarr", LABELS, volume, info=INFO)
    back = read_volume(path)
    assert points(np.asarray(back.array[0]), back.affine) == points(LABELS, volume.affine)
    assert zarr.open_group(path, mode="r").metadata.zarr_format == 2
    (levels, said, kind), = read_layers(str(path))  # fmt: skip
    assert kind == "labels"
    assert [level.shape for level in levels] == [(16, 20, 130), (8, 10, 65), (4, 5, 33)]
    assert said["scale"] == pytest.approx((3, 2, 1))
    label = zarr.open_group(path, mode="r").attrs["image-label"]
    assert label["colors"][0] == {"label-value": 17, "rgba": [220, 216, 20, 255]}
    assert label["properties"][1] == {"label-value": 53, "name": "Right-Hippocampus"}
    assert output_stem(path) == "out"


@pytest.mark.parametrize("version", [2, 3])
def test_labels_join_those_of_the_image_and_its_hash_stays(tmp_path: Path, version: int) -> None:
    own = write_volume(tmp_path / "scan.ome.zarr", LABELS, scan(-1, -1, 1), info=INFO)
    if version == 3:
        said = dict(zarr.open_group(own, mode="r").attrs)
        again = zarr.open_group(tmp_path / "three.zarr", mode="w", zarr_format=3)
        again.attrs["ome"] = {"version": "0.5", **said}
        for level in ("0", "1", "2"):
            again.create_array(level, data=zarr.open_group(own, mode="r")[level][:])
        own = tmp_path / "three.zarr"
    volume, before = read_volume(own), hash_of(own)
    for name in ("brain", "again"):
        written = write_volume(own / "labels" / name, LABELS, volume, info=INFO)
        assert np.array_equal(np.asarray(read_volume(written).array[0]), LABELS)
    group = zarr.open_group(own / "labels", mode="r")
    listed = group.attrs["ome"]["labels"] if version == 3 else group.attrs["labels"]
    assert listed == ["brain", "again"]
    assert group.metadata.zarr_format == version
    assert group["brain"].metadata.zarr_format == version
    assert hash_of(own) == before
    assert hash_of(own / "labels" / "brain") != before
    # A receipt is no part of zarr, whose tools warn of it: it lies beside the image.
    receipt = own.with_name(f"{output_stem(own)}_brain.receipt.json")
    assert receipt_path(own / "labels" / "brain") == receipt


def test_nothing_is_replaced_and_what_cannot_be_is_refused_before(tmp_path: Path) -> None:
    volume = scan(-1, -1, 1)
    path = write_volume(tmp_path / "out.zarr", LABELS, volume, info=INFO)
    before = hash_of(path)
    with pytest.raises(VolumeError, match=r"is there already and is not replaced; .*/labels/NAME"):
        check_output(path)
    inside = write_volume(path / "labels" / "a", LABELS, volume, info=INFO)
    with pytest.raises(VolumeError, match="is there already and is not replaced; name another"):
        check_output(inside)
    with pytest.raises(VolumeError, match="no such folder; create it first"):
        check_output(tmp_path / "nowhere" / "out.ome.zarr")
    turned = np.diag([1.0, 1.0, 1.0, 1.0])
    turned[:2, :2] = [[0.9, -0.436], [0.436, 0.9]]
    oblique = Volume(volume.array, turned, "tilted")
    with pytest.raises(VolumeError, match=r"tilted lies oblique, which OME-Zarr cannot state"):
        check_output(tmp_path / "new.zarr", oblique)
    assert hash_of(path) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.zarr"]
