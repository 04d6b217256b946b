"""After a run: what it took puts right what is told of the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_tokensparse.segmenting.estimating.estimate import free_seconds
from napari_tokensparse.segmenting.estimating.outline import outline
from napari_tokensparse.segmenting.estimating.rates import learn
from napari_tokensparse.segmenting.infer import check_fit
from napari_tokensparse.segmenting.stripping import known_brain

if TYPE_CHECKING:
    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.segmenting.estimating.rates import Rates
    from napari_tokensparse.segmenting.options import Options
    from napari_tokensparse.segmenting.result import Segmentation
    from napari_tokensparse.volumes.volume import Volume

_FEW = 1e-3  # of the tokens, where a run kept none by their importance


def learn_from(
    volume: Volume, model: SCD, options: Options, result: Segmentation, slowdown: float
) -> None:
    """Learn from a run how long the next one of its network will take.

    Parameters
    ----------
    volume, model, options
        What was segmented, and how.
    result
        What that gave.
    slowdown
        How many times as long as on a free machine work took meanwhile.
    """
    info, seconds = check_fit(volume, model), result.stats.seconds
    brain = (known_brain(volume, model) if options.strip else None) or volume
    if options.importance is not None:
        shares = tuple(max(share, _FEW) for share in result.stats.kept_shares)
        options = options.model_copy(update={"importance": None, "keep_ratio": shares})
    seen = outline(brain, model.config, info, options.box(brain))
    took = seconds["total"] - seconds.get("strip", 0.0)

    def told(rates: Rates) -> float:
        return free_seconds(brain, model, options, seen, rates)

    learn(model, options, told, took, slowdown)
