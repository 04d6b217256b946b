"""From a file's voxels to windows and back, for any shape, window, overlap and affine."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map

from napari_tokensparse.model.config import SCDConfig
from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.segmenting.inputgrid import InputGrid
from napari_tokensparse.segmenting.labelrule import LabelRule
from napari_tokensparse.segmenting.stitch import Stitcher
from napari_tokensparse.segmenting.windowing import Windowed, windowed
from napari_tokensparse.volumes.volume import Volume
from napari_tokensparse.volumes.windows import window_grid

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

ORIENT = {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"}
MANY = 2000
lengths = st.tuples(*[st.integers(2, 26)] * 3)
windows = st.tuples(*[st.integers(1, 5)] * 3)
overlaps = st.floats(0, 0.95)
blendings = st.sampled_from(["gaussian", "constant"])


@st.composite
def affines(draw: st.DrawFn) -> NDArray[np.float64]:
    """Draw any turn, flips, spacings that differ up to tenfold, and an origin."""
    numbers = np.array(draw(st.tuples(*[st.floats(-1, 1, width=32)] * 9))).reshape(3, 3)
    turn, _ = np.linalg.qr(np.round(numbers, 3) + 3 * np.eye(3)[:, draw(st.permutations(range(3)))])
    sizes = draw(st.tuples(*[st.floats(0.4, 4.0)] * 3))
    signs = draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3))
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(np.multiply(sizes, signs))
    affine[:3, 3] = draw(st.tuples(*[st.floats(-200, 200)] * 3))
    return affine


def seen_by(
    volume: Volume, tokens: tuple[int, ...], overlap: float, *transforms: dict[str, Any], **how: Any
) -> tuple[Windowed, ModelInfo]:
    """Cut a volume as a model of 4³ patches sees it."""
    info = ModelInfo(
        name="identity",
        channels=("values",),
        classes=tuple(LabelClass(value=v, name=f"part {v}", color=(v, 0, 0)) for v in (1, 2)),
        preprocessing=transforms,
        **how,
    )
    h, w, d = (4 * n for n in tokens)
    config = SCDConfig(
        out_channels=3, window=(h, w, d), patch_size=4, decoder="linear", embed_dim=24, num_heads=4
    )
    return windowed(volume, config, info, overlap), info


def labels_of(seen: Windowed, info: ModelInfo, shape: tuple[int, int, int]) -> NDArray[Any]:
    """Run every window through a network whose class at a voxel is the voxel's own value."""
    grid = seen.grid
    stitcher = Stitcher(grid, 3, info.blending)
    out = InputGrid(shape, seen.axes, grid.extents, LabelRule(info.label_values))
    values = torch.arange(3.0)[:, None, None, None]
    for start, following in pairwise([*grid.starts, (grid.padded[0], 0, 0)]):
        if seen.is_foreground(start):
            stitcher.add(start, -((grid.cut(seen.image, start) - values) ** 2))
        for rows in stitcher.release(following[0]):
            out.add(rows)
    return out.labels


def check_identity(
    shape: tuple[int, int, int],
    affine: NDArray[np.float64],
    tokens: tuple[int, int, int],
    overlap: float,
    blending: str,
    seed: int,
) -> None:
    values = np.random.default_rng(seed).integers(0, 3, shape).astype(np.int16)
    seen, info = seen_by(
        Volume(values[None], affine, "scan"), tokens, overlap, ORIENT, blending=blending
    )
    np.testing.assert_array_equal(labels_of(seen, info, shape), values)


