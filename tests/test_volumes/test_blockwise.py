"""Dask arrays are read block by block, and give what the same array in memory gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest

from napari_tokensparse.volumes.background import background_by_sign
from napari_tokensparse.volumes.preprocess import preprocess
from napari_tokensparse.volumes.volume import Volume, VolumeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHAPE, BLOCK = (46, 40, 37), (12, 16, 10)
ORIENT = {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"}
CROP = {
    "_target_": "CropForegroundd",
    "keys": "image",
    "source_key": "image",
    "allow_smaller": True,
}
Z_SCORE = {
    "_target_": "NormalizeIntensityd",
    "keys": "image",
    "nonzero": True,
    "channel_wise": True,
}
WINDOW = {"a_min": 10.0, "a_max": 180.0, "b_min": -1.0, "b_max": 1.0, "clip": True}
RANGE = {"_target_": "ScaleIntensityRanged", "keys": "image", **WINDOW}


def spacing(*pixdim: float) -> dict[str, Any]:
    return {"_target_": "Spacingd", "keys": "image", "pixdim": list(pixdim), "mode": "bilinear"}


class Counted:
    """An array that counts how often each of its voxels is read, and the largest piece."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array
        self.dtype, self.shape, self.ndim = array.dtype, array.shape, array.ndim
        self.reads = np.zeros(array.shape, int)
        self.largest = 0

    def __getitem__(self, where: Any) -> NDArray[Any]:
        piece = self._array[where]
        self.reads[where] += 1
        self.largest = max(self.largest, piece.size)
        return piece


def head(dtype: Any = np.uint16) -> NDArray[Any]:
    """Return grey values with a margin of zeros, so that there is something to crop."""
    values = np.zeros(SHAPE)
    values[5:-3, 4:-7, 6:-2] = np.random.default_rng(0).integers(1, 200, (38, 29, 29))
    return values.astype(dtype)


def lazily(array: NDArray[Any], chunks: Any = BLOCK) -> tuple[Counted, Any]:
    counted = Counted(array)
    meta = np.empty((0,) * array.ndim, array.dtype)
    return counted, da.from_array(counted, chunks=chunks, meta=meta, name=False)


AFFINE = np.array([[0, 1.5, 0, -20.0], [-1.0, 0, 0, 30.0], [0, 0, -0.8, 5.0], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    "definitions",
    [
        [],
        [ORIENT],
        [ORIENT, RANGE],
        [ORIENT, spacing(1.5, 1.0, 0.8), CROP, Z_SCORE],  # the volume's own: nothing to resample
        [ORIENT, spacing(1.0, 1.3, 1.7), CROP, Z_SCORE],
        [ORIENT, spacing(0.7, 0.9, 0.5), RANGE],
        [spacing(2.0, 2.0, 2.0)],
        [CROP, spacing(2.0, 2.0, 2.0)],
    ],
    ids=["none", "turned", "range", "same", "resampled", "finer", "unturned", "cropped-first"],
)
@pytest.mark.parametrize("at_once", [1, 2**22])
def test_a_lazy_volume_is_preprocessed_as_in_memory_with_each_block_read_once(
    definitions: list[dict[str, Any]], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_tokensparse.volumes.blockwise._VOXELS_AT_ONCE", at_once)
    whole = preprocess(Volume(head()[None], AFFINE, "scan"), definitions)
    counted, lazy = lazily(head())
    prepared = preprocess(Volume(lazy[None], AFFINE, "scan"), definitions)
    assert prepared.axes == whole.axes
    np.testing.assert_array_equal(prepared.affine, whole.affine)
    np.testing.assert_allclose(prepared.image, whole.image, rtol=0, atol=2e-5)
    # The blocks at the border are read once before, where a border tells background.
    assert counted.reads.min() == 1
    assert counted.reads.max() == 1 + background_by_sign(definitions)
    assert counted.largest == np.prod(BLOCK)


def test_planes_are_read_one_at_a_time_though_they_lie_across_the_first_axis() -> None:
    counted, lazy = lazily(head(np.float32), (1, 40, 37))
    definitions = [ORIENT, spacing(2.0, 2.0, 2.0)]
    turned = np.diag([1.0, 1.0, -1.5, 1.0])[:, [2, 1, 0, 3]]  # planes lie along the model's last
    whole = preprocess(Volume(head(np.float32)[None], turned, "scan"), definitions)
    prepared = preprocess(Volume(lazy[None], turned, "scan"), definitions)
    np.testing.assert_allclose(prepared.image, whole.image, rtol=0, atol=2e-5)
    assert (counted.reads == 1).all()
    assert counted.largest == 40 * 37


def test_a_block_with_nan_is_refused_when_it_is_read() -> None:
    values = head(np.float32)
    values[20, 20, 20] = np.nan
    volume = Volume(lazily(values)[1][None], AFFINE, "scan")
    with pytest.raises(VolumeError, match=r"^scan: contains NaN \(1 voxels\)"):
        preprocess(volume, [ORIENT])
