from itertools import permutations, product

import numpy as np
import pytest
import torch

from napari_tokensparse.model.encoder import TokenTrace
from napari_tokensparse.segmenting.tokenmaps import (
    TokenMapBuilder,
    TokenMaps,
    TokenPlaces,
    window_maps,
    window_ranks,
)
from napari_tokensparse.volumes.preprocess import AxisMap
from napari_tokensparse.volumes.region import Box, RegionError
from napari_tokensparse.volumes.windows import window_grid

Axes = tuple[AxisMap, AxisMap, AxisMap]


def trace_of_eight() -> TokenTrace:
    """Two rows of 8 tokens; stage 1 prunes 4 of them, stage 2 prunes 3 of the rest."""
    return TokenTrace(
        scores=(torch.arange(-16.0, 0).reshape(2, 8) / 10, torch.arange(-8.0, 0).reshape(2, 4)),
        pruned=(
            torch.tensor([[0, 2, 5, 7], [1, 2, 3, 4]]),
            torch.tensor([[1, 4, 6], [0, 5, 7]]),
        ),
        kept=torch.tensor([[3], [6]]),
    )


def test_a_trace_is_laid_out_on_the_token_grid() -> None:
    importance, pruned_at = window_maps(trace_of_eight(), 1, (2, 2, 2))
    assert pruned_at.ravel().tolist() == [2, 1, 1, 1, 1, 2, 3, 2]
    assert pruned_at.dtype == np.uint8
    first = np.exp(np.arange(-8.0, 0) / 10)
    assert importance[0].ravel() == pytest.approx(first, rel=1e-6)
    second = np.full(8, np.nan)
    second[[0, 5, 6, 7]] = np.exp([-4.0, -3.0, -2.0, -1.0])
    assert importance[1].ravel() == pytest.approx(second, rel=1e-6, nan_ok=True)
    assert importance[1].dtype == np.float32


def test_live_tokens_are_ranked_as_the_stage_ranks_them() -> None:
    trace = TokenTrace(
        scores=(
            torch.tensor([[-0.5, -0.1, -0.9, -0.1, -0.7]]).repeat(2, 1),
            torch.tensor([[-0.2, -0.1, -0.3]] * 2),
        ),
        pruned=(torch.tensor([[2, 4]] * 2), torch.tensor([[0, 3]] * 2)),
        kept=torch.tensor([[1]] * 2),
    )
    first, second = window_ranks(trace, 1, (1, 1, 5))
    assert first.ravel().tolist() == [0.5, 1.0, 0.0, 0.75, 0.25]  # of equals the first comes first
    assert second.ravel() == pytest.approx([0.5, 1.0, np.nan, 0.0, np.nan], nan_ok=True)
    assert first.dtype == np.float32


def test_the_only_live_token_has_rank_one() -> None:
    nothing = torch.zeros(1, 0, dtype=torch.int64)
    trace = TokenTrace((torch.zeros(1, 1),), (nothing,), torch.zeros(1, 1, dtype=torch.int64))
    assert window_ranks(trace, 0, (1, 1, 1))[0].tolist() == [[[1.0]]]


def test_without_pruning_every_token_is_kept_to_the_end() -> None:
    empty = torch.zeros(1, 0, dtype=torch.int64)
    trace = TokenTrace((torch.zeros(1, 8),) * 2, (empty, empty), torch.arange(8)[None])
    importance, pruned_at = window_maps(trace, 0, (2, 2, 2))
    assert np.all(pruned_at == 3)
    assert all(np.all(values == 1.0) for values in importance)


