"""What became of tokens, as a map shows it: values, what they mean, and their colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_tokensparse.model.ratios import DROP, KEEP
from napari_tokensparse.segmenting.tokenmaps import NOT_PROCESSED, stage_colour

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_tokensparse.model.info import Colour
    from napari_tokensparse.segmenting.tokenmaps import TokenMaps

LIVE_COLOUR: Colour = (190, 190, 190)
"""Of the tokens that are live after a stage: calm beside the stages' own colours."""
PIN_COLOURS: dict[int, Colour] = {KEEP: (255, 255, 255), DROP: (255, 0, 110)}
"""Of tokens that a person has pinned: kept, and dropped."""


@dataclass(frozen=True)
class Fate:
    """What one value of a map means.

    Attributes
    ----------
    value
        That the map holds.
    name
        What became of its tokens.
    tokens
        How many there are.
    colour
        None is clear.
    """

    value: int
    name: str
    tokens: int
    colour: Colour | None


def fate_map(tokens: TokenMaps) -> NDArray[np.uint8]:
    """Return "pruned at" ``(gh, gw, gd)`` with pinned tokens apart.

    Of S stages, S + 2 are tokens that a pin kept, S + 3 those that a pin dropped; the other values
    are those of ``TokenMaps.pruned_at``.
    """
    if tokens.pins is None:
        return tokens.pruned_at
    fates = tokens.pruned_at.copy()
    processed = fates != NOT_PROCESSED
    fates[processed & (tokens.pins == KEEP)] = tokens.stages + 2
    fates[processed & (tokens.pins == DROP)] = tokens.stages + 3
    return fates


def pruned_at_fates(tokens: TokenMaps) -> list[Fate]:
    """Say what the values of `fate_map` mean, whatever the stage."""
    stages = range(1, tokens.stages + 1)
    names = ["not processed", *(f"pruned at stage {n}" for n in stages), "kept to the end"]
    colours = [None, *map(stage_colour, stages), None]
    return _counted(tokens, [*names, *_PINNED], [*colours, *PIN_COLOURS.values()])


def stage_fates(tokens: TokenMaps, stage: int) -> list[Fate]:
    """Say what they mean at a stage, counted from 1: live, pruned there, and gone before."""
    after = tokens.stages + 1 - stage
    names = [
        "not processed",
        *(f"gone: pruned at stage {earlier}" for earlier in range(1, stage)),
        f"pruned at stage {stage}",
        *[f"live after stage {stage}"] * after,
    ]
    colours = [*[None] * stage, stage_colour(stage), *[LIVE_COLOUR] * after]
    dropped = PIN_COLOURS[DROP] if stage == 1 else None  # they are gone after it
    return _counted(tokens, [*names, *_PINNED], [*colours, PIN_COLOURS[KEEP], dropped])


_PINNED = ("pinned: kept to the end", "pinned: dropped at stage 1")


def _counted(tokens: TokenMaps, names: list[str], colours: list[Colour | None]) -> list[Fate]:
    """Count the tokens of each value; those of pins are left out where there are none."""
    counts = np.bincount(fate_map(tokens).ravel(), minlength=len(names)).tolist()
    fates = [Fate(n, *each) for n, each in enumerate(zip(names, counts, colours, strict=True))]
    return fates if tokens.pins is not None else fates[: tokens.stages + 2]
