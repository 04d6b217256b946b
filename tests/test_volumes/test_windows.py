import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_tokensparse.volumes.windows import WindowGrid, window_grid

lengths = st.tuples(*[st.integers(1, 90)] * 3)
in_tokens = st.tuples(*[st.integers(1, 5)] * 3)


@st.composite
def grids(draw: st.DrawFn) -> tuple[WindowGrid, float]:
    patch = draw(st.sampled_from([1, 4, 8]))
    h, w, d = (patch * n for n in draw(in_tokens))
    shape = tuple(-(-n // 4) if patch == 1 else n for n in draw(lengths))
    overlap = draw(st.floats(0, 0.95))
    return window_grid(shape, (h, w, d), patch, overlap), overlap


@settings(deadline=None, max_examples=60)
@given(grids())
def test_windows_lie_on_one_token_grid_and_cover_the_padded_volume(
    drawn: tuple[WindowGrid, float],
) -> None:
    grid, overlap = drawn
    for n, window, before, padded, starts in zip(
        grid.shape, grid.window, grid.before, grid.padded, grid.axis_starts, strict=True
    ):
        assert padded % grid.patch == 0
        assert padded >= max(n, window)
        assert padded - n < grid.patch or padded == window
        assert before == (padded - n) // 2
        assert all(start % grid.patch == 0 for start in starts)
        assert starts[0] == 0
        assert starts[-1] == padded - window
        steps = np.diff(starts)
        assert np.all(steps > 0)
        # No gap, and at least the asked overlap unless that is less than one token's step.
        assert np.all(steps <= max(window * (1 - overlap), grid.patch))
    assert len(grid.starts) == np.prod([len(starts) for starts in grid.axis_starts])
    assert list(grid.starts) == sorted(grid.starts)


@settings(deadline=None, max_examples=60)
@given(grids())
def test_each_token_has_one_owner_that_holds_it_and_whose_centre_is_nearest(
    drawn: tuple[WindowGrid, float],
) -> None:
    grid, _ = drawn
    owners = np.zeros(grid.tokens, np.int64)
    for start in grid.starts:
        owned = grid.owned(start)
        owners[owned] += 1
        for axis, part in enumerate(owned):
            first, last = part.start * grid.patch, part.stop * grid.patch
            assert start[axis] <= first < last <= start[axis] + grid.window[axis]
            centres = np.array(grid.axis_starts[axis]) + grid.window[axis] / 2
            token = np.arange(part.start, part.stop) * grid.patch + grid.patch / 2
            mine = np.abs(token - start[axis] - grid.window[axis] / 2)
            assert np.all(mine <= np.abs(token[:, None] - centres).min(axis=1))
    assert np.all(owners == 1)


@settings(deadline=None, max_examples=40)
@given(grids(), st.integers(1, 2))
def test_padding_goes_round_the_volume_and_cutting_finds_it_again(
    drawn: tuple[WindowGrid, float], channels: int
) -> None:
    grid, _ = drawn
    image = torch.arange(channels * np.prod(grid.shape) * 1.0).reshape(channels, *grid.shape) + 1
    padded = grid.pad(image, -7.0)
    assert padded.shape == (channels, *grid.padded)
    inner = tuple(slice(b, b + n) for b, n in zip(grid.before, grid.shape, strict=True))
    assert torch.equal(padded[(slice(None), *inner)], image)
    assert (padded == -7.0).sum() == padded.numel() - image.numel()
    for start in (grid.starts[0], grid.starts[-1]):
        cut = grid.cut(padded, start)
        assert cut.shape == (channels, *grid.window)
        here = tuple(slice(s, s + n) for s, n in zip(start, grid.window, strict=True))
        assert torch.equal(cut, padded[(slice(None), *here)])


def test_an_image_that_needs_no_padding_is_not_copied() -> None:
    image = torch.zeros(1, 64, 32, 40)
    assert window_grid((64, 32, 40), (32, 32, 32), 8, 0.5).pad(image, 5.0) is image


def test_a_volume_of_one_window_is_one_window() -> None:
    grid = window_grid((32, 30, 7), (32, 32, 32), 8, 0.5)
    assert grid.starts == ((0, 0, 0),)
    assert (grid.padded, grid.before) == ((32, 32, 32), (0, 1, 12))
    assert grid.owned((0, 0, 0)) == (slice(0, 4),) * 3


def test_the_step_is_what_the_overlap_leaves_rounded_down_to_tokens() -> None:
    assert window_grid((96, 96, 96), (32, 32, 32), 8, 0.5).axis_starts[0] == (0, 16, 32, 48, 64)
    assert window_grid((96, 96, 96), (32, 32, 32), 8, 0.3).axis_starts[0] == (0, 16, 32, 48, 64)
    assert window_grid((90, 96, 96), (32, 32, 32), 8, 0.0).axis_starts[0] == (0, 32, 64)
    assert window_grid((72, 96, 96), (32, 32, 32), 8, 0.25).axis_starts[0] == (0, 24, 40)
    assert window_grid((48, 96, 96), (32, 32, 32), 8, 0.99).axis_starts[0] == (0, 8, 16)


def test_of_two_centres_equally_near_the_first_window_owns_the_token() -> None:
    grid = window_grid((56, 32, 32), (32, 32, 32), 8, 0.25)
    assert grid.axis_starts[0] == (0, 24)
    # Centres 16 and 40: the token at 24 to 32 has its centre, 28, half way.
    assert [grid.owned((s, 0, 0))[0] for s in (0, 24)] == [slice(0, 4), slice(4, 7)]


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 200, 33)])
def test_tokens_count_the_padded_volume(shape: tuple[int, int, int]) -> None:
    grid = window_grid(shape, (32, 32, 32), 8, 0.5)
    assert grid.tokens == tuple(n // 8 for n in grid.padded)
