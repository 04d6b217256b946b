"""Tokens in 3-D: boxes of those that a stage kept, and edges of those that were pruned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Surface
from napari.utils.colormaps import Colormap, ensure_colormap

from napari_tokensparse.segmenting.tokenmaps import stage_colour
from napari_tokensparse.volumes.placement import shown_placement
from napari_tokensparse.widgets.canvas.lighting import lit
from napari_tokensparse.widgets.layers import (
    KEPT_BOXES,
    PRUNED_AT,
    PRUNED_BOXES,
    RANK,
    RESULT_KEY,
    importance_limits,
    placement_kwargs,
)

if TYPE_CHECKING:
    from napari.layers import Image
    from numpy.typing import NDArray

    from napari_tokensparse.inspecting.boxes import TokenBoxes
    from napari_tokensparse.volumes.volume import Volume
    from napari_tokensparse.volumes.windows import Shape
    from napari_tokensparse.widgets.layers import TokenView

_SHRUNK = 0.92  # neighbours are told apart
_FAINT = 0.25
_DARKEST = 0.3  # of inferno: what lies below is black on the canvas, the more so in the shade
# Corners by the bits of (z, y, x); a box's sides as triangles of corners of their own, so that each
# side is lit as one, and its edges.
_CORNERS = np.array([[c >> 2 & 1, c >> 1 & 1, c & 1] for c in range(8)])
_QUADS = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
_SIDES = np.array(_QUADS).ravel()
_TRIANGLES = np.array([[4 * n + c for c in t] for n in range(6) for t in ((0, 1, 2), (0, 2, 3))])
_EDGES = np.array([[a, a | bit] for a in range(8) for bit in (1, 2, 4) if not a & bit])
_BEAM = np.array([[0, 1, 3], [0, 3, 2], [4, 5, 7], [4, 7, 6]])  # two strips of four corners
_LINE_MM = 0.4
_METADATA = "tokensparse_boxes"
"""In the metadata of the boxes' layer: the voxel (i, j, k) in the middle of each."""


def kept_boxes(
    image: Image, volume: Volume, boxes: TokenBoxes, view: TokenView, stage: int
) -> Surface:
    """Return a layer of the tokens that a stage kept, each a box coloured by what it was worth.

    Parameters
    ----------
    image, volume
        The image layer and its voxels.
    boxes
        Of its tokens.
    view
        Rank at the stage is shown for ``rank``, else importance.
    stage
        Counted from 1; ``pruned at`` is of the last one, whatever it is.
    """
    stage = boxes.tokens.stages if view == PRUNED_AT else stage
    kept = np.flatnonzero(boxes.pruned_at > stage)
    values = (boxes.rank if view == RANK else boxes.importance)(stage)[kept]
    corners = _corners(volume, boxes, kept)[:, _SIDES].reshape(-1, 3)
    faces = (_TRIANGLES + len(_SIDES) * np.arange(len(kept))[:, None, None]).reshape(-1, 3)
    corners, placement = lit(corners, _place(image, KEPT_BOXES))
    data = (corners, faces, values.repeat(len(_SIDES))) if len(kept) else _nothing()
    centres = (boxes.lower + boxes.upper)[kept] / 2
    placement["metadata"][_METADATA] = np.rint(centres).astype(int)
    layer = Surface(
        data,
        colormap=_colours(),
        contrast_limits=(0.0, 1.0) if view == RANK else importance_limits(boxes.tokens),
        shading="smooth",
        **placement,
    )
    layer.colorbar.visible = True
    return layer


def pruned_boxes(
    image: Image, volume: Volume, boxes: TokenBoxes, view: TokenView, stage: int
) -> Surface:
    """Return a layer of the tokens that are gone after a stage: their edges, in stages' colours.

    Parameters are those of `kept_boxes`.
    """
    stage = boxes.tokens.stages if view == PRUNED_AT else stage
    gone = np.flatnonzero(boxes.pruned_at <= stage)
    beams = _beams(_corners(volume, boxes, gone)[:, _EDGES].reshape(-1, 2, 3), image)
    faces = (_BEAM + 8 * np.arange(len(beams))[:, None, None]).reshape(-1, 3)
    vertices = beams.reshape(-1, 3)
    data = (vertices, faces, np.ones(len(vertices))) if len(gone) else _nothing()
    colours = np.array([(*stage_colour(n), 255) for n in range(1, boxes.tokens.stages + 1)]) / 255
    per_vertex = colours[boxes.pruned_at[gone] - 1].repeat(8 * len(_EDGES), axis=0)
    return Surface(
        data,
        vertex_colors=per_vertex if len(gone) else np.zeros((3, 4)),
        shading="none",
        opacity=_FAINT,
        **_place(image, PRUNED_BOXES),
    )


def box_middle(layer: Surface, triangle: int) -> Shape:
    """Return the voxel (i, j, k) in the middle of the box that a triangle of a layer belongs to."""
    i, j, k = layer.metadata[_METADATA][triangle // len(_TRIANGLES)].tolist()
    return i, j, k


def _corners(volume: Volume, boxes: TokenBoxes, which: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the corners ``(n, 8, 3)`` of boxes in the voxels that a layer shows, (z, y, x)."""
    place = shown_placement(volume)
    middle, half = (boxes.lower + boxes.upper)[which] / 2, (boxes.upper - boxes.lower)[which] / 2
    ends = [
        place.points_to_shown(middle + way * _SHRUNK * half, volume.shape) for way in (-1.0, 1.0)
    ]
    low, high = np.sort(ends, axis=0)
    corners: NDArray[np.float64] = low[:, None] + (high - low)[:, None] * _CORNERS
    return corners


def _beams(edges: NDArray[np.float64], image: Image) -> NDArray[np.float64]:
    """Return edges ``(n, 2, 3)`` as two strips across each other ``(n, 8, 3)``, seen from anywhere.

    The strips are as wide in mm along every axis.
    """
    along = np.abs(edges[:, 1] - edges[:, 0]).argmax(axis=1)
    half = _LINE_MM / 2 / np.array(image.scale[-3:])
    strips = []
    for turn in (1, 2):
        across = (along + turn) % 3
        out = np.zeros((len(edges), 1, 3))
        out[np.arange(len(edges)), 0, across] = half[across]
        strips += [edges - out, edges + out]
    return np.concatenate(strips, axis=1)


def _colours() -> Colormap:
    """Return inferno without its dark end: a token of no importance is seen too."""
    colours = ensure_colormap("inferno").map(np.linspace(_DARKEST, 1, 256))
    return Colormap(colours, name="inferno from purple", display_name="inferno from purple")


def _nothing() -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    return np.zeros((3, 3)), np.array([[0, 1, 2]]), np.zeros(3)


def _place(image: Image, kind: str) -> dict[str, Any]:
    placement = placement_kwargs(image)
    metadata = {**placement["metadata"], RESULT_KEY: kind}
    return {**placement, "name": f"{image.name} {kind}", "metadata": metadata}
