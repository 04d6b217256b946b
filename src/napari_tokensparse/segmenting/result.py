"""What a run gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_tokensparse.common.untrusted import PlainError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from napari_tokensparse.segmenting.tokenmaps import TokenMaps
    from napari_tokensparse.volumes.region import Box
    from napari_tokensparse.volumes.windows import Shape


class SegmentError(PlainError):
    """A volume that a model cannot segment; one plain line says why."""


@dataclass(frozen=True)
class Stats:
    """Figures of one run.

    Attributes
    ----------
    windows, skipped
        Windows run, and windows of pure background that were not; of a region, those over it.
    keep_ratios
        Per stage; of no meaning where tokens were kept by their importance.
    tokens_per_stage
        Tokens of one window alive at the start and after each stage; of the one that holds most,
        where windows differ.
    tokens
        Tokens of the volume: processed, pruned at each stage, kept.
    seconds
        Per part: ``preprocess``, ``network``, ``stitch``, ``strip`` and ``sharpen`` if they were
        done, and ``total``.
    backend
        How the network was run.
    notes
        What of that could not be done as asked, one line each.
    sharpened
        Whether the labels were sharpened at the input's own resolution.
    left_out
        How many pieces of classes were left out because the network is nowhere as sure of them as
        was asked.
    importance
        The least importance of what was kept; None where shares were.
    looked_at
        Of each window that was run, the tokens along each axis of what the network looked at.
    """

    windows: int
    skipped: int
    keep_ratios: tuple[float, ...]
    tokens_per_stage: tuple[int, ...]
    tokens: dict[str, int]
    seconds: dict[str, float]
    backend: str = "plain"
    notes: tuple[str, ...] = ()
    sharpened: bool = False
    left_out: int = 0
    importance: float | None = None
    looked_at: tuple[Shape, ...] = ()

    @property
    def kept_shares(self) -> tuple[float, ...]:
        """Of the tokens that reach it, the share that each stage keeps: the keep ratios.

        Of tokens that are kept by their importance it is counted; 1 where none reached a stage.
        """
        if self.importance is None:
            return self.keep_ratios
        live, shares = self.tokens["processed"], []
        for stage in range(1, len(self.keep_ratios) + 1):
            after = live - self.tokens[f"pruned at {stage}"]
            shares.append(after / live if live else 1.0)
            live = after
        return tuple(shares)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Result of segmenting one volume.

    Attributes
    ----------
    labels
        ``(i, j, k)`` unsigned, on the input's own grid; the model's label values, 0 background.
    tokens
        Importance per stage and pruned-at.
    stats
        Windows, tokens, seconds.
    regions
        ``(K, i, j, k)`` mask of every region where they may overlap, in the order of the model's
        classes; None where classes exclude one another.
    region
        The box that was segmented, or None for the whole volume. Outside it labels are 0 and tokens
        not processed.
    confidence
        ``(i, j, k)``, 0 to 255: the probability of the class that the network takes, before labels
        are sharpened; of overlapping regions, of the decision that is least sure. None unless it
        was asked for.
    probabilities
        ``(i, j, k)``, 0 to 255, of each class that was asked for, by its name.
    """

    labels: NDArray[np.unsignedinteger]
    tokens: TokenMaps
    stats: Stats
    regions: NDArray[np.bool_] | None = None
    region: Box | None = None
    confidence: NDArray[np.uint8] | None = None
    probabilities: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` windows are segmented; ``seconds_left`` is an estimate or None."""

    done: int
    total: int
    seconds_left: float | None
