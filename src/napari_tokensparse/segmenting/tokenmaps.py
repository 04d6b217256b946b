"""Token maps: what each stage thought of every token of a volume, and where it ended."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokensparse.volumes.region import Box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_tokensparse.model.encoder import TokenTrace
    from napari_tokensparse.model.info import Colour
    from napari_tokensparse.volumes.preprocess import AxisMap
    from napari_tokensparse.volumes.windows import Shape, WindowGrid

NOT_PROCESSED = 0
_ALL_ROWS = slice(None)
# Okabe and Ito's colours, told apart with any colour vision; stages beyond begin anew.
STAGE_COLOURS: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (213, 94, 0),
    (0, 114, 178),
)


def stage_colour(stage: int) -> Colour:
    """RGB of what is pruned at a stage, counted from 1."""
    return STAGE_COLOURS[(stage - 1) % len(STAGE_COLOURS)]


@dataclass(frozen=True)
class TokenPlaces:
    """Where the voxels of an input lie on the token grid of the padded volume.

    Attributes
    ----------
    shape
        Of the input ``(i, j, k)``.
    axes
        Where each input axis lies on the padded grid.
    grid
        Tokens ``(gh, gw, gd)``.
    patch
        Token edge in voxels of the padded grid.
    """

    shape: Shape
    axes: tuple[AxisMap, AxisMap, AxisMap]
    grid: Shape
    patch: int

    def indices(self, axis: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Find the tokens of the voxels along one input axis.

        Returns
        -------
        index
            Per voxel, the token's index along the model's axis that this one lies on; clipped to
            the token grid.
        inside
            Per voxel, whether it lies on the token grid.
        """
        where = self.axes[axis]
        coordinates = where.coordinates(self.shape[axis])
        index = np.floor((coordinates + 0.5) / self.patch).astype(np.int64)
        length = self.grid[where.axis]
        return index.clip(0, length - 1), (index >= 0) & (index < length)