def check_weights(
    shape: tuple[int, int, int], tokens: tuple[int, int, int], overlap: float, blending: str
) -> None:
    h, w, d = (4 * n for n in tokens)
    grid = window_grid(shape, (h, w, d), 4, overlap)
    expected = torch.zeros(grid.padded, dtype=torch.float64)
    weight = compute_importance_map(grid.window, mode=blending, sigma_scale=0.125).double()
    lone = len(grid.starts) == 1
    for start in grid.starts:
        where = tuple(slice(s, s + n) for s, n in zip(start, grid.window, strict=True))
        expected[where] += torch.ones_like(weight) if lone else weight
    stitcher, pieces = Stitcher(grid, 1, blending), []  # type: ignore[arg-type]
    for start, following in pairwise([*grid.starts, (grid.padded[0], 0, 0)]):
        stitcher.add(start, torch.ones(1, *grid.window))
        for rows in stitcher.release(following[0]):
            assert (rows.sums[..., 0] - rows.weights).abs().max() <= 1e-5 * rows.weights.max()
            pieces.append(rows.weights.clone())
    total = torch.cat(pieces)
    assert total.shape == expected.shape
    assert total.min() > 0
    assert ((total - expected).abs() / expected).max() < 1e-4


def check_world(
    shape: tuple[int, int, int],
    affine: NDArray[np.float64],
    tokens: tuple[int, int, int],
    pixdim: tuple[float, float, float],
    normal: tuple[float, float, float],
) -> None:
    """A half-space in world millimetres is labelled in world millimetres."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    middle = world.reshape(-1, 3).mean(axis=0)
    distance = (world - middle) @ (np.array(normal) / np.linalg.norm(normal))
    values = np.where(distance > 0, 2, 1).astype(np.uint8)
    space = {"_target_": "Spacingd", "keys": "image", "pixdim": list(pixdim), "mode": "bilinear"}
    seen, info = seen_by(Volume(values[None], affine, "scan"), tokens, 0.5, ORIENT, space)
    labels = labels_of(seen, info, shape)
    reach = np.linalg.norm([*pixdim]) + np.linalg.norm(affine[:3, :3], axis=0).max()
    clear = np.abs(distance) > reach
    for axis, n in enumerate(shape):  # a model grid may end up to half its voxel before the scan
        edge = np.arange(n)
        edge = np.minimum(edge, n - 1 - edge) * np.linalg.norm(affine[:3, axis])
        inside = edge >= max(pixdim)
        clear &= inside.reshape([-1 if a == axis else 1 for a in range(3)])
    np.testing.assert_array_equal(labels[clear], values[clear])


normals = st.sampled_from([(1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0), (1.0, -2.0, 0.5), (-1.0, 1, 1)])
pixdims = st.tuples(*[st.sampled_from([0.7, 1.0, 1.5, 3.0])] * 3)
FEW = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
LONG = settings(FEW, max_examples=MANY)
DRAWN: dict[str, st.SearchStrategy[Any]] = {
    "identity": st.tuples(lengths, affines(), windows, overlaps, blendings, st.integers(0, 99)),
    "weights": st.tuples(lengths, windows, overlaps, blendings),
    "world": st.tuples(lengths, affines(), windows, pixdims, normals),
}


def examples(check: Callable[..., None], name: str, how: settings) -> int:
    """Run a check on drawn examples; how many there were."""
    count = 0

    @how
    @given(DRAWN[name])
    def counted(drawn: tuple[Any, ...]) -> None:
        nonlocal count
        count += 1
        check(*drawn)

    counted()
    return count


def test_an_identity_network_labels_every_voxel_with_its_own_value() -> None:
    assert examples(check_identity, "identity", FEW) >= 20


def test_the_weights_of_windows_add_up_to_those_of_a_sum_over_all() -> None:
    assert examples(check_weights, "weights", FEW) >= 20


def test_a_half_space_in_millimetres_is_labelled_where_it_lies() -> None:
    assert examples(check_world, "world", FEW) >= 20


@pytest.mark.deep
def test_many_more_shapes_windows_overlaps_and_affines(
    figures: Callable[[str, dict[str, Any]], None],
) -> None:
    said = {
        "labels of an identity network are its input": examples(check_identity, "identity", LONG),
        "weights of windows": examples(check_weights, "weights", LONG),
        "a half-space in mm through resampling": examples(check_world, "world", LONG),
    }
    assert all(count >= MANY for count in said.values())
    figures("geometry", {"examples": said})
