"""What of napari's layers is read for a run; no window is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
from napari.layers import Image, Labels

from napari_tokensparse.contributions.writer import write_image
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.segmenting.concerns import concerns
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.segmenting.preview import PreviewSession
from napari_tokensparse.volumes.placement import NOTE_NO_LENGTHS, shown_placement
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.widgets.segment.scan import read_scan
from napari_tokensparse.widgets.train.run import layer_pair

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

SHAPE, BLOCK = (36, 48, 40), (12, 24, 20)


def grey(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(1, 200, SHAPE).astype(np.uint8)


class Blocks:
    """A dask array of which it is known what was read."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.read: list[tuple[int, ...]] = []
        self.values = values
        self.array = da.map_blocks(
            self._block, chunks=da.core.normalize_chunks(BLOCK, values.shape), dtype=values.dtype,
            meta=np.empty((0, 0, 0), values.dtype),
        )  # fmt: skip

    def _block(self, block_info: Any = None) -> NDArray[Any]:
        where = block_info[None]["array-location"]
        self.read.append(tuple(first for first, _ in where))
        return self.values[tuple(slice(*ends) for ends in where)]


def test_the_finest_level_of_a_multiscale_dask_layer_is_read_block_by_block_for_a_run(
    write_nano: Callable[..., Path],
) -> None:
    blocks = Blocks(grey())
    layer = Image([blocks.array, blocks.array[::2, ::2, ::2]], multiscale=True, scale=(2, 1, 1))
    network = load_model(write_nano())
    blocks.read.clear()  # what napari looked at to show it
    scan = read_scan([layer])
    assert scan.volume.shape == SHAPE[::-1] and scan.volume.spacing == (1, 1, 2)
    assert not blocks.read  # nor is anything read before the run
    result = segment(scan.volume, network)
    assert len(blocks.read) == len(set(blocks.read)) == 12  # each once

    whole = segment(read_scan([Image(grey(), scale=(2, 1, 1))]).volume, network)
    assert whole.labels.any() and not whole.labels.all()
    np.testing.assert_array_equal(result.labels, whole.labels)
    np.testing.assert_array_equal(result.tokens.pruned_at, whole.tokens.pruned_at)
    session = PreviewSession(scan.volume, network)
    before = len(blocks.read)
    for ratio in (0.5, 0.25):
        session.update(ratio)
    assert len(blocks.read) == before  # a preview reads no further block


def test_dask_layers_are_stacked_as_channels_beside_those_in_memory(
    write_nano: Callable[..., Path],
) -> None:
    spacing = {"_target_": "Spacingd", "keys": "image", "pixdim": [1.5] * 3, "mode": "bilinear"}
    channels = ("T1", "FLAIR", "T2")
    network = load_model(write_nano("three", channels=channels, preprocessing=(spacing,)))
    blocks = [Blocks(grey(seed)) for seed in (0, 1)]
    coarse = Image(grey(2)[::2, ::2, ::2], scale=(2, 2, 2))
    scan = read_scan([*(Image(one.array) for one in blocks), coarse], channels)
    whole = read_scan([*(Image(one.values) for one in blocks), coarse], channels)
    assert scan.notes == whole.notes
    assert scan.notes[-1].startswith("channel T2 was resampled to the grid of channel T1")
    for one in blocks:
        one.read.clear()
    result = segment(scan.volume, network)
    np.testing.assert_array_equal(result.labels, segment(whole.volume, network).labels)
    assert [len(one.read) for one in blocks] == [12, 12]
    assert [len(set(one.read)) for one in blocks] == [12, 12]


def test_what_speaks_against_a_run_is_told_of_a_dask_layer_too(
    write_nano: Callable[..., Path],
) -> None:
    info = load_model(write_nano(foreground_ml=(300.0, 2400.0))).info
    lazy, whole = (read_scan([Image(data, name="scan")]).volume for data in (
        Blocks(grey()).array, grey(),
    ))  # fmt: skip
    assert concerns(lazy, info) == concerns(whole, info) != ()


