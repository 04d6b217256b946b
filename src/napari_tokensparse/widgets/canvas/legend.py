"""A legend on the canvas: texts over one another, each in the colour of what it names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.components.overlays import TextOverlay

if TYPE_CHECKING:
    from collections.abc import Sequence

    import napari

_CORNER = "bottom_right"  # where napari stacks texts upwards, the first at the bottom
_FONT = 10


def show_legend(viewer: napari.Viewer, entries: Sequence[tuple[str, str | None]]) -> None:
    """Show these texts over one another in a corner instead of those before.

    Each has a colour as ``#rrggbb``; None is that of the theme's text.
    """
    overlays = viewer.canvas.overlays
    for number, (text, colour) in enumerate(reversed(entries)):
        line: Any = overlays.get(_key(number))
        if line is None:
            line = TextOverlay(position=_CORNER, font_size=_FONT)
            overlays[_key(number)] = line
        line.text, line.color, line.visible = text, colour, True
    number = len(entries)
    while _key(number) in overlays:
        overlays[_key(number)].visible = False
        number += 1


def legend_of(viewer: napari.Viewer) -> list[str]:
    """Return the texts that the canvas shows."""
    texts: list[str] = []
    while (line := viewer.canvas.overlays.get(_key(len(texts)))) is not None and line.visible:
        texts.append(str(line.text))
    return texts[::-1]


def _key(number: int) -> str:
    return f"token_legend_{number}"
