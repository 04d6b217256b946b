"""One picture of a result: image, labels, importance per stage, pruned-at, in three planes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from napari_tokensparse.common.files import written_whole
from napari_tokensparse.segmenting.tokenmaps import stage_colour
from napari_tokensparse.volumes.placement import placement_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokensparse.model.info import Colour, ModelInfo
    from napari_tokensparse.segmenting.infer import Segmentation
    from napari_tokensparse.volumes.volume import Volume

_HEADER = 20
_GAP = 4
_OPACITY = 0.55


def save_montage(path: Path, volume: Volume, result: Segmentation, info: ModelInfo) -> None:
    """Write the picture as PNG: a row per plane, radiological, through the volume's middle."""
    columns = _columns(volume, result, info)
    view = placement_of(volume.affine, volume.shape)
    shown = {title: view.view(np.moveaxis(rgb, -1, 0)) for title, rgb in columns.items()}
    rows = [[_plane(rgb, axis, view.scale) for rgb in shown.values()] for axis in range(3)]
    with written_whole(path) as part:
        _assemble(list(shown), rows).save(part)


def _columns(volume: Volume, result: Segmentation, info: ModelInfo) -> dict[str, NDArray[np.uint8]]:
    """Return the pictures ``(i, j, k, 3)`` by title."""
    tokens = result.tokens
    grey = _grey(volume.array[0])
    columns = {
        "image": grey,
        "labels": _painted(grey, result.labels, {c.value: c.color for c in info.classes}),
    }
    for stage, values in enumerate(tokens.importance, start=1):
        columns[f"importance {stage}"] = _heat(tokens.on_input_grid(values))
    colours = {stage: stage_colour(stage) for stage in range(1, tokens.stages + 1)}
    columns["pruned at"] = _painted(grey, tokens.on_input_grid(tokens.pruned_at), colours)
    return columns


def _grey(array: NDArray[np.number]) -> NDArray[np.uint8]:
    low, high = np.percentile(array, (0.5, 99.5))
    scaled = (array.astype(np.float32) - low) / max(float(high - low), 1e-6)
    grey = (scaled.clip(0, 1) * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def _painted(
    grey: NDArray[np.uint8], labels: NDArray[np.integer], colours: Mapping[int, Colour]
) -> NDArray[np.uint8]:
    table = np.zeros((int(labels.max()) + 1, 3), np.float32)
    covered = np.zeros(len(table), bool)
    for value, colour in colours.items():
        if value < len(table):
            table[value], covered[value] = colour, True
    mixed = (1 - _OPACITY) * grey + _OPACITY * table[labels]
    return np.where(covered[labels][..., None], mixed, grey).astype(np.uint8)


def _heat(importance: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Paint importance 0..1 as black, red, yellow, white; black where there is none."""
    level = (np.nan_to_num(importance) * 255).astype(np.uint8)
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    table: NDArray[np.uint8] = np.asarray(
        ImageOps.colorize(ramp, "black", "white", mid="orangered")
    )[0]
    heat: NDArray[np.uint8] = table[level]
    return heat


def _plane(rgb: NDArray[np.uint8], axis: int, scale: tuple[float, float, float]) -> Image.Image:
    """Cut the middle plane out of a ``(3, z, y, x)`` picture, 1 pixel to the mm, head up."""
    plane = np.moveaxis(rgb.take(rgb.shape[axis + 1] // 2, axis=axis + 1), 0, -1)
    height, width = (n * s for n, s in zip(plane.shape[:2], np.delete(scale, axis), strict=True))
    if axis != 0:
        plane = plane[::-1]  # z grows towards the head: show it at the top
    size = (max(1, round(width)), max(1, round(height)))
    return Image.fromarray(np.ascontiguousarray(plane)).resize(size)


def _assemble(titles: list[str], rows: list[list[Image.Image]]) -> Image.Image:
    widths = [max(row[n].width for row in rows) + _GAP for n in range(len(titles))]
    heights = [max(tile.height for tile in row) + _GAP for row in rows]
    sheet = Image.new("RGB", (sum(widths), _HEADER + sum(heights)))
    draw = ImageDraw.Draw(sheet)
    x = 0
    for n, title in enumerate(titles):
        draw.text((x + _GAP, _GAP), title, fill="white")
        y = _HEADER
        for row, height in zip(rows, heights, strict=True):
            sheet.paste(row[n], (x, y))
            y += height
        x += widths[n]
    return sheet