@pytest.mark.parametrize("wrap", [np.asarray, da.from_array])
def test_a_time_series_is_refused_with_a_way_to_pick_a_frame(wrap: Callable[..., Any]) -> None:
    layer = Image(wrap(np.zeros((5, 8, 9, 10))), name="cine")
    with pytest.raises(ValueError, match=r"^cine: has 4 axes") as refused:
        read_scan([layer])
    assert str(refused.value) == (
        "cine: has 4 axes (5 x 8 x 9 x 10): right-click it in the layer list, choose Split Stack, "
        "and take one frame or channel"
    )


@pytest.mark.parametrize(
    ("place", "spacing"),
    [
        ({"scale": (0.3, 0.1, 0.1), "units": ("cm",) * 3}, (1.0, 1.0, 3.0)),
        ({"scale": (5, 2, 1), "units": ("um", "um", "nm")}, (1e-6, 0.002, 0.005)),
        ({"scale": (2e-3, 1e-3, 1e-3), "units": ("m",) * 3}, (1.0, 1.0, 2.0)),
        ({"units": ("inch", "angstrom", "mm")}, (1.0, 1e-7, 25.4)),
        ({"affine": np.diag([2.5, 0.5, 0.75, 1]), "units": ("mm",) * 3}, (0.75, 0.5, 2.5)),
        ({"scale": (2, 1, 1), "rotate": (0, 0, 30), "units": ("mm",) * 3}, (1.0, 1.0, 2.0)),
    ],
)
def test_a_layers_units_and_affine_say_how_large_its_voxels_are(
    place: dict[str, Any], spacing: tuple[float, ...], tmp_path: Path
) -> None:
    layer = Image(grey(), name="scan", **place)
    scan = read_scan([layer])
    assert scan.volume.spacing == pytest.approx(spacing)
    assert NOTE_NO_LENGTHS not in scan.notes
    pair = layer_pair(layer, Labels(grey(), **place))
    assert pair.image.spacing == pytest.approx(spacing)
    np.testing.assert_array_equal(pair.image.affine, pair.label.affine)
    data, meta, _ = layer.as_layer_data_tuple()
    saved = read_volume(write_image(str(tmp_path / "saved.nii"), data, meta)[0])
    np.testing.assert_allclose(saved.affine, scan.volume.affine, rtol=1e-5)


def test_pixels_are_no_lengths_and_the_run_says_so() -> None:
    scan = read_scan([Image(grey(), scale=(2, 1, 1))])
    assert scan.volume.spacing == (1, 1, 2)
    assert scan.notes[-1] == NOTE_NO_LENGTHS
    painted = Labels(grey())
    in_cm = layer_pair(Image(grey(), units=("cm",) * 3), painted)
    assert in_cm.label.spacing == in_cm.image.spacing == (10.0, 10.0, 10.0)


def test_a_layer_that_was_given_other_units_or_an_affine_is_read_anew() -> None:
    layer = Image(grey(), units=("mm",) * 3)
    scan = read_scan([layer])
    assert scan.is_of([layer])
    layer.units = ("um",) * 3
    assert not scan.is_of([layer])
    scan = read_scan([layer])
    layer.affine = np.diag([2.0, 1, 1, 1])
    assert not scan.is_of([layer])


@pytest.mark.parametrize("place", [{"rotate": (0, 0, 90)}, {"scale": (-2, 1, 1)}])
def test_what_is_found_in_a_turned_or_mirrored_layer_lies_on_it(place: dict[str, Any]) -> None:
    layer = Image(grey(), units=("mm",) * 3, **place)
    volume = read_scan([layer]).volume
    shown = shown_placement(volume)
    np.testing.assert_array_equal(shown.view(volume.array[0]), layer.data)
    for voxel in [(0, 0, 0), (1, 2, 3)]:
        z, y, x = layer.data_to_world(voxel)
        assert volume.affine @ [*shown.to_file(voxel, volume.shape), 1] == pytest.approx(
            [-x, -y, z, 1]
        )
