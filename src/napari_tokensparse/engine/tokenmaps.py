"""Token maps: what each stage thought of every token of a volume, and where it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_tokensparse.data.preprocess import AxisMap
    from napari_tokensparse.data.windows import Shape, WindowGrid
    from napari_tokensparse.model.encoder import TokenTrace
    from napari_tokensparse.model.info import Colour

NOT_PROCESSED = 0
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
    pruned_at
        ``(gh, gw, gd)`` uint8: 0 not processed, 1..S pruned at that stage, S + 1 kept to the end.
    """

    importance: tuple[NDArray[np.float32], ...]
    pruned_at: NDArray[np.uint8]
    _shape: Shape
    _axes: tuple[AxisMap, AxisMap, AxisMap]
    _patch: int

    @property
    def stages(self) -> int:
        """Number of pruning stages S."""
        return len(self.importance)

    def on_input_grid(self, token_map: NDArray[Any]) -> NDArray[Any]:
        """Show a token map on the input's grid ``(i, j, k)``: every voxel has its token's value.

        Voxels outside the token grid are 0 in an integer map, NaN in a float one.
        """
        indices, inside = zip(*(self._indices(a, token_map.shape) for a in range(3)), strict=True)
        order = [axis.axis for axis in self._axes]
        shown = token_map.transpose(order)[np.ix_(*indices)]
        first, second, third = inside
        outside = ~(first[:, None, None] & second[:, None] & third)
        shown[outside] = np.nan if shown.dtype.kind == "f" else NOT_PROCESSED
        return shown

    def counts(self) -> dict[str, int]:
        """Count tokens: ``processed``, ``pruned at 1`` … ``pruned at S``, ``kept``."""
        found = np.bincount(self.pruned_at.ravel(), minlength=self.stages + 2)
        pruned = {f"pruned at {n}": int(found[n]) for n in range(1, self.stages + 1)}
        return {
            "processed": int(found[1:].sum()),
            **pruned,
            "kept": int(found[self.stages + 1]),
        }

    def _indices(
        self, axis: int, shape: tuple[int, ...]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        where = self._axes[axis]
        coordinates = where.coordinates(self._shape[axis])
        index = np.floor((coordinates + 0.5) / self._patch).astype(np.int64)
        length = shape[where.axis]
        return index.clip(0, length - 1), (index >= 0) & (index < length)


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
        self._pruned_at = np.full(grid.tokens, NOT_PROCESSED, np.uint8)

    def add(self, start: Shape, trace: TokenTrace, row: int = 0) -> None:
        """Take what one window's batch row says of the tokens it owns."""
        patch, tokens = self._grid.patch, tuple(n // self._grid.patch for n in self._grid.window)
        owned = self._grid.owned(start)
        local = tuple(
            slice(s.start - at // patch, s.stop - at // patch)
            for s, at in zip(owned, start, strict=True)
        )
        importance, pruned_at = window_maps(trace, row, tokens)
        for mine, window in zip(self._importance, importance, strict=True):
            mine[owned] = window[local]
        self._pruned_at[owned] = pruned_at[local]

    def finish(self, shape: Shape, axes: tuple[AxisMap, AxisMap, AxisMap]) -> TokenMaps:
        """Return the maps of an input of ``shape`` whose axes lie so on the padded grid."""
        return TokenMaps(tuple(self._importance), self._pruned_at, shape, axes, self._grid.patch)


def window_maps(
    trace: TokenTrace, row: int, tokens: tuple[int, ...]
) -> tuple[list[NDArray[np.float32]], NDArray[np.uint8]]:
    """Lay one window's trace out on its token grid: importance per stage, and pruned-at."""
    length = int(np.prod(tokens))
    pruned_at = np.full(length, len(trace.scores) + 1, np.uint8)
    live = np.arange(length)
    importance = []
    for stage, (scores, pruned) in enumerate(zip(trace.scores, trace.pruned, strict=True), 1):
        values = np.full(length, np.nan, np.float32)
        values[live] = scores[row].exp().cpu().numpy()
        importance.append(values.reshape(tokens))
        gone = pruned[row].cpu().numpy()
        pruned_at[gone] = stage
        live = np.setdiff1d(live, gone, assume_unique=True)
    return importance, pruned_at.reshape(tokens)