@dataclass(frozen=True, eq=False)
class TokenMaps:
    """Token maps of one volume, at token resolution on the model's grid.

    A token takes its values from its owner, the window whose centre is nearest; nothing is
    averaged.

    Attributes
    ----------
    importance
        Per stage ``(gh, gw, gd)`` float32: importance in (0, 1) of the tokens that reached the
        stage, NaN elsewhere.
    rank
        Per stage ``(gh, gw, gd)`` float32: percentile among the live tokens of the owner, from 0
        the least to 1 the most important; NaN where importance is.
    pruned_at
        ``(gh, gw, gd)`` uint8: 0 not processed, 1..S pruned at that stage, S + 1 kept to the end.
    among
        Per stage ``(gh, gw, gd)`` int32: how many tokens of the owner reached the stage; 0 where
        none was processed.
    places
        Where the input's voxels lie on the token grid.
    pins
        ``(gh, gw, gd)`` int8: 1 of tokens that a person kept, -1 of those that were dropped, 0 of
        the others; None where nobody pinned any.
    """

    importance: tuple[NDArray[np.float32], ...]
    rank: tuple[NDArray[np.float32], ...]
    pruned_at: NDArray[np.uint8]
    among: tuple[NDArray[np.int32], ...]
    places: TokenPlaces
    pins: NDArray[np.int8] | None = None

    @property
    def stages(self) -> int:
        """Number of pruning stages S."""
        return len(self.importance)

    def on_input_grid(self, token_map: NDArray[Any], rows: slice = slice(None)) -> NDArray[Any]:
        """Show a token map on the input's grid ``(i, j, k)``: every voxel has its token's value.

        Voxels outside the token grid are 0 in an integer map, NaN in a float one. ``rows`` limits
        what is shown to a part of the first axis.
        """
        lookups = [self.indices(axis) for axis in range(3)]
        lookups[0] = (lookups[0][0][rows], lookups[0][1][rows])
        indices, inside = zip(*lookups, strict=True)
        order = [axis.axis for axis in self.places.axes]
        shown = token_map.transpose(order)[np.ix_(*indices)]
        first, second, third = inside
        outside = ~(first[:, None, None] & second[:, None] & third)
        shown[outside] = np.nan if shown.dtype.kind == "f" else NOT_PROCESSED
        return shown

    def within(self, box: Box) -> TokenMaps:
        """Return the maps with every token that has no voxel in the box as not processed."""
        inside = np.zeros(self.pruned_at.shape, bool)
        inside[self._tokens_of(box)] = True
        importance, rank = (
            tuple(np.where(inside, values, np.float32(np.nan)) for values in maps)
            for maps in (self.importance, self.rank)
        )
        pruned_at, among = self.pruned_at * inside, tuple(each * inside for each in self.among)
        return replace(self, importance=importance, rank=rank, pruned_at=pruned_at, among=among)

    def indices(self, axis: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Find the tokens of the voxels along one input axis, as `TokenPlaces.indices` does."""
        return self.places.indices(axis)

    def token_of(self, voxel: Shape) -> Shape | None:
        """Return the grid position (h, w, d) of a voxel's token; None outside the token grid."""
        token = [0, 0, 0]
        for axis, n in enumerate(voxel):
            index, inside = self.indices(axis)
            if not inside[n]:
                return None
            token[self.places.axes[axis].axis] = int(index[n])
        return token[0], token[1], token[2]

    def box(self, token: Shape) -> Box:
        """Return the input voxels whose centres lie in a token: what `on_input_grid` shows of it.

        Raises
        ------
        RegionError
            There is none: the input's voxels are larger than tokens, or it lies in the padding.
        """
        spans = []
        for axis, where in enumerate(self.places.axes):
            index, inside = self.indices(axis)
            voxels = np.flatnonzero(inside & (index == token[where.axis]))
            spans.append((int(voxels[0]), int(voxels[-1]) + 1) if voxels.size else (0, 0))
        (i, i_end), (j, j_end), (k, k_end) = spans
        return Box((i, j, k), (i_end, j_end, k_end))

    def edges(
        self, token: Shape | tuple[NDArray[np.int64], ...]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return a token's lower and upper edges in input voxels ``(i, j, k)``.

        Voxel n reaches from n - 0.5 to n + 0.5. A token of a resampled volume ends within voxels,
        one of a padded volume may reach beyond it. Of n tokens, whose positions come as arrays of
        n, the edges are ``(n, 3)``.
        """
        sides = self.places.patch * np.arange(2) - 0.5
        ends = np.array(
            [
                (self.places.patch * np.asarray(token[a.axis])[..., None] + sides - a.start)
                / a.slope
                for a in self.places.axes
            ]
        )
        ends.sort(axis=-1)
        return ends[..., 0].T, ends[..., 1].T

    def counts(self) -> dict[str, int]:
        """Count tokens: ``processed``, ``pruned at 1`` … ``pruned at S``, ``kept``."""
        counts = np.bincount(self.pruned_at.ravel(), minlength=self.stages + 2)
        pruned = {f"pruned at {n}": int(counts[n]) for n in range(1, self.stages + 1)}
        return {
            "processed": int(counts[1:].sum()),
            **pruned,
            "kept": int(counts[self.stages + 1]),
        }

    def _tokens_of(self, box: Box) -> tuple[slice, slice, slice]:
        slices = [slice(0), slice(0), slice(0)]
        for axis, span in enumerate(box.slices):
            index, inside = (values[span] for values in self.indices(axis))
            if inside.any():
                own = index[inside]
                slices[self.places.axes[axis].axis] = slice(int(own.min()), int(own.max()) + 1)
        h, w, d = slices
        return h, w, d


class TokenMapBuilder:
    """Collects the traces of windows into token maps.

    Parameters
    ----------
    grid
        The windows.
    stages
        Number of pruning stages.
    """

    def __init__(self, grid: WindowGrid, stages: int) -> None:
        self._grid = grid
        self._importance = [np.full(grid.tokens, np.nan, np.float32) for _ in range(stages)]
        self._rank = [values.copy() for values in self._importance]
        self._pruned_at = np.full(grid.tokens, NOT_PROCESSED, np.uint8)
        self._among = [np.zeros(grid.tokens, np.int32) for _ in range(stages)]

    def add(self, start: Shape, trace: TokenTrace, row: int = 0) -> None:
        """Take what one window's batch row says of the tokens it owns."""
        patch, tokens = self._grid.patch, tuple(n // self._grid.patch for n in self._grid.window)
        owned = self._grid.owned(start)
        local = tuple(
            slice(s.start - at // patch, s.stop - at // patch)
            for s, at in zip(owned, start, strict=True)
        )
        importance, pruned_at = window_maps(trace, row, tokens)
        seen = [*importance, *window_ranks(trace, row, tokens)]
        for mine, window in zip([*self._importance, *self._rank], seen, strict=True):
            mine[owned] = window[local]
        self._pruned_at[owned] = pruned_at[local]
        processed = pruned_at[local] != NOT_PROCESSED
        for among, scores in zip(self._among, trace.scores, strict=True):
            among[owned] = processed * np.int32(scores.shape[1])

    def finish(self, places: TokenPlaces) -> TokenMaps:
        """Return the maps of an input whose voxels lie so on the token grid."""
        return TokenMaps(
            tuple(self._importance),
            tuple(self._rank),
            self._pruned_at,
            tuple(self._among),
            places,
        )


def window_maps(
    trace: TokenTrace, row: int, tokens: tuple[int, ...]
) -> tuple[list[NDArray[np.float32]], NDArray[np.uint8]]:
    """Lay one window's trace out on its token grid: importance per stage, and pruned-at."""
    pruned_at = np.full(int(np.prod(tokens)), NOT_PROCESSED, np.uint8)  # outside a crop
    for stage, pruned in enumerate((*trace.pruned, trace.kept), start=1):
        pruned_at[pruned[row].cpu().numpy()] = stage
    importance = [
        _laid_out(scores[row].exp().cpu().numpy(), pruned_at >= stage, tokens)
        for stage, scores in enumerate(trace.scores, start=1)
    ]
    return importance, pruned_at.reshape(tokens)


def window_ranks(trace: TokenTrace, row: int, tokens: tuple[int, ...]) -> list[NDArray[np.float32]]:
    """Rank one window's live tokens at every stage, as the stage does: 1 most important, 0 least.

    The rank is a percentile, so stages and windows of any size compare: a stage with keep ratio r
    keeps the tokens in the upper r. Equal scores rank lowest grid index first. A single live token
    has rank 1.
    """
    _, pruned_at = window_maps(trace, row, tokens)
    ranks = []
    for stage, scores in enumerate(trace.scores, start=1):
        best_first = scores[row].argsort(descending=True, stable=True).cpu().numpy()
        percentile = np.empty(len(best_first), np.float32)
        percentile[best_first] = np.linspace(1.0, 0.0, len(best_first))
        ranks.append(_laid_out(percentile, pruned_at.ravel() >= stage, tokens))
    return ranks


def _laid_out(
    values: NDArray[np.float32], live: NDArray[np.bool_], tokens: tuple[int, ...]
) -> NDArray[np.float32]:
    """Put the values of the live tokens, in grid order, on the token grid; NaN elsewhere."""
    grid = np.full(live.size, np.nan, np.float32)
    grid[live] = values
    return grid.reshape(tokens)
