"""What was chosen of a run's pruning, read off the widget once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_tokensparse.model.ratios import Rule
    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.segmenting.preview import PreviewSession
    from napari_tokensparse.segmenting.tokenmaps import TokenPlaces
    from napari_tokensparse.volumes.volume import Volume


@dataclass(frozen=True, eq=False)
class Pruning:
    """What decides about tokens beside the keep ratio.

    Attributes
    ----------
    importance
        The least importance of what a stage keeps; None where that is a share.
    keep, drop
        Masks ``(i, j, k)`` on the file's grid of tokens that are pinned; None where none are.
    """

    importance: float | None = None
    keep: NDArray[np.bool_] | None = None
    drop: NDArray[np.bool_] | None = None

    def options(self, volume: Volume, network: SCD) -> dict[str, Any]:
        """Return it in the words of `options_for`; where there are pins, that takes a moment.

        Raises
        ------
        SegmentError, VolumeError
            In one line: a mask has another shape than the volume.
        """
        from napari_tokensparse.segmenting.pinmasks import places_of
        from napari_tokensparse.segmenting.pins import written

        said: dict[str, Any] = {"importance": self.importance}
        if self.keep is not None or self.drop is not None:
            names = {True: "pin", False: "drop"}
            for kept, tokens in self._tokens(places_of(volume, network)):
                said[names[kept]] = written(tokens)
        return said

    def of_session(self, session: PreviewSession) -> tuple[Rule | None, NDArray[np.int8] | None]:
        """Return the rule, None for keep ratios, and pins of a previewed volume's tokens."""
        from napari_tokensparse.model.ratios import DROP, KEEP, Importance

        rule = None if self.importance is None else Importance(self.importance)
        if self.keep is None and self.drop is None:
            return rule, None
        pins = np.zeros(session.places.grid, np.int8)
        for kept, tokens in self._tokens(session.places):
            pins[tokens] = KEEP if kept else DROP
        return rule, pins

    def _tokens(self, places: TokenPlaces) -> Iterator[tuple[bool, NDArray[np.bool_]]]:
        """Yield the tokens ``(gh, gw, gd)`` that are dropped, then those that are kept."""
        from napari_tokensparse.segmenting.pins import tokens_under

        for kept, mask in ((False, self.drop), (True, self.keep)):
            if mask is not None:
                yield kept, tokens_under(mask, places)


BY_SHARE = Pruning()
"""Keep ratios alone decide."""