def maps_of(shape: tuple[int, int, int], axes: Axes, pruned_at: np.ndarray) -> TokenMaps:
    importance = np.where(pruned_at > 1, pruned_at / 10, np.nan).astype(np.float32)
    among = np.full(pruned_at.shape, pruned_at.size, np.int32)
    places = TokenPlaces(shape, axes, pruned_at.shape, 8)
    return TokenMaps((importance,), (importance,), pruned_at, (among,), places)


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
def test_every_voxel_shows_the_token_that_covers_it(
    order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    tokens = (2, 3, 4)
    pruned_at = np.arange(24, dtype=np.uint8).reshape(tokens) + 1
    shape = (11, 13, 9)
    slopes = (1.0, 1.7, 2.9)
    axes = [
        AxisMap(o, s * slope, 3.2 if s > 0 else 8 * tokens[o] - 4.1)
        for o, s, slope in zip(order, signs, slopes, strict=True)
    ]
    maps = maps_of(shape, (axes[0], axes[1], axes[2]), pruned_at)
    shown = maps.on_input_grid(maps.pruned_at)
    heat = maps.on_input_grid(maps.importance[0])
    assert (shown.shape, shown.dtype, heat.shape) == (shape, np.uint8, shape)
    for voxel in product(*map(range, shape)):
        token = [0, 0, 0]
        for n, where in zip(voxel, axes, strict=True):
            # A model voxel n covers n - 0.5 to n + 0.5, a token its 8 voxels.
            token[where.axis] = int(np.floor((where.slope * n + where.start + 0.5) / 8))
        if all(0 <= t < n for t, n in zip(token, tokens, strict=True)):
            assert shown[voxel] == pruned_at[tuple(token)]
            expected = maps.importance[0][tuple(token)]
            assert heat[voxel] == expected or np.isnan(expected)
            assert maps.token_of(voxel) == tuple(token)
            box = maps.box((token[0], token[1], token[2]))
            assert all(a <= n < b for a, n, b in zip(box.start, voxel, box.stop, strict=True))
            lower, upper = maps.edges((token[0], token[1], token[2]))
            assert (lower - 1e-9 <= np.array(voxel)).all()
            assert (np.array(voxel) <= upper + 1e-9).all()
        else:
            assert shown[voxel] == 0
            assert np.isnan(heat[voxel])
            assert maps.token_of(voxel) is None


def test_a_token_ends_where_its_model_voxels_end() -> None:
    # Axis j runs backwards along the model's first axis at half the voxel size; k is padded by 3.
    axes = (AxisMap(1, 1.0, 0.0), AxisMap(0, -0.5, 15.5), AxisMap(2, 2.0, 3.0))
    maps = maps_of((8, 32, 4), axes, np.ones((2, 2, 2), np.uint8))
    lower, upper = maps.edges((1, 0, 0))  # model voxels 7.5 to 15.5, -0.5 to 7.5, -0.5 to 7.5
    assert lower.tolist() == [-0.5, 0.0, -1.75]
    assert upper.tolist() == [7.5, 16.0, 2.25]
    assert (upper - lower).tolist() == [8.0, 16.0, 4.0]  # 8 model voxels each
    # A model voxel n reaches from n - 0.5 to just below n + 0.5: j = 16 is in, j = 0 is not.
    assert maps.box((1, 0, 0)) == Box((0, 1, 0), (8, 17, 3))
    with pytest.raises(RegionError, match="is empty along i"):
        maps.box((1, 1, 0))


def test_counts_add_up() -> None:
    pruned_at = np.array([0, 0, 1, 1, 1, 2, 2, 1], np.uint8).reshape(2, 2, 2)
    straight = (AxisMap(0, 1.0, 0.0), AxisMap(1, 1.0, 0.0), AxisMap(2, 1.0, 0.0))
    counts = maps_of((16, 16, 16), straight, pruned_at).counts()
    assert counts == {"processed": 6, "pruned at 1": 4, "kept": 2}


def test_a_token_takes_its_values_from_its_owner_and_nothing_is_averaged() -> None:
    grid = window_grid((56, 32, 32), (32, 32, 32), 8, 0.25)
    assert [start[0] for start in grid.starts] == [0, 24]
    builder = TokenMapBuilder(grid, stages=1)
    ids = torch.arange(64)[None]
    nothing = torch.zeros(1, 0, dtype=torch.int64)
    builder.add((0, 0, 0), TokenTrace((torch.full((1, 64), -1.0),), (ids,), nothing))
    builder.add((24, 0, 0), TokenTrace((torch.full((1, 64), -2.0),), (nothing,), ids))
    straight = (AxisMap(0, 1.0, 0.0), AxisMap(1, 1.0, 0.0), AxisMap(2, 1.0, 0.0))
    maps = builder.finish(TokenPlaces((56, 32, 32), straight, grid.tokens, grid.patch))
    assert maps.pruned_at[:, 0, 0].tolist() == [1, 1, 1, 1, 2, 2, 2]
    assert maps.importance[0][:, 3, 3] == pytest.approx(np.exp([-1.0] * 4 + [-2.0] * 3))
    assert maps.rank[0][:4].ravel() == pytest.approx(np.linspace(1, 0, 64))  # the owner's tokens
    assert maps.rank[0][4:, 0, 0] == pytest.approx([1 - 16 * n / 63 for n in (1, 2, 3)])
    assert maps.stages == 1
